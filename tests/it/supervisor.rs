//! The supervisor keeps actors running, or says that it cannot: actors whose failures are scripted.
//!
//! Nothing here waits for a time to pass. Where an answer has to come *at once*, waiting for it would take [`DEADLINE`] and
//! end in another answer.

mod script;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_rt::Arbiter;
use cachewarden::supervisor::{
    ActorHealth, ActorState, AskError, Handle, RestartPolicy, Supervisor,
};
use script::{Do, Forget, LIMIT, Manners, PATIENT, Script, Seen, script};
use tokio::sync::{oneshot, watch};

use crate::support::DEADLINE;
use crate::support::eventually::eventually;

/// For tests of actors that take no mail: soon enough to be waited for.
const STUCK_SOON: Duration = Duration::from_millis(300);

/// Never comes back in the time of a test.
const SLOW: RestartPolicy = RestartPolicy {
    first_pause: Duration::from_secs(3600),
    longest_pause: Duration::from_secs(3600),
    ..PATIENT
};

fn unavailable<T>() -> Result<T, AskError> {
    Err(AskError::Unavailable { actor: "scripted" })
}

/// Starts one actor and waits until it answers.
async fn start(script: &Script) -> Supervisor {
    let mut supervisor = Supervisor::new();
    supervisor.start(script.spec());
    assert_eq!(script.reached().await, 1);
    supervisor
}

/// Waits until the first actor's line in the table is as wanted.
async fn health(supervisor: &Supervisor, wanted: impl Fn(&ActorHealth) -> bool) -> ActorHealth {
    let table = supervisor.health();
    eventually(DEADLINE, async || {
        let line = table.snapshot().swap_remove(0);
        if wanted(&line) { Ok(line) } else { Err(line) }
    })
    .await
}

async fn reason(mut gave_up: watch::Receiver<Option<String>>) -> String {
    let reason = tokio::time::timeout(DEADLINE, gave_up.wait_for(Option::is_some)).await;
    let reason = reason.expect("gives up").expect("the supervisor lives");
    reason.clone().unwrap_or_default()
}

#[actix_rt::test]
async fn an_actor_that_panics_is_replaced_behind_the_same_handle() {
    let script = script("one");
    let mut supervisor = start(&script).await;
    assert_eq!(script.handle.ask(Do::Panic).await, unavailable());
    assert_eq!(script.reached().await, 2);
    let line = health(&supervisor, |line| line.state == ActorState::Up).await;
    assert_eq!((line.name.as_str(), line.restarts), ("one", 1));
    assert_eq!(line.last_exit.as_deref(), Some("panicked: as scripted"));
    assert!(supervisor.health().all_up());
    assert!(supervisor.stop(DEADLINE).await.is_empty());
    script.assert_all_gone().await;
}

#[actix_rt::test]
async fn an_actor_that_stops_by_itself_is_replaced() {
    let script = script("one");
    let mut supervisor = start(&script).await;
    let _stopped = script.handle.ask(Do::Stop).await;
    health(&supervisor, |line| line.restarts == 1).await;
    assert_eq!(script.reached().await, 2);
    let line = health(&supervisor, |line| line.state == ActorState::Up).await;
    assert_eq!(line.last_exit.as_deref(), Some("stopped by itself"));
    assert!(supervisor.stop(DEADLINE).await.is_empty());
}

#[actix_rt::test]
async fn an_actor_that_takes_no_mail_is_dropped_with_its_mail_and_replaced() {
    let mut script = script("one");
    script.policy.stuck_after = STUCK_SOON;
    let mut supervisor = start(&script).await;
    let (stuck, queued) = tokio::join!(
        script.handle.ask(Do::GetStuck),
        script.handle.ask(Do::Answer)
    );
    assert_eq!(stuck, Ok(1));
    assert_eq!(queued, unavailable());
    assert!(script.reached().await > 1);
    let line = health(&supervisor, |line| line.state == ActorState::Up).await;
    assert_eq!(line.last_exit.as_deref(), Some("no longer took its mail"));
    assert!(supervisor.stop(DEADLINE).await.is_empty());
    script.assert_all_gone().await;
}

