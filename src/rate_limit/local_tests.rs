use super::super::messages::{Ask, Asked};
use super::super::requests::Rules;
use super::*;
use crate::config::{Algorithm, Limit};
use crate::telemetry::Metrics;

fn limit(name: &str, algorithm: Algorithm) -> Limit {
    Limit {
        name: name.to_owned(),
        algorithm,
        limit: 100_000,
        on_redis_error: OnRedisError::Local,
        shadow: false,
    }
}

fn rules() -> Rules {
    let (brief, long) = (Duration::from_millis(1), Duration::from_secs(24 * 3600));
    let limits = [
        limit("brief", Algorithm::FixedWindow { window: brief }),
        limit(
            "long",
            Algorithm::TokenBucket {
                window: 36_500 * long,
                burst: 1,
            },
        ),
        limit("flights", Algorithm::Concurrency { lease: long }),
    ];
    Rules::of(&limits, &Metrics::new())
}

fn take(local: &mut Local, rules: &Rules, name: &str, subject: usize, id: usize) -> bool {
    let asked = Asked {
        limits: Bytes::copy_from_slice(name.as_bytes()),
        subject: Bytes::from(subject.to_string()),
        cost: 1,
        id: Some(Bytes::from(id.to_string())),
        ask: Ask::Take,
    };
    let request = rules.check(asked).expect("in order");
    local.verdicts(&request)[0].fits
}

#[test]
fn a_full_memory_refuses_new_subjects_and_goes_on_with_those_it_has() {
    let (mut local, rules) = (Local::new(Fleet::default()), rules());
    for subject in 0..MAX_COUNTED - 1 {
        assert!(take(&mut local, &rules, "long", subject, 0));
    }
    assert!(take(&mut local, &rules, "brief", 0, 0));
    for name in ["long", "brief", "flights"] {
        assert!(!take(&mut local, &rules, name, MAX_COUNTED, 0), "{name}");
    }
    assert!(take(&mut local, &rules, "brief", 0, 0));
    assert_eq!(local.counters.len(), MAX_COUNTED);
}

#[test]
fn what_is_over_makes_room() {
    let (mut local, rules) = (Local::new(Fleet::default()), rules());
    for subject in 0..MAX_COUNTED {
        assert!(take(&mut local, &rules, "brief", subject, 0));
    }
    // Once a second.
    let end = Instant::now() + Duration::from_secs(20);
    while !take(&mut local, &rules, "long", 0, 0) {
        assert!(Instant::now() < end, "there is no room");
        std::thread::yield_now();
    }
    assert!(local.counters.len() < MAX_COUNTED);
}

#[test]
fn requests_in_flight_are_remembered_up_to_a_bound() {
    let (mut local, rules) = (Local::new(Fleet::default()), rules());
    let ids = 0..2 * MAX_FLIGHTS;
    let taken = ids.filter(|id| take(&mut local, &rules, "flights", 0, *id));
    assert_eq!(taken.count(), MAX_FLIGHTS);
    assert_eq!(local.size, 1 + MAX_FLIGHTS);
}
