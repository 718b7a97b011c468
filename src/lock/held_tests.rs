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
        asker: fastrand::u64(1..),
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
    assert_eq!(held.lose(&one, Some(7)), []);
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
fn an_end_lets_go_of_what_the_session_was_told_and_of_nothing_that_others_were() {
    let (lost, _told) = mpsc::channel(4);
    let (mut held, now) = (Held::default(), Instant::now());
    let (kept, shared) = (holder("a"), holder("b"));
    held.hold(kept.clone(), hold(now, Some(&lost)));
    let bound = hold(now, Some(&lost));
    let asker = Some(bound.asker);
    held.hold(shared.clone(), bound);
    assert_eq!(held.hold(shared.clone(), hold(now, None)), None);
    assert_eq!(held.of_sessions(), 2);
    let mut ended = held.end(ID);
    ended.sort_by(|one, other| one.name.cmp(&other.name));
    let names: Vec<_> = ended.iter().map(|one| one.name.clone()).collect();
    assert_eq!(names, [kept.0, shared.0.clone()]);
    assert_eq!(ended[1].asker, asker);
    assert_eq!((held.len(), held.of_sessions()), (1, 0));
    assert_eq!(held.standing(ID, &shared.0), None);
    // Nobody renews the other any more: it ends by itself, when it was told.
    assert_eq!(held.due(now + TTL / 3), Due::default());
    assert_eq!((held.len(), held.next_due()), (1, Some(now + TTL)));
    assert_eq!(held.due(now + TTL), Due::default());
    assert_eq!((held.len(), held.next_due()), (0, None));
}

#[test]
fn a_late_no_to_a_renewal_takes_nothing_from_who_has_acquired_it_anew() {
    let (lost, mut told) = mpsc::channel(4);
    let (mut held, now, one) = (Held::default(), Instant::now(), holder("a"));
    held.hold(one.clone(), hold(now, Some(&lost)));
    let anew = Hold {
        fence: 8,
        ..hold(now, Some(&lost))
    };
    assert_eq!(
        held.hold(one.clone(), anew),
        None,
        "what was told before is over"
    );
    assert_eq!((held.len(), held.of_sessions()), (1, 1));
    assert_eq!(held.lose(&one, Some(7)), []);
    assert!(told.try_recv().is_err());
    assert_eq!(held.standing(ID, &one.0), Some(Standing::Held));
    assert_eq!(held.lose(&one, Some(8)).len(), 1);
    assert_eq!(told.try_recv().map(|lost| lost.fence), Ok(8));
}

#[test]
fn an_attempt_takes_with_it_what_nobody_was_told_but_itself() {
    let (lost, _told) = mpsc::channel(4);
    let (mut held, now, one) = (Held::default(), Instant::now(), holder("a"));
    let answered = [None, Some(&lost)].map(|session| hold(now, session));
    let (first, second) = (answered[0].clone(), answered[1].clone());
    for hold in answered {
        assert_eq!(held.hold(one.clone(), hold), None);
    }
    let letting = held.forget_attempt(&second.attempt).expect("a claim");
    assert_eq!((letting.token, letting.asker), (one.1, Some(second.asker)));
    assert_eq!((held.len(), held.of_sessions()), (1, 0));
    // The same one, told again: what it was told before stands, and neither attempt undoes that.
    let again = hold(now, None);
    let let_go = held.hold(one.clone(), again.clone());
    assert_eq!(let_go.map(|one| one.asker), Some(Some(again.asker)));
    for attempt in [first.attempt, again.attempt] {
        assert_eq!(held.forget_attempt(&attempt), None);
    }
    assert_eq!(held.len(), 1);
    held.forget(&one);
    assert_eq!((held.len(), held.attempts.len()), (0, 0));
}

#[test]
fn a_repeat_makes_no_life_shorter() {
    let (lost, _told) = mpsc::channel(4);
    let (mut held, now, one) = (Held::default(), Instant::now(), holder("a"));
    held.hold(one.clone(), hold(now, None));
    let brief = Hold {
        ttl: TTL / 9,
        ends: now + TTL / 9,
        ..hold(now, Some(&lost))
    };
    held.hold(one, brief);
    let due = held.due(now + TTL / 3);
    assert_eq!((due.renew[0].ttl, due.renew.len()), (TTL, 1));
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
