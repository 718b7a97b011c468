//! Runs programs' loaders: each in a task of its own, as many at once as their namespace may.

use super::CacheError;
use super::messages::Want;
use super::spaces::{Space, Spaces};
use crate::repository::{Admission, LoadError};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// The loaders of one shard's namespaces. Outlives its actor, as a loader does that hangs.
#[derive(Clone)]
pub(super) struct Loaders {
    runtime: Handle,
    /// A space each: as many permits as loaders may run at once in good times.
    places: Arc<[Arc<Semaphore>]>,
}

/// A loader that runs; `None` where there is none to run.
pub(super) type Running = Option<JoinHandle<Result<Option<Bytes>, String>>>;

impl Loaders {
    /// Loaders run on `runtime`.
    pub(super) fn new(spaces: &Spaces, runtime: Handle) -> Self {
        let places = |space: &Space| Arc::new(Semaphore::new(most(space, Admission::Wait)));
        Self {
            runtime,
            places: spaces.iter().map(places).collect(),
        }
    }

    /// Starts the loader of `want`, unless as many of its space run as may.
    pub(super) fn start(
        &self,
        want: &Want,
        space: &Space,
        admission: Admission,
    ) -> Result<Running, CacheError> {
        let Some(loader) = want.loader.clone() else {
            return Ok(None);
        };
        let places = &self.places[usize::from(want.key.space.0)];
        let running = most(space, Admission::Wait) - places.available_permits();
        let place = match running < most(space, admission) {
            true => Arc::clone(places).try_acquire_owned().ok(),
            false => None,
        };
        let Some(place) = place else {
            return Err(CacheError::Load(LoadError::Busy {
                cache: space.name.as_str().into(),
                limit: space.max_loads,
            }));
        };
        // A task of its own contains a loader's panic; it keeps its place for as long as it really runs.
        Ok(Some(self.runtime.spawn(async move {
            let _place = place;
            loader.call().await
        })))
    }
}

/// What a started loader brings, if it does so in time.
pub(super) async fn finish(
    started: Result<Running, CacheError>,
    timeout: Duration,
) -> Result<Option<Bytes>, CacheError> {
    let Some(mut running) = started? else {
        return Ok(None);
    };
    match tokio::time::timeout(timeout, &mut running).await {
        Ok(Ok(loaded)) => loaded.map_err(CacheError::Loader),
        Ok(Err(_panicked)) => Err(CacheError::LoaderPanicked),
        Err(_elapsed) => {
            running.abort();
            let after_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            Err(CacheError::TimedOut { after_ms })
        }
    }
}

fn most(space: &Space, admission: Admission) -> usize {
    admission.most(space.max_loads)
}