#[actix_rt::test]
async fn an_actor_that_could_not_be_made_is_made_once_that_is_possible() {
    let mut script = script("one");
    script.not_made = 2..=3;
    let mut supervisor = start(&script).await;
    assert_eq!(script.handle.ask(Do::Panic).await, unavailable());
    assert_eq!(script.reached().await, 4);
    let line = health(&supervisor, |line| line.state == ActorState::Up).await;
    assert_eq!(line.restarts, 3);
    let exit = line.last_exit.unwrap_or_default();
    assert!(exit.contains("its factory panicked"), "{exit}");
    assert!(supervisor.stop(DEADLINE).await.is_empty());
}

#[actix_rt::test]
async fn a_factory_that_always_panics_gives_up() {
    let mut script = script("one");
    script.not_made = 1..=usize::MAX;
    let mut supervisor = Supervisor::new();
    supervisor.start(script.spec());
    let reason = reason(supervisor.gave_up()).await;
    assert!(reason.contains("`one` could not be made"), "{reason}");
    let made = script.seen.made.load(Ordering::SeqCst);
    assert_eq!(made, PATIENT.max_restarts + 1);
    assert!(supervisor.stop(DEADLINE).await.is_empty());
}

#[actix_rt::test]
async fn an_actor_that_fails_too_often_gives_up_and_says_why() {
    let script = script("one");
    let mut supervisor = start(&script).await;
    let gave_up = supervisor.gave_up();
    for life in 1..=PATIENT.max_restarts + 1 {
        assert_eq!(*gave_up.borrow(), None, "before failure {life}");
        assert_eq!(script.reached().await, life);
        assert_eq!(script.handle.ask(Do::Panic).await, unavailable());
    }
    let reason = reason(gave_up).await;
    assert_eq!(
        reason,
        "actor `one` panicked: as scripted, too often to go on"
    );
    let line = health(&supervisor, |line| line.state == ActorState::GaveUp).await;
    assert_eq!(line.restarts, PATIENT.max_restarts as u64);
    assert_eq!(script.handle.ask(Do::Answer).await, unavailable());
    assert!(supervisor.stop(DEADLINE).await.is_empty());
}

#[actix_rt::test]
async fn an_actor_that_blocks_its_thread_gives_up_and_never_comes_back() {
    let thread = Arbiter::try_new().expect("a thread");
    let mut script = script("one");
    script.arbiter = thread.handle();
    script.policy.stuck_after = STUCK_SOON;
    let mut supervisor = start(&script).await;
    let (release, released) = std::sync::mpsc::channel();
    let told = script.handle.tell(Do::BlockThread(released));
    assert_eq!(told, Ok(()));
    let reason = reason(supervisor.gave_up()).await;
    assert_eq!(
        reason,
        "actor `one` lost its thread, which is blocked or has ended"
    );
    assert_eq!(script.handle.ask(Do::Answer).await, unavailable());
    drop(release);
    script.assert_all_gone().await;
    assert_eq!(script.seen.made.load(Ordering::SeqCst), 1);
    assert!(supervisor.stop(DEADLINE).await.is_empty());
    thread.stop();
    assert!(thread.join().is_ok());
}

#[actix_rt::test]
async fn an_actor_whose_thread_has_ended_gives_up() {
    let thread = Arbiter::try_new().expect("a thread");
    let mut script = script("one");
    script.arbiter = thread.handle();
    thread.stop();
    assert!(thread.join().is_ok());
    let mut supervisor = Supervisor::new();
    supervisor.start(script.spec());
    let reason = reason(supervisor.gave_up()).await;
    assert!(reason.contains("lost its thread"), "{reason}");
    assert!(supervisor.stop(DEADLINE).await.is_empty());
}

