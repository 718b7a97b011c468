use super::*;
use tokio::sync::mpsc;

const TTL: Duration = Duration::from_secs(9);
const ID: SessionId = SessionId(1);

fn holder(name: &'static str) -> Holder {
    (Bytes::from_static(name.as_bytes()), Uuid::new_v4())
}

fn hold(now: Instant, session: Option<&mpsc::Sender<Lost>>) -> Hold {
    Hold {
        fence: 7,
        ttl: TTL,
        ends: now + TTL,
        asker: 1,
        attempt: Uuid::new_v4(),
        session: session.map(|lost| Session {
            id: ID,
            lost: lost.clone(),
        }),
    }
}

fn renewed(due: &Due) -> Vec<Holder> {
    due.renew.iter().map(|one| one.holder.clone()).collect()
}

#[test]
fn what_a_session_holds_is_renewed_each_third_of_its_ttl_and_is_lost_if_nothing_answers() {
    let (lost, mut told) = mpsc::channel(4);
    let (mut held, now, one) = (Held::default(), Instant::now(), holder("a"));
    held.hold(one.clone(), hold(now, Some(&lost)));
    assert_eq!(held.next_due(), Some(now + TTL / 3));
    assert_eq!(
        renewed(&held.due(now + TTL / 3)),
        std::slice::from_ref(&one)
    );
    assert_eq!(
        held.due(now + TTL / 2),
        Due::default(),
        "its answer is awaited"
    );
    held.extended(&one, TTL, now + TTL / 3 + TTL);
    assert_eq!(held.due(now + TTL / 2), Due::default());
    assert_eq!(
        renewed(&held.due(now + 2 * TTL / 3)),
        std::slice::from_ref(&one)
    );
    held.not_renewed(&one, now + 2 * TTL / 3);
    assert_eq!(
        renewed(&held.due(now + TTL)),
        std::slice::from_ref(&one),
        "it is tried again"
    );
    let end = now + TTL / 3 + TTL;
    let due = held.due(end);
    assert_eq!((due.renew.len(), due.lost.len()), (0, 1));
    assert_eq!(told.try_recv().map(|lost| lost.token), Ok(one.1));
    assert_eq!(held.standing(ID, &one.0), Some(Standing::Lost));
    held.lose(&one, Some(1));
    assert!(told.try_recv().is_err(), "told once");
    assert_eq!((held.len(), held.next_due()), (0, None));
}

#[test]
fn what_nobody_renews_is_not_counted_once_it_has_expired() {
    let (mut held, now) = (Held::default(), Instant::now());
    held.hold(holder("a"), hold(now, None));
    assert_eq!((held.len(), held.next_due()), (1, Some(now + TTL)));
    assert_eq!(held.due(now + TTL), Due::default());
    assert_eq!(held.len(), 0);
}

#[test]
fn an_end_lets_go_of_what_the_session_holds_and_of_nothing_that_was_bound_anew() {
    let (lost, _told) = mpsc::channel(4);
    let (mut held, now) = (Held::default(), Instant::now());
    let (kept, moved) = (holder("a"), holder("b"));
    held.hold(kept.clone(), hold(now, Some(&lost)));
    held.hold(moved.clone(), hold(now, Some(&lost)));
    held.hold(moved.clone(), hold(now, None));
    assert_eq!(held.of_sessions(), 1);
    let ended: Vec<_> = held.end(ID).into_iter().map(|one| one.name).collect();
    assert_eq!(ended, std::slice::from_ref(&kept.0));
    assert_eq!((held.len(), held.of_sessions()), (1, 0));
    assert_eq!(held.standing(ID, &kept.0), None);
}

#[test]
fn a_late_no_to_a_renewal_takes_nothing_from_who_has_acquired_it_anew() {
    let (lost, mut told) = mpsc::channel(4);
    let (mut held, now, one) = (Held::default(), Instant::now(), holder("a"));
    held.hold(one.clone(), hold(now, Some(&lost)));
    let anew = Hold {
        asker: 2,
        ..hold(now, Some(&lost))
    };
    held.hold(one.clone(), anew);
    held.lose(&one, Some(1));
    assert!(told.try_recv().is_err());
    assert_eq!(held.standing(ID, &one.0), Some(Standing::Held));
    held.lose(&one, Some(2));
    assert!(told.try_recv().is_ok());
}

#[test]
fn only_the_last_attempt_takes_what_it_acquired_with_it() {
    let (mut held, now, one) = (Held::default(), Instant::now(), holder("a"));
    let (first, second) = (hold(now, None), hold(now, None));
    let attempts = (first.attempt, second.attempt);
    held.hold(one.clone(), first);
    held.hold(one.clone(), second);
    assert_eq!(held.forget_attempt(&attempts.0), None);
    let letting = held.forget_attempt(&attempts.1).expect("a lock");
    assert_eq!((letting.token, letting.asker), (one.1, Some(1)));
    assert_eq!(held.len(), 0);
}

#[test]
fn a_renewal_that_went_with_its_actor_is_asked_for_anew() {
    let (lost, _told) = mpsc::channel(4);
    let (mut held, now, one) = (Held::default(), Instant::now(), holder("a"));
    held.hold(one.clone(), hold(now, Some(&lost)));
    let third = now + TTL / 3;
    assert_eq!(renewed(&held.due(third)), std::slice::from_ref(&one));
    assert_eq!(held.next_due(), Some(now + TTL));
    held.begin_anew(third);
    let again = held.next_due().expect("a renewal");
    assert!(again < now + TTL / 2);
    assert_eq!(renewed(&held.due(again)), std::slice::from_ref(&one));
}

#[test]
fn a_session_that_ended_without_a_word_holds_nothing_after_the_next_look() {
    let (lost, told) = mpsc::channel(4);
    let (mut held, now) = (Held::default(), Instant::now());
    let (one, other) = (holder("a"), holder("b"));
    held.hold(one.clone(), hold(now, Some(&lost)));
    let longer = Hold {
        ttl: 2 * TTL,
        ends: now + 2 * TTL,
        ..hold(now, Some(&lost))
    };
    held.hold(other.clone(), longer);
    drop(told);
    let due = held.due(now + TTL / 3);
    assert_eq!(due.renew, []);
    let mut names: Vec<_> = due.lost.into_iter().map(|one| one.name).collect();
    names.sort();
    assert_eq!(names, [one.0, other.0]);
    assert_eq!((held.len(), held.of_sessions()), (0, 0));
    assert_eq!((held.sessions.len(), held.next_due()), (0, None));
}

#[test]
fn what_nobody_renews_is_known_until_it_ends_also_after_a_restart() {
    let (mut held, now) = (Held::default(), Instant::now());
    held.hold(holder("a"), hold(now, None));
    held.begin_anew(now);
    assert_eq!((held.len(), held.next_due()), (1, Some(now + TTL)));
}
