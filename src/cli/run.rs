//! `cachewarden run`: the daemon, in the foreground, until a signal or the end of patience.

use super::{check, exit, open_files, systemd};
use crate::config::Config;
use crate::telemetry::logging;
use crate::{Ended, Warden};
use futures_util::StreamExt;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use std::path::Path;
use std::time::Duration;

/// How long a stop may take after the first signal.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

pub(super) fn run(path: &Path) -> u8 {
    let config = match check::offline(path) {
        Ok(config) => config,
        Err(report) => {
            exit::tell(report);
            return exit::CONFIG;
        }
    };
    if let Err(error) = logging::set_up(&config.log) {
        exit::tell(error);
        return exit::CONFIG;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(serve(config)),
        Err(error) => {
            exit::tell(format_args!("cannot start: {error}"));
            exit::OS
        }
    }
}

async fn serve(config: Config) -> u8 {
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
    let started = tokio::select! {
        started = Warden::start(config) => started,
        () = stop_signal(&mut signals) => return 0,
    };
    let warden = match started {
        Ok(warden) => warden,
        Err(error) => {
            tracing::error!("{error}");
            return exit::of_start(&error);
        }
    };
    if let Some(address) = warden.resp_addr() {
        tracing::info!(%address, "ready");
    }
    systemd::notify(&[NotifyState::Ready]);
    let ended = tokio::select! {
        () = stop_signal(&mut signals) => stop(&warden, &mut signals).await,
        ended = warden.ended() => ended,
        () = systemd::feed_watchdog(warden.health()) => Ended::Stopped,
    };
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

/// Waits for a signal that means stop.
async fn stop_signal(signals: &mut Signals) {
    while signals.next().await == Some(SIGHUP) {
        tracing::warn!(
            "SIGHUP is ignored: this version does not reload; restart to apply the configuration"
        );
    }
}

async fn stop(warden: &Warden, signals: &mut Signals) -> Ended {
    tracing::info!("stopping; a second signal hurries");
    systemd::notify(&[NotifyState::Stopping]);
    let stopping = warden.stop_within(STOP_DEADLINE);
    let hurried = async {
        stop_signal(signals).await;
        warden.stop_within(Duration::ZERO).await
    };
    tokio::select! {
        ended = stopping => ended,
        ended = hurried => ended,
    }
}