#[actix_rt::test]
async fn callers_are_told_at_once_while_an_actor_backs_off() {
    let mut script = script("one");
    script.policy = SLOW;
    let mut supervisor = start(&script).await;
    assert_eq!(script.handle.ask(Do::Panic).await, unavailable());
    health(&supervisor, |line| line.state == ActorState::BackingOff).await;
    assert!(!supervisor.health().all_up());
    assert_eq!(script.handle.ask(Do::Answer).await, unavailable());
    assert_eq!(script.handle.tell(Do::Answer), unavailable());
    assert_eq!(script.handle.in_flight(), 0);
    assert!(supervisor.stop(DEADLINE).await.is_empty());
    health(&supervisor, |line| line.state == ActorState::Stopped).await;
}

#[actix_rt::test]
async fn mail_queued_behind_a_panic_is_answered_unavailable() {
    let mut script = script("one");
    script.policy = SLOW;
    let mut supervisor = start(&script).await;
    // All are in the mailbox before the actor, on this thread, takes the first.
    let answers = tokio::join!(
        script.handle.ask(Do::Panic),
        script.handle.ask(Do::Answer),
        script.handle.ask(Do::Answer),
    );
    assert_eq!(answers, (unavailable(), unavailable(), unavailable()));
    assert!(supervisor.stop(DEADLINE).await.is_empty());
}

#[actix_rt::test]
async fn a_flood_beyond_the_limit_is_refused_at_once_and_the_rest_is_served() {
    let script = script("one");
    let mut supervisor = start(&script).await;
    let (mut releases, mut held) = (Vec::new(), Vec::new());
    for _ in 0..LIMIT {
        let (release, released) = oneshot::channel();
        releases.push(release);
        let handle = script.handle.clone();
        held.push(actix_rt::spawn(async move {
            handle.ask(Do::Hold(released)).await
        }));
    }
    eventually(DEADLINE, async || match script.handle.in_flight() {
        LIMIT => Ok(()),
        fewer => Err(fewer),
    })
    .await;
    let overloaded = AskError::Overloaded {
        actor: "scripted",
        limit: LIMIT,
    };
    for _ in 0..1_000 {
        assert_eq!(script.handle.ask(Do::Answer).await, Err(overloaded));
        assert_eq!(script.handle.tell(Do::Answer), Err(overloaded));
    }
    drop(releases);
    for held in held {
        assert_eq!(held.await.expect("no panic"), Ok(1));
    }
    assert_eq!(script.handle.ask(Do::Answer).await, Ok(1));
    assert_eq!(script.handle.in_flight(), 0);
    assert!(supervisor.stop(DEADLINE).await.is_empty());
}

#[actix_rt::test]
async fn an_answer_that_does_not_come_is_given_up_and_makes_room() {
    let mut script = script("one");
    script.handle = Handle::unbound("scripted", 1, Duration::from_millis(10));
    let mut supervisor = start(&script).await;
    let (_release, released) = oneshot::channel();
    let late = script.handle.ask(Do::Hold(released)).await;
    let timed_out = AskError::TimedOut {
        actor: "scripted",
        deadline_ms: 10,
    };
    assert_eq!(late, Err(timed_out));
    assert_eq!(script.reached().await, 1);
    assert!(supervisor.stop(DEADLINE).await.is_empty());
}

#[actix_rt::test]
async fn a_promise_that_is_not_kept_tells_the_asker_and_the_actor_lives() {
    let script = script("one");
    let mut supervisor = start(&script).await;
    assert_eq!(script.forget.ask(Forget).await, unavailable());
    assert_eq!(script.reached().await, 1);
    assert!(supervisor.stop(DEADLINE).await.is_empty());
}

#[actix_rt::test]
async fn a_stop_is_answered_by_each_actor_last_started_first() {
    let seen = Arc::<Seen>::default();
    let mut supervisor = Supervisor::new();
    for name in ["one", "two", "three"] {
        let mut script = script(name);
        script.seen = Arc::clone(&seen);
        supervisor.start(script.spec());
        script.reached().await;
    }
    assert!(supervisor.stop(DEADLINE).await.is_empty());
    assert_eq!(*seen.shut_down.lock(), ["three", "two", "one"]);
    let table = supervisor.health().snapshot();
    assert!(table.iter().all(|line| line.state == ActorState::Stopped));
    assert_eq!(seen.alive.load(Ordering::SeqCst), 0);
}

