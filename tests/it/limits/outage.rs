//! Redis killed, frozen, and back again empty, under limits of every mode; and an actor that panics.

use std::time::Duration;

use actix::{Context, Handler, Message};
use actix_rt::Arbiter;
use cachewarden::cli::demo::servers::Redis;
use cachewarden::config::{Config, LimitDefaults};
use cachewarden::rate_limit::{
    Ask, Check, Declared, Denied, LimitError, RateLimitActor, RateLimitHandle, RateLimitParts,
    Reload,
};
use cachewarden::store::Store;
use cachewarden::supervisor::{ChildSpec, RestartPolicy, Supervisor};
use cachewarden::telemetry::Metrics;
use parking_lot::Mutex;
use std::sync::Arc;

use super::super::support::DEADLINE;
use super::super::support::daemon::{InProcess, config_without_postgres};
use super::super::support::eventually::eventually;
use super::super::support::fleet::{registrations, until_acquainted};
use super::super::support::servers::redis;
use super::super::support::world::{figure, raw};
use super::{allowed, asked, check, daemon, refund, reset};

const LIMITS: &str = r#"
    limit_defaults.on_redis_error = "deny"
    redis.timeout = "100ms"

    [limits.open]
    algorithm = "fixed_window"
    limit = 10
    window = "365d"
    on_redis_error = "allow"

    [limits.shut]
    algorithm = "fixed_window"
    limit = 10
    window = "365d"

    [limits.shadow]
    algorithm = "fixed_window"
    limit = 10
    window = "365d"
    shadow = true

    [limits.fixed]
    algorithm = "fixed_window"
    limit = 11
    window = "365d"
    on_redis_error = "local"

    [limits.sliding]
    algorithm = "sliding_window"
    limit = 11
    window = "365d"
    on_redis_error = "local"

    [limits.bucket]
    algorithm = "token_bucket"
    limit = 11
    window = "365d"
    on_redis_error = "local"

    [limits.flights]
    algorithm = "concurrency"
    limit = 11
    lease = "1h"
    on_redis_error = "local"

    [limits.tiny]
    algorithm = "fixed_window"
    limit = 1
    window = "365d"
    on_redis_error = "local"
"#;

/// Two daemons that know of each other.
async fn two_daemons(redis: &Redis) -> [InProcess; 2] {
    let daemons = [daemon(redis, LIMITS).await, daemon(redis, LIMITS).await];
    until_acquainted(&mut raw(redis).await, 2).await;
    settle(&daemons).await;
    daemons
}

/// What they asked Redis before has been answered when this has.
async fn settle(daemons: &[InProcess]) {
    for daemon in daemons {
        check(&daemon.warden, "open", "somebody", 1).await;
    }
}

/// What every limit answers now that Redis is away.
async fn answers_without_redis(daemon: &InProcess) {
    let warden = &daemon.warden;
    let open = check(warden, "open", "ann", 1).await;
    assert_eq!((open.allowed, open.remaining), (true, 10));
    assert_eq!(allowed(warden, "open", "ann", 100).await, 100);
    let shut = check(warden, "shut", "ann", 1).await;
    assert_eq!(
        (shut.allowed, shut.retry_after),
        (false, Some(Duration::from_secs(1)))
    );
    assert!(check(warden, "shadow", "ann", 1).await.allowed);
    for limit in ["fixed", "sliding", "bucket", "flights"] {
        // Eleven between two.
        assert_eq!(allowed(warden, limit, "ann", 20).await, 5, "{limit}");
    }
    assert_eq!(allowed(warden, "tiny", "ann", 5).await, 0);
    // Each its own; all or nothing.
    assert_eq!(
        check(warden, "open,shut,fixed", "bob", 1).await.policy.name,
        "shut"
    );
    assert_eq!(allowed(warden, "open,fixed", "bob", 20).await, 5);
    let away = reset(warden, "fixed", "ann").await.unwrap_err();
    assert!(matches!(away, LimitError::Store(_)), "{away}");
    assert!(refund(warden, "open", "ann", 1).await.is_err());
}

