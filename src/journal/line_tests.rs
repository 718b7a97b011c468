//! The order in which writes are saved.

use super::*;
use crate::keyspace::{KeyTemplate, Router};

const NOW_AND_LATER: Duration = Duration::from_secs(3600);

/// A write of `key` that is the `number`-th in the journal.
fn write(key: &str, number: u64) -> Write {
    let template = KeyTemplate::parse("k:{id:int}").unwrap();
    let router = Router::new(&[("k".to_owned(), template)], &[]);
    let name = Bytes::copy_from_slice(key.as_bytes());
    let key = router.route(&name).unwrap().with_key(name.clone());
    let entry = Entry {
        place: Place { ms: 1, number },
        id: Bytes::new(),
        cache: Bytes::new(),
        key: name,
        op: Bytes::new(),
        value: Bytes::from_static(b"12345"),
    };
    Write {
        entry,
        id: Uuid::new_v4(),
        key,
        value: None,
    }
}

fn numbers<'a>(writes: impl IntoIterator<Item = &'a Write>) -> Vec<u64> {
    let writes = writes.into_iter();
    writes.map(|write| write.entry.place.number).collect()
}

fn refusal(remedy: Remedy) -> Refusal {
    Refusal {
        at: None,
        message: String::new(),
        sqlstate: None,
        remedy,
    }
}

#[test]
fn of_a_key_the_newest_is_saved_instead_of_all() {
    let writes = vec![write("k:1", 1), write("k:2", 2), write("k:1", 3)];
    let (first, last) = (writes[0].id, writes[2].id);
    let groups = groups(writes);
    let seen: Vec<_> = groups.iter().map(|group| numbers(&group.0)).collect();
    assert_eq!(seen, [vec![1, 3], vec![2]]);
    let newest = groups[0].newest().unwrap();
    assert_eq!((newest.id, newest.instead_of), (last, vec![first]));
}

#[test]
fn a_key_that_is_aside_goes_oldest_first_and_nothing_of_it_overtakes() {
    let mut line = Line::default();
    line.read_up_to(Place { ms: 1, number: 2 });
    let now = Instant::now();
    line.put_aside(Group(vec![write("k:1", 1), write("k:1", 2)]), now);
    let ready = line.sort(vec![write("k:2", 3), write("k:1", 4)]);
    assert_eq!(numbers(&ready), [3]);
    line.forget_place();
    assert!(line.after().is_some(), "what is aside would be read again");
    assert!(
        line.due(now).is_none(),
        "there is a pause before it is tried again"
    );
    let later = now + NOW_AND_LATER;
    for expected in [1, 2, 4] {
        assert_eq!(numbers(&line.due(later)), [expected]);
        line.settled(b"k:1", now);
    }
    assert!(line.due(later).is_none() && line.aside() == 0);
    assert_eq!(
        line.after(),
        None,
        "a Redis that lost something may give a place again"
    );
    assert_eq!((line.writes, line.bytes), (0, 0));
}

#[test]
fn what_nothing_can_help_is_given_up_and_what_waits_for_a_lock_never() {
    let (now, young, old) = (Instant::now(), Duration::ZERO, MEND_WITHIN);
    for (remedy, age, is_dead) in [
        (Remedy::None, young, true),
        (Remedy::Mend, young, false),
        (Remedy::Mend, old, true),
        (Remedy::Wait, old, false),
    ] {
        let mut line = Line::default();
        line.put_aside(Group(vec![write("k:1", 1)]), now);
        let mut fates = (0..100).map(|_| line.refused(b"k:1", &refusal(remedy), age, now));
        let dead = fates.find(|fate| *fate != Fate::Later);
        assert_eq!(dead.is_some(), is_dead, "{remedy:?}");
        if remedy == Remedy::None {
            assert_eq!(dead, Some(Fate::Dead(MAX_ATTEMPTS)));
        }
        assert!(line.due(now).is_none() && line.due(now + LONGEST_PAUSE).is_some());
    }
}

#[test]
fn with_much_aside_nothing_more_is_read() {
    let mut line = Line::default();
    let now = Instant::now();
    let many = (0..).map(|n| write("k:1", n)).take(MAX_ASIDE - 1);
    line.put_aside(Group(many.collect()), now);
    assert!(line.has_room());
    line.sort(vec![write("k:1", 0)]);
    assert!(!line.has_room());
    line.settled(b"k:1", now);
    assert!(line.has_room());
}

#[test]
fn what_leads_nowhere_is_passed_by_once() {
    let mut line = Line::default();
    line.leave();
    line.read_up_to(Place { ms: 1, number: 1 });
    line.forget_place();
    assert!(line.after().is_some() && line.left() == 1);
}
