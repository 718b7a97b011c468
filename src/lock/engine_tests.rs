use super::super::held::Renewal;
use super::super::messages::{Lost, Session};
use super::super::scripts::{Locks, Scripts};
use super::*;
use crate::config::Config;
use crate::store::Store;
use tokio::sync::mpsc;

const TTL: Duration = Duration::from_secs(9);

/// An engine that nobody answers, over what is held.
fn engine(held: &Arc<Mutex<Held>>) -> Engine {
    let config = Config::from_toml("redis.url = \"redis://127.0.0.1:1\"").expect("in order");
    let store = Store::siblings(&config.redis, 1).expect("a URL").remove(0);
    let locks = Locks::new(store, Arc::new(Scripts::default()), Uuid::new_v4());
    #[expect(clippy::disallowed_methods, reason = "nothing is sent")]
    let (events, _inbox) = mpsc::unbounded_channel();
    let calls = Calls::new(locks, None, events);
    Engine::new(calls, Arc::clone(held), Metrics::new())
}

/// A lock that a session holds, and its renewal, which is under way.
fn renewing(held: &Mutex<Held>, lost: &mpsc::Sender<Lost>, now: Instant) -> Renewal {
    let session = Session {
        id: SessionId(1),
        lost: lost.clone(),
    };
    let hold = Hold {
        fence: 7,
        ttl: TTL,
        ends: now + TTL,
        asker: 1,
        attempt: Uuid::new_v4(),
        session: Some(session),
    };
    let mut held = held.lock();
    held.hold((Bytes::from_static(b"a"), Uuid::new_v4()), hold);
    held.due(now + TTL / 3).renew.remove(0)
}

#[test]
fn a_session_is_told_by_the_renewal_that_is_refused_and_not_only_at_the_end() {
    let (held, now) = (Arc::<Mutex<Held>>::default(), Instant::now());
    let mut engine = engine(&held);
    let (lost, mut told) = mpsc::channel(4);
    let renewal = renewing(&held, &lost, now);
    engine.on_event(Event::Extended {
        out: vec![Extending::Renewed(renewal)],
        sent: now,
        answer: Ok(vec![Extended::No]),
    });
    assert_eq!(told.try_recv().map(|lost| lost.fence), Ok(7));
}

#[test]
fn an_engine_that_begins_asks_for_the_renewals_of_the_one_before() {
    let (held, now) = (Arc::<Mutex<Held>>::default(), Instant::now());
    let (lost, _told) = mpsc::channel(4);
    renewing(&held, &lost, now);
    let engine = engine(&held);
    assert!(engine.next_due().is_some_and(|due| due < now + TTL / 2));
}
