//! The threads beside the arbiters, and how many there are of each.

use super::error::StartError;
use actix_rt::Arbiter;
use std::time::Duration;
use tokio::runtime;
use tokio::sync::oneshot;

/// Arbiters that were told to stop are done with this; one that is not has a task that blocks its thread.
const JOIN_DEADLINE: Duration = Duration::from_secs(2);

/// The threads of Postgres' connections and of programs' loaders.
pub(super) struct IoThreads {
    handle: runtime::Handle,
    runtime: Option<runtime::Runtime>,
}

impl IoThreads {
    pub(super) fn start() -> Result<Self, StartError> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(half_of_the_cores())
            .thread_name("cachewarden-io")
            .enable_all()
            .build()
            .map_err(StartError::Thread)?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// What spawns on them.
    pub(super) fn handle(&self) -> runtime::Handle {
        self.handle.clone()
    }
}

impl Drop for IoThreads {
    fn drop(&mut self) {
        // A runtime that is merely dropped waits for its threads, which panics in a task: and tasks are where a start
        // fails.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Half, because the other half has work, too: clients, the kernel, often Redis. Measured on two cores shared with all of
/// them: a second serving thread made every request dearer and none quicker, for batches got smaller and misses changed threads.
pub(super) fn half_of_the_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

/// Stops the arbiters and waits for their threads. Whether all of them have ended in time.
pub(super) async fn have_ended(arbiters: Vec<Arbiter>) -> bool {
    for arbiter in &arbiters {
        arbiter.stop();
    }
    let (joined, all) = oneshot::channel();
    // No task of the runtime, whose own end would wait for it: a blocked thread must not hold up the process.
    let joining = std::thread::Builder::new().spawn(move || {
        for arbiter in arbiters {
            // A thread that panicked has said so already.
            let _joined = arbiter.join();
        }
        let _nobody_waits = joined.send(());
    });
    joining.is_ok() && tokio::time::timeout(JOIN_DEADLINE, all).await.is_ok()
}

/// What a stop left behind: nothing, if it was clean.
pub(super) struct Left {
    pub(super) names: Vec<String>,
}
