use super::super::messages::Ask;
use super::*;
use crate::config::Config;
use crate::telemetry::Metrics;
use bytes::Bytes;

const LIMITS: &str = r#"
    redis.url = "redis://127.0.0.1:1"
    limit_defaults.on_redis_error = "deny"

    [limits.open]
    algorithm = "fixed_window"
    limit = 5
    window = "1m"
    on_redis_error = "allow"

    [limits.shut]
    algorithm = "sliding_window"
    limit = 5
    window = "1m"

    [limits.shared]
    algorithm = "token_bucket"
    limit = 5
    window = "1m"
    on_redis_error = "local"

    [limits.shadow]
    algorithm = "fixed_window"
    limit = 5
    window = "1m"
    shadow = true

    [limits.flights]
    algorithm = "concurrency"
    limit = 5
    on_redis_error = "allow"
"#;

/// Handles that nobody answers, as between an actor's panic and its next start.
fn restarting(metrics: &Metrics) -> RateLimitHandle {
    let config = Config::from_toml(LIMITS).expect("in order");
    RateLimitHandle::unbound(Declared::new(&config, metrics.clone()))
}

fn asked(limits: &str, ask: Ask) -> Asked {
    Asked {
        limits: Bytes::from(limits.to_owned()),
        subject: Bytes::from_static(b"ann"),
        cost: 1,
        id: None,
        ask,
    }
}

#[actix_rt::test]
async fn while_the_actor_restarts_each_limit_says_what_it_is_declared_to() {
    let metrics = Metrics::new();
    let handle = restarting(&metrics);
    let rows = [
        ("open", Ok(true), "open"),
        ("open", Ok(true), "open"),
        ("shut", Ok(false), "shut"),
        ("shared", Ok(false), "shared"),
        ("shadow", Ok(true), "shadow"),
        ("open,shut", Ok(false), "shut"),
        ("flights,open", Ok(true), "flights"),
        ("nobody", Err("no limit `nobody` is declared"), ""),
    ];
    let all = rows.iter().map(|(limits, ..)| asked(limits, Ask::Take));
    let answers = handle.decide(all.collect()).await;
    assert_eq!(answers.len(), rows.len());
    for ((limits, allowed, by), answer) in rows.into_iter().zip(answers) {
        let told = answer.as_ref().map(|decision| decision.allowed);
        assert_eq!(
            told.map_err(ToString::to_string),
            allowed.map_err(str::to_owned),
            "{limits}"
        );
        let Ok(decision) = answer else { continue };
        assert_eq!(decision.policy.name, by, "{limits}");
        let again = Duration::from_secs(u64::from(!decision.allowed));
        assert_eq!(decision.retry_after, Some(again), "{limits}");
        assert_eq!(
            decision.id.is_some(),
            limits.contains("flights"),
            "{limits}"
        );
    }
    let page = metrics.render();
    for told in [
        "cachewarden_limit_decisions_total{limit=\"open\",decision=\"unasked_allowed\"} 3",
        "cachewarden_limit_decisions_total{limit=\"shut\",decision=\"unasked_refused\"} 2",
    ] {
        assert!(page.contains(told), "{told}\n{page}");
    }
}

#[actix_rt::test]
async fn limits_that_commands_bring_with_them_answer_as_the_defaults_say() {
    let metrics = Metrics::new();
    let handle = restarting(&metrics);
    let fixed = || Fixed {
        subject: Bytes::from_static(b"ann"),
        limit: 3,
        window: Duration::from_secs(60),
    };
    let throttle = |quantity| Throttle {
        key: Bytes::from_static(b"ann"),
        max_burst: 3,
        count: 3,
        period: Duration::from_secs(60),
        quantity,
    };
    assert!(
        !handle
            .decide_fixed(fixed())
            .await
            .expect("an answer")
            .allowed
    );
    let refused = handle.decide_throttle(throttle(1)).await;
    assert!(!refused.expect("an answer").allowed);

    let defaults = crate::config::LimitDefaults {
        on_redis_error: crate::config::OnRedisError::Allow,
    };
    handle.declared.replace(&[], defaults);
    assert!(
        handle
            .decide_fixed(fixed())
            .await
            .expect("an answer")
            .allowed
    );
    let through = handle.decide_throttle(throttle(1)).await;
    assert!(through.expect("an answer").allowed);
    // What makes no sense is told, as ever.
    let bad = Fixed {
        limit: 0,
        ..fixed()
    };
    let told = handle.decide_fixed(bad).await.expect_err("zero");
    assert!(matches!(told, LimitError::Invalid(_)), "{told:?}");
}

#[actix_rt::test]
async fn who_asks_an_overloaded_actor_is_told_so() {
    let mut handle = restarting(&Metrics::new());
    handle.check = Handle::unbound("rate-limit", 0, DEADLINE);
    let answers = handle.decide(vec![asked("open", Ask::Take)]).await;
    let busy = AskError::Overloaded {
        actor: "rate-limit",
        limit: 0,
    };
    assert_eq!(answers, [Err(LimitError::Actor(busy))]);
}
