use super::super::RateLimitHandle;
use super::super::messages::{Ask, Asked};
use super::*;
use crate::config::Config;
use crate::supervisor::Later;
use crate::telemetry::Metrics;
use bytes::Bytes;
use std::time::Duration;

const LIMITS: &str = r#"
    redis.url = "redis://127.0.0.1:1"

    [limits.api]
    algorithm = "fixed_window"
    limit = 5
    window = "365d"

    [limits.flights]
    algorithm = "concurrency"
    limit = 5
"#;
const LONG: Duration = Duration::from_secs(3600);

/// What Redis would say to who is over its limit.
fn refused() -> Verdict {
    Verdict {
        fits: false,
        remaining: 0,
        retry_after: Some(LONG),
        reset_after: LONG,
    }
}

fn config() -> Config {
    Config::from_toml(LIMITS).expect("in order")
}

/// A limiter that hears what is given back; its Redis is this test.
fn limiter() -> Limiter {
    let (config, metrics) = (config(), Metrics::new());
    let store = Store::siblings(&config.redis, 1).expect("a URL").remove(0);
    let handle = RateLimitHandle::unbound(Declared::new(&config, metrics.clone()));
    let parts = RateLimitParts::new(&handle, store, Denied::new(metrics));
    parts.denied.hears(true);
    Limiter::new(&parts)
}

/// Asks for ann, and whether Redis is to be asked for that.
fn ask(limiter: &mut Limiter, limits: &str) -> bool {
    let asked = Asked {
        limits: Bytes::from(limits.to_owned()),
        subject: Bytes::from_static(b"ann"),
        cost: 1,
        id: None,
        ask: Ask::Take,
    };
    let (_later, promise) = Later::new();
    limiter.check(Check { asked: vec![asked] }, promise);
    limiter.waits()
}

/// Sends what waits, and answers that.
fn answer(limiter: &mut Limiter, served: Served) {
    let batch = limiter.next().expect("something waits");
    limiter.came_back(batch, Ok(vec![served]));
}

fn reload(limiter: &mut Limiter) {
    let config = config();
    limiter.reload(&Reload {
        limits: config.limits,
        defaults: config.limit_defaults,
    });
}

#[test]
fn what_is_refused_by_a_limit_of_before_a_reload_is_not_remembered() {
    for sent_before in [true, false] {
        let mut limiter = limiter();
        assert!(ask(&mut limiter, "api"));
        let refusal = Served::Verdicts(vec![refused()]);
        if sent_before {
            let batch = limiter.next().expect("something waits");
            reload(&mut limiter);
            limiter.came_back(batch, Ok(vec![refusal]));
        } else {
            reload(&mut limiter);
            answer(&mut limiter, refusal);
        }
        assert!(ask(&mut limiter, "api"), "sent before: {sent_before}");
    }
}

#[test]
fn what_is_given_back_is_forgotten_here_before_it_is_heard() {
    let mut limiter = limiter();
    for verb in [Verb::Refund, Verb::Reset] {
        assert!(ask(&mut limiter, "api"));
        answer(&mut limiter, Served::Verdicts(vec![refused()]));
        assert!(!ask(&mut limiter, "api"), "it stands");
        let (promise, subject) = (Later::new().1, Bytes::from_static(b"ann"));
        let request = limiter.rules().give_back(verb, b"api", subject, 1, None);
        limiter.take(request, Slot::Given(promise));
        answer(&mut limiter, Served::Given(1));
    }
    assert!(ask(&mut limiter, "api"));
}