#[actix_rt::test]
async fn who_does_not_stop_within_the_deadline_is_dropped_and_named() {
    let mut stubborn = script("stubborn");
    stubborn.manners = Manners::IgnoresShutdown;
    let mut supervisor = start(&stubborn).await;
    let names = supervisor.stop(STUCK_SOON).await;
    assert_eq!(names, ["stubborn"]);
    assert_eq!(stubborn.handle.ask(Do::Answer).await, unavailable());
    stubborn.assert_all_gone().await;
    health(&supervisor, |line| line.state == ActorState::Stopped).await;
}

#[actix_rt::test]
async fn an_actor_that_is_stuck_when_asked_to_stop_is_named_too() {
    let mut script = script("stuck");
    // Found stuck long before the stop's deadline is over.
    script.policy.stuck_after = STUCK_SOON;
    let mut supervisor = start(&script).await;
    assert_eq!(script.handle.ask(Do::GetStuck).await, Ok(1));
    assert_eq!(supervisor.stop(5 * STUCK_SOON).await, ["stuck"]);
    script.assert_all_gone().await;
}

#[actix_rt::test]
async fn a_panic_at_shutdown_does_not_hold_up_the_stop() {
    let mut script = script("one");
    script.manners = Manners::PanicsAtShutdown;
    let mut supervisor = start(&script).await;
    assert!(supervisor.stop(DEADLINE).await.is_empty());
    script.assert_all_gone().await;
    assert_eq!(script.seen.made.load(Ordering::SeqCst), 1);
}

#[actix_rt::test]
async fn an_actor_that_is_just_being_started_can_be_stopped() {
    for _ in 0..50 {
        let script = script("one");
        let mut supervisor = Supervisor::new();
        supervisor.start(script.spec());
        assert!(supervisor.stop(DEADLINE).await.is_empty());
        script.assert_all_gone().await;
    }
}

#[actix_rt::test]
async fn stopping_twice_or_without_a_start_does_nothing() {
    let mut supervisor = Supervisor::new();
    assert!(supervisor.stop(DEADLINE).await.is_empty());
    let script = script("one");
    supervisor.start(script.spec());
    script.reached().await;
    assert!(supervisor.stop(DEADLINE).await.is_empty());
    assert!(supervisor.stop(DEADLINE).await.is_empty());
    assert_eq!(*script.seen.shut_down.lock(), ["one"]);
}

/// Actors on two threads that live, fail and are stopped at any moment of their lives: none is left, no stop has to drop.
#[actix_rt::test]
async fn many_lives_leave_nobody_behind() {
    let thread = Arbiter::try_new().expect("a thread");
    let here = Arbiter::current();
    for round in 0..50_u64 {
        let mut random = fastrand::Rng::with_seed(round);
        let mut supervisor = Supervisor::new();
        let mut scripts = Vec::new();
        for place in 0..5 {
            let mut script = script("one of many");
            script.arbiter = match place % 2 {
                0 => here.clone(),
                _ => thread.handle(),
            };
            supervisor.start(script.spec());
            scripts.push(script);
        }
        for script in &scripts {
            match random.u8(0..4) {
                0 => {}
                1 => drop(script.reached().await),
                2 => drop(script.handle.ask(Do::Panic).await),
                _ => drop(script.handle.tell(Do::Stop)),
            }
        }
        let dropped = supervisor.stop(DEADLINE).await;
        assert!(dropped.is_empty(), "round {round}: {dropped:?}");
        for script in &scripts {
            assert_eq!(script.handle.ask(Do::Answer).await, unavailable());
            script.assert_all_gone().await;
        }
    }
    thread.stop();
    assert!(thread.join().is_ok());
}
