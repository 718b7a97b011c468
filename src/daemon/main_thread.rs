//! The main thread of a daemon: starts everything, waits for the end, stops everything.

use super::error::StartError;
use super::reload::Reloading;
use super::status::Vitals;
use super::stopping::ended;
use super::warden::Ended;
use super::web::Addresses;
use super::wiring::{Running, STOP_DEADLINE};
use crate::cache::{CacheHandle, L1, Scripts};
use crate::config::Config;
use crate::invalidation::InvalidationHandle;
use crate::lock::LockHandle;
use crate::plain::PlainHandle;
use crate::rate_limit::RateLimitHandle;
use crate::resp::Passed;
use crate::supervisor::Health;
use crate::warmup::WarmupHandle;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// What it hands out when all has started.
pub(super) struct Started {
    pub(super) invalidation: InvalidationHandle,
    pub(super) caches: Arc<[CacheHandle]>,
    pub(super) l1: L1,
    pub(super) plain: Arc<[PlainHandle]>,
    pub(super) locks: LockHandle,
    pub(super) rate_limit: RateLimitHandle,
    pub(super) warmup: Option<WarmupHandle>,
    pub(super) ready: watch::Receiver<bool>,
    pub(super) addresses: Addresses,
    pub(super) vitals: Vitals,
    pub(super) health: Health,
    pub(super) reloading: Arc<Reloading>,
}

/// Where a stop is asked for: one message begins it, a second one hurries it; a closed channel is a stop, too.
type Stop = mpsc::Sender<Duration>;

/// Starts the thread, and everything on it. Its end is told by the last of what is returned.
pub(super) async fn start(
    config: Config,
    scripts: Scripts,
    passed: Passed,
) -> Result<(Started, Stop, watch::Receiver<Option<Ended>>), StartError> {
    let (stop, stopping) = mpsc::channel(2);
    let (end, ended) = watch::channel(None);
    let (report, started) = oneshot::channel();
    std::thread::Builder::new()
        .name("cachewarden".to_owned())
        .spawn(move || {
            let life = live(config, Arc::new(scripts), passed, report, stopping, end);
            actix_rt::System::new().block_on(life);
        })
        .map_err(StartError::Thread)?;
    let started = started.await.unwrap_or_else(|_panicked| {
        Err(StartError::Actor("the main thread panicked".to_owned()))
    })?;
    Ok((started, stop, ended))
}

async fn live(
    config: Config,
    scripts: Arc<Scripts>,
    passed: Passed,
    report: oneshot::Sender<Result<Started, StartError>>,
    mut stopping: mpsc::Receiver<Duration>,
    end: watch::Sender<Option<Ended>>,
) {
    let running = match Running::start(&config, scripts, passed).await {
        Ok(running) => running,
        Err(error) => return drop(report.send(Err(error))),
    };
    // A caller that no longer waits has dropped `stop` with it, which ends what follows.
    let _nobody_waits = report.send(Ok(started(&running, config)));
    let mut gave_up = running.gave_up();
    let (deadline, reason) = tokio::select! {
        deadline = stopping.recv() => (deadline.unwrap_or(STOP_DEADLINE), None),
        reason = gave_up.wait_for(Option::is_some) => {
            (STOP_DEADLINE, reason.ok().and_then(|reason| reason.clone()))
        }
    };
    let hurry = async {
        match stopping.recv().await {
            Some(_again) => {}
            // Nobody is left who could hurry.
            None => std::future::pending().await,
        }
    };
    let left = running.stop(deadline, hurry).await;
    end.send_replace(Some(ended(reason, left)));
}

fn started(running: &Running, config: Config) -> Started {
    Started {
        invalidation: running.invalidation.clone(),
        caches: Arc::clone(&running.caches),
        l1: running.l1.clone(),
        plain: Arc::clone(&running.plain),
        locks: running.locks.clone(),
        rate_limit: running.reloading.rate_limits().actor,
        warmup: running.warmup.clone(),
        ready: running.ready.clone(),
        addresses: running.addresses.clone(),
        vitals: running.vitals(config),
        health: running.health(),
        reloading: Arc::clone(&running.reloading),
    }
}
