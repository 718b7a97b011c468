use super::*;
use crate::config::{Algorithm, Limit, OnRedisError};

const LONG: Duration = Duration::from_secs(3600);

fn rule(name: &str) -> Arc<Rule> {
    let limit = Limit {
        name: name.to_owned(),
        algorithm: Algorithm::FixedWindow { window: LONG },
        limit: 5,
        on_redis_error: OnRedisError::Allow,
        shadow: false,
    };
    Arc::new(Rule::declared(&limit, &Metrics::new()))
}

fn refused(retry_after: Option<Duration>) -> Verdict {
    Verdict {
        fits: false,
        remaining: 1,
        retry_after,
        reset_after: LONG,
    }
}

fn hearing(metrics: &Metrics) -> Denied {
    let denied = Denied::new(metrics.clone());
    denied.hears(true);
    denied
}

fn remember(denied: &Denied, rule: &Arc<Rule>, subject: &[u8], cost: u64) {
    let mark = denied.mark(rule, subject);
    denied.remember(mark, rule, &refused(Some(LONG)), cost, Instant::now());
}

#[test]
fn a_refusal_stands_against_as_much_until_it_is_forgotten() {
    let (denied, rule) = (hearing(&Metrics::new()), rule("api"));
    remember(&denied, &rule, b"ann", 3);
    for (cost, stands) in [(2, false), (3, true), (4, false)] {
        assert_eq!(
            denied.refusal("api", b"ann", cost, true).is_some(),
            stands,
            "{cost}"
        );
    }
    for (limit, subject) in [("api", &b"bob"[..]), ("ap", b"iann"), ("apiann", b"")] {
        assert!(denied.refusal(limit, subject, 3, true).is_none(), "{limit}");
    }
    let decision = denied.refusal("api", b"ann", 3, true).expect("it stands");
    assert!(decision.retry_after <= Some(LONG) && decision.reset_after <= LONG);
    denied.forget(b"api", b"ann");
    assert!(denied.refusal("api", b"ann", 3, true).is_none());
}

#[test]
fn what_is_given_back_while_redis_is_asked_is_not_refused_from_memory() {
    let (denied, rule) = (hearing(&Metrics::new()), rule("api"));
    let undone: [&dyn Fn(); 3] = [
        &|| denied.forget(b"api", b"ann"),
        &|| denied.clear(),
        &|| denied.hears(true),
    ];
    for undo in undone {
        let mark = denied.mark(&rule, b"ann");
        undo();
        denied.remember(mark, &rule, &refused(Some(LONG)), 1, Instant::now());
        assert!(denied.refusal("api", b"ann", 1, true).is_none());
        remember(&denied, &rule, b"ann", 1);
        assert!(denied.refusal("api", b"ann", 1, true).is_some());
    }
}

#[test]
fn nothing_is_remembered_while_nothing_is_heard_nor_after_its_time() {
    let metrics = Metrics::new();
    let (denied, rule) = (Denied::new(metrics.clone()), rule("api"));
    remember(&denied, &rule, b"ann", 1);
    assert!(denied.refusal("api", b"ann", 1, true).is_none());
    denied.hears(true);
    remember(&denied, &rule, b"ann", 1);
    assert_eq!(metrics.limits.remembered.get(), 1);
    denied.hears(false);
    assert_eq!(metrics.limits.remembered.get(), 0);
    assert!(denied.refusal("api", b"ann", 1, true).is_none());
    denied.hears(true);
    // By the time it was sent, its time is over.
    let (mark, now) = (denied.mark(&rule, b"ann"), Instant::now());
    let brief = refused(Some(Duration::ZERO));
    denied.remember(mark, &rule, &brief, 1, now);
    assert!(denied.refusal("api", b"ann", 1, true).is_none());
    // What never fits is not waited for.
    denied.remember(mark, &rule, &refused(None), 9, now);
    let never = denied
        .refusal("api", b"ann", 9, true)
        .expect("for a second");
    assert_eq!(never.retry_after, None);
}

#[test]
fn memory_is_bounded_and_full_of_what_came_last() {
    let metrics = Metrics::new();
    let (denied, rule) = (hearing(&metrics), rule("api"));
    let subjects = 3 * MAX_REFUSALS as u64;
    let mut stand = 0;
    for subject in 0..subjects {
        remember(&denied, &rule, &subject.to_le_bytes(), 1);
        let known = denied.refusal("api", &subject.to_le_bytes(), 1, true);
        stand += u64::from(known.is_some());
    }
    assert_eq!(stand, subjects);
    let remembered = metrics.limits.remembered.get();
    let most = i64::try_from(MAX_REFUSALS).expect("a small number");
    assert!(remembered > most / 2 && remembered <= most, "{remembered}");
    denied.clear();
    assert_eq!(metrics.limits.remembered.get(), 0);
}