/// Back again, and nothing is known.
async fn until_asked_again(daemon: &InProcess) {
    eventually(DEADLINE, async || {
        let decision = check(&daemon.warden, "shut", "eve", 1).await;
        if decision.allowed {
            Ok(())
        } else {
            Err(decision)
        }
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_has_just_forgotten_the_fleet_does_not_make_shares_larger() {
    let mut redis = redis();
    let daemons = two_daemons(&redis).await;
    let mut raw = raw(&redis).await;
    raw.command(&["FLUSHALL"]).await;
    // The first that registers is told that it is the only one.
    eventually(DEADLINE, async || match registrations(&mut raw).await {
        seen if !seen.is_empty() => Ok(()),
        seen => Err(seen),
    })
    .await;
    settle(&daemons).await;
    redis.kill().unwrap();
    for daemon in &daemons {
        // Eleven between two.
        assert_eq!(allowed(&daemon.warden, "fixed", "ann", 20).await, 5);
    }
}

#[tokio::test]
async fn without_redis_each_limit_answers_as_it_is_declared_to() {
    let mut redis = redis();
    let daemons = two_daemons(&redis).await;
    assert_eq!(allowed(&daemons[0].warden, "shut", "ann", 3).await, 3);
    redis.kill().unwrap();
    for daemon in &daemons {
        // Both find out by themselves.
        eventually(DEADLINE, async || {
            let decision = check(&daemon.warden, "shut", "dan", 1).await;
            if decision.allowed {
                Err(decision)
            } else {
                Ok(())
            }
        })
        .await;
        answers_without_redis(daemon).await;
        let mut client = daemon.client().await;
        let name = "cachewarden_limit_decisions_total";
        let unasked = figure(
            &mut client,
            name,
            "limit=\"fixed\",decision=\"unasked_allowed\"",
        );
        assert_eq!(unasked.await, 10);
        let refused = figure(
            &mut client,
            name,
            "limit=\"shut\",decision=\"unasked_refused\"",
        );
        assert!(refused.await > 0);
    }
    redis.start_again().unwrap();
    for daemon in &daemons {
        until_asked_again(daemon).await;
    }
    // What was counted in there is gone: windows begin anew.
    assert_eq!(allowed(&daemons[1].warden, "shut", "ann", 20).await, 10);
    for daemon in daemons {
        daemon.stop().await;
    }
}

#[tokio::test]
async fn a_frozen_redis_costs_one_timeout_and_keeps_its_counts() {
    let mut redis = redis();
    let daemons = two_daemons(&redis).await;
    assert_eq!(allowed(&daemons[0].warden, "shut", "ann", 3).await, 3);
    redis.freeze().unwrap();
    for daemon in &daemons {
        answers_without_redis(daemon).await;
    }
    redis.thaw().unwrap();
    for daemon in &daemons {
        until_asked_again(daemon).await;
    }
    // What was sent before it was found out may have been counted: of these no more than one a daemon.
    let left = allowed(&daemons[1].warden, "shut", "ann", 20).await;
    assert!((5..=7).contains(&left), "{left}");
    for daemon in daemons {
        daemon.stop().await;
    }
}

/// Makes the actor panic.
#[derive(Message)]
#[rtype(result = "()")]
struct Break;

impl Handler<Break> for RateLimitActor {
    type Result = ();

    fn handle(&mut self, _: Break, _ctx: &mut Context<Self>) {
        panic!("as asked");
    }
}

#[actix_rt::test]
async fn an_actor_that_panicked_goes_on_with_the_limits_it_had() {
    let redis = redis();
    let config = Config::from_toml(&config_without_postgres(&redis.redis_url(), LIMITS)).unwrap();
    let store = Store::siblings(&config.redis, 1).unwrap().remove(0);
    actix_rt::spawn(store.clone().keep());
    store.up().wait_for(|up| *up).await.unwrap();
    let metrics = Metrics::new();
    let handle = RateLimitHandle::unbound(Declared::new(&config, metrics.clone()));
    let breaker = Arc::new(Mutex::new(None));
    let parts = RateLimitParts::new(&handle, store, Denied::new(metrics));
    let mut supervisor = Supervisor::new();
    let (bound, broken) = (handle.clone(), Arc::clone(&breaker));
    supervisor.start(ChildSpec::new(
        "rate-limit",
        Arbiter::current(),
        RestartPolicy::default(),
        move || RateLimitActor::new(parts.clone()),
        move |address| {
            RateLimitActor::bind(&bound, address);
            *broken.lock() = address.cloned();
        },
    ));
    supervisor.all_up().await.unwrap();
    let take = async || {
        let asked = vec![asked("shut", "ann", 1, None, Ask::Take)];
        handle.check.ask(Check { asked }).await
    };
    for left in [9, 8, 7] {
        let decision = eventually(DEADLINE, take).await.remove(0).unwrap();
        assert_eq!((decision.allowed, decision.remaining), (true, left));
        let address = breaker.lock().clone().unwrap();
        assert!(address.send(Break).await.is_err());
    }
    // What was declared since is not lost either.
    let mut limits = config.limits.clone();
    for limit in &mut limits {
        limit.limit = 20;
    }
    let reload = || Reload {
        limits: limits.clone(),
        defaults: LimitDefaults::default(),
    };
    eventually(DEADLINE, async || handle.reload.ask(reload()).await).await;
    let address = breaker.lock().clone().unwrap();
    assert!(address.send(Break).await.is_err());
    let decision = eventually(DEADLINE, take).await.remove(0).unwrap();
    assert_eq!((decision.allowed, decision.remaining), (true, 16));
    let restarts = || supervisor.health().snapshot()[0].restarts;
    eventually(DEADLINE, async || {
        if restarts() == 4 {
            Ok(())
        } else {
            Err(restarts())
        }
    })
    .await;
    assert_eq!(supervisor.stop(DEADLINE).await, [""; 0]);
}
