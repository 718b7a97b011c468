//! `cachewarden run`: the daemon, in the foreground, until a signal or the end of patience.

use super::{activation, check, exit, open_files, systemd, waiting};
use crate::config::Config;
use crate::telemetry::logging;
use crate::{Ended, Passed, Reloaded, StartError, Warden};
use futures_util::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use std::path::Path;
use std::time::Duration;

/// How long a stop may take after the first signal.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tell the service manager `ready` only once Redis and Postgres are there, or so many seconds have passed. Clients are answered
    /// meanwhile, as far as that goes without them
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=3600))]
    wait: u64,
}

pub(super) fn run(path: &Path, args: &Args) -> u8 {
    let passed = match activation::passed() {
        Ok(passed) => passed,
        Err(error) => {
            exit::tell(error);
            return exit::CONFIG;
        }
    };
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
        Ok(runtime) => runtime.block_on(serve(path, config, args, passed)),
        Err(error) => {
            exit::tell(format_args!("cannot start: {error}"));
            exit::OS
        }
    }
}

async fn serve(path: &Path, config: Config, args: &Args, passed: Passed) -> u8 {
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
    systemd::say("starting");
    let started = tokio::select! {
        started = Warden::launch_on(passed, config) => started,
        () = stop_signal(&mut signals, &mut hung_up) => return 0,
    };
    let warden = match started {
        Ok(warden) => warden,
        Err(error) => return not_started(&error),
    };
    let ready = tokio::select! {
        ready = get_ready(&warden, args) => ready.map(|()| true),
        () = stop_signal(&mut signals, &mut hung_up) => Ok(false),
    };
    match ready {
        Ok(true) => systemd::ready(&warden),
        Ok(false) => return told(stop(&warden, &mut signals).await),
        Err(error) => {
            warden.stop_within(STOP_DEADLINE).await;
            return not_started(&error);
        }
    }
    if let Some(address) = warden.resp_addr() {
        tracing::info!(%address, "ready");
    }
    let ended = tokio::select! {
        () = serve_signals(&warden, path, &mut signals, hung_up) => stop(&warden, &mut signals).await,
        ended = warden.ended() => ended,
        () = systemd::feed_watchdog(warden.health()) => Ended::Stopped,
        () = systemd::keep_saying(&warden) => Ended::Stopped,
    };
    told(ended)
}

/// What comes between open doors and `READY=1`.
async fn get_ready(warden: &Warden, args: &Args) -> Result<(), StartError> {
    systemd::extending_the_start(async {
        waiting::for_servers(warden, Duration::from_secs(args.wait)).await?;
        warden.ready().await;
        Ok(())
    })
    .await
}

/// Says why; the exit code.
fn not_started(error: &StartError) -> u8 {
    tracing::error!("{error}");
    exit::of_start(error)
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

/// Applies what the file says now, and lets the service manager wait for it.
async fn reload(warden: &Warden, path: &Path) {
    systemd::reloading();
    apply(warden, path).await;
    systemd::ready(warden);
}

/// What is wrong with the file is logged, and nothing changes.
async fn apply(warden: &Warden, path: &Path) {
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
    systemd::stopping(warden);
    let stopping = warden.stop_within(STOP_DEADLINE);
    let hurried = async {
        stop_signal(signals, &mut false).await;
        warden.stop_within(Duration::ZERO).await
    };
    tokio::select! {
        ended = stopping => ended,
        ended = hurried => ended,
        () = systemd::keep_saying_what_is_left(warden) => Ended::Stopped,
    }
}
