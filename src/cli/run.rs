//! `cachewarden run`: the daemon, in the foreground, until a signal or the end of patience.

use super::{check, exit, open_files, systemd};
use crate::config::Config;
use crate::telemetry::logging;
use crate::{Ended, Reloaded, Warden};
use futures_util::StreamExt;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use std::path::Path;
use std::time::Duration;

/// How long a stop may take after the first signal.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

pub(super) fn run(path: &Path) -> u8 {
    let config = match check::offline_or_told(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    if let Err(error) = logging::set_up(&config.log) {
        exit::tell(error);
        return exit::CONFIG;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(serve(path, config)),
        Err(error) => {
            exit::tell(format_args!("cannot start: {error}"));
            exit::OS
        }
    }
}

async fn serve(path: &Path, config: Config) -> u8 {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    if !config.unserved.is_empty() {
        let parts = config.unserved.join(", ");
        tracing::warn!("accepted, but not served by this version: {parts}");
    }
    open_files::raise_for(config.resp.max_connections);
    // Before the daemon starts, so that no signal is lost while it does.
    let mut signals = match Signals::new([SIGTERM, SIGINT, SIGHUP]) {
        Ok(signals) => signals,
        Err(error) => {
            exit::tell(format_args!("cannot listen for signals: {error}"));
            return exit::OS;
        }
    };
    let mut hung_up = false;
    let started = tokio::select! {
        started = Warden::launch(config) => started,
        () = stop_signal(&mut signals, &mut hung_up) => return 0,
    };
    let warden = match started {
        Ok(warden) => warden,
        Err(error) => {
            tracing::error!("{error}");
            return exit::of_start(&error);
        }
    };
    let is_ready = tokio::select! {
        () = systemd::ready_when(warden.ready()) => true,
        () = stop_signal(&mut signals, &mut hung_up) => false,
    };
    if !is_ready {
        return told(stop(&warden, &mut signals).await);
    }
    if let Some(address) = warden.resp_addr() {
        tracing::info!(%address, "ready");
    }
    let ended = tokio::select! {
        () = serve_signals(&warden, path, &mut signals, hung_up) => stop(&warden, &mut signals).await,
        ended = warden.ended() => ended,
        () = systemd::feed_watchdog(warden.health()) => Ended::Stopped,
    };
    told(ended)
}

/// Says how it ended; the exit code.
fn told(ended: Ended) -> u8 {
    match ended {
        Ended::Stopped => {
            tracing::info!("stopped");
            0
        }
        Ended::Late { names } => {
            tracing::error!("still running at the deadline: {}", names.join(", "));
            exit::FAILED
        }
        Ended::GaveUp { reason } => {
            tracing::error!("{reason}");
            exit::SOFTWARE
        }
    }
}

/// Waits for a signal that means stop, and notes whether one came that means something else.
async fn stop_signal(signals: &mut Signals, hung_up: &mut bool) {
    while signals.next().await == Some(SIGHUP) {
        *hung_up = true;
    }
}

/// Reloads at each SIGHUP, and if one has come before, until a signal means stop.
async fn serve_signals(warden: &Warden, path: &Path, signals: &mut Signals, hung_up: bool) {
    if hung_up {
        reload(warden, path).await;
    }
    while signals.next().await == Some(SIGHUP) {
        reload(warden, path).await;
    }
}

/// Applies what the file says now. What is wrong with it is logged, and nothing changes.
async fn reload(warden: &Warden, path: &Path) {
    let config = match check::offline(path) {
        Ok(config) => config,
        Err(report) => {
            return tracing::error!(
                "SIGHUP: nothing is applied, for the file has mistakes:\n{report}"
            );
        }
    };
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    match warden.reload(config).await {
        Ok(reloaded) => tell(&reloaded),
        Err(error) => tracing::error!("SIGHUP: nothing is applied: {error}; send it again"),
    }
}

fn tell(reloaded: &Reloaded) {
    let named = |names: &[String]| match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    };
    tracing::info!(
        "SIGHUP: limits added: {}; changed: {}; removed: {}",
        named(&reloaded.added),
        named(&reloaded.changed),
        named(&reloaded.removed)
    );
    if reloaded.has_other_defaults {
        tracing::info!("SIGHUP: [limit_defaults] is applied to RATE.FIXED and CL.THROTTLE");
    }
    if !reloaded.waiting.is_empty() {
        tracing::warn!(
            "these differ, and wait for a restart: {}",
            reloaded.waiting.join(", ")
        );
    }
}

async fn stop(warden: &Warden, signals: &mut Signals) -> Ended {
    tracing::info!("stopping; a second signal hurries");
    systemd::notify(&[NotifyState::Stopping]);
    let stopping = warden.stop_within(STOP_DEADLINE);
    let hurried = async {
        stop_signal(signals, &mut false).await;
        warden.stop_within(Duration::ZERO).await
    };
    tokio::select! {
        ended = stopping => ended,
        ended = hurried => ended,
    }
}
