//! One run: keys from Postgres, loaded in batches at the declared pace, as long as anything can be loaded.

use super::WarmError;
use super::board::Tally;
use super::courtesy::{self, Courtesy, Readers};
use super::keys::Keys;
use super::pace::Pace;
use super::plan::Plan;
use crate::cache::{MAX_WARM_KEYS, Manner, Warmed, Warming};
use crate::keyspace::{RoutedKey, Router, SpaceId};
use crate::repository::{HotKeys, LoadError, WarmKeys};
use crate::store::StoreError;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Keys of the first batch: what a key costs is not known yet.
const FIRST_BATCH: usize = 64;
/// What a batch is meant to take. Longer ones are cut smaller, so that no key meets its `load_timeout` for its neighbours' sake.
const BATCH_TIME: Duration = Duration::from_millis(200);
/// Batches in a row of which no key was loaded, and the time they may take, before the run is given up.
const MAX_VAIN: u32 = 20;
const VAIN_TIME: Duration = Duration::from_secs(30);
/// The pause after such a batch: the first, doubled up to the longest, each jittered by half.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// What all runs work with.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) warming: Warming,
    pub(super) source: WarmKeys,
    pub(super) hot: HotKeys,
    pub(super) router: Arc<Router>,
    pub(super) courtesy: Courtesy,
}

/// A batch that came back.
struct Batch {
    keys: Vec<RoutedKey>,
    took: Duration,
    /// `None`: it panicked.
    warmed: Option<Result<Vec<Warmed>, StoreError>>,
}

/// The batches that have not come back. Dropped with their run, each comes to its own end: left to expire, its leases would keep
/// its keys from the next run, and from who reads them.
struct UnderWay(JoinSet<Batch>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.detach_all();
    }
}

/// One run under way.
pub(super) struct Run<'a> {
    plan: &'a Plan,
    tools: &'a Tools,
    tally: &'a Tally,
    force: bool,
    pace: Pace,
    readers: Readers,
    batch: usize,
    vain: Vain,
}

/// Batches in a row that came back with nothing.
#[derive(Default)]
struct Vain {
    batches: u32,
    since: Option<Instant>,
}

impl<'a> Run<'a> {
    pub(super) fn new(plan: &'a Plan, tools: &'a Tools, tally: &'a Tally, force: bool) -> Self {
        Self {
            plan,
            tools,
            tally,
            force,
            pace: Pace::new(plan.warm.rate, Instant::now()),
            readers: tools.courtesy.readers(),
            batch: FIRST_BATCH,
            vain: Vain::default(),
        }
    }

    /// Warms all keys; what was left out, if anything. May be dropped: no batch begins after that.
    ///
    /// # Errors
    /// If it had to be given up. The tally says how far it came.
    pub(super) async fn go(mut self) -> Result<Option<String>, WarmError> {
        let tools = self.tools;
        let mut keys = Keys::open(self.plan, tools, self.tally).await?;
        let mut under_way = UnderWay(JoinSet::new());
        loop {
            loop {
                let manner = tools.courtesy.manner(&mut self.readers).await;
                if under_way.0.len() >= courtesy::batches(manner) {
                    break;
                }
                let batch = keys.next(self.most_keys(manner)).await?;
                if batch.is_empty() {
                    break;
                }
                sleep(self.pace.wait(batch.len(), Instant::now())).await;
                tools.courtesy.give_way().await;
                let how = (manner, self.force);
                under_way
                    .0
                    .spawn_local(warm(tools.clone(), self.plan.space, batch, how));
            }
            let Some(batch) = under_way.0.join_next().await else {
                return Ok(keys.left_out());
            };
            let Ok(batch) = batch else { continue }; // never: it catches its own panic, and nobody ends it
            let again = self.account(batch)?;
            if !again.is_empty() {
                keys.put_back(again);
                sleep(self.vain.pause()).await;
            }
        }
    }

    fn most_keys(&self, manner: Manner) -> usize {
        let most = self.tools.warming.most_keys(self.plan.space);
        let most = most.min(courtesy::most_keys(manner));
        self.batch.min(most).min(self.pace.most())
    }

    /// Counts what came back; the keys that are to be tried again.
    fn account(&mut self, batch: Batch) -> Result<Vec<RoutedKey>, WarmError> {
        let warmed = match batch.warmed {
            Some(Ok(warmed)) => warmed,
            Some(Err(error)) => {
                self.vain.another(|_, _| error.into())?;
                return Ok(batch.keys);
            }
            None => {
                for key in &batch.keys {
                    self.tally.fail(|| named(key, "its load panicked"));
                }
                return Ok(Vec::new());
            }
        };
        if let Some(error) = nothing_loaded(&warmed) {
            self.vain.another(|batches, took| WarmError::InVain {
                batches,
                took,
                last: error.clone(),
            })?;
            let may_help = match error {
                LoadError::Unavailable { .. } | LoadError::Busy { .. } => true,
                LoadError::TimedOut { .. } => batch.keys.len() > 1,
                LoadError::Refused { .. } | LoadError::TooLarge { .. } => false,
            };
            if may_help {
                self.batch = (batch.keys.len() / 2).max(1);
                return Ok(batch.keys);
            }
        } else {
            self.vain = Vain::default();
            self.learn(batch.keys.len(), batch.took);
        }
        for (key, warmed) in batch.keys.iter().zip(warmed) {
            self.count(key, warmed);
        }
        Ok(Vec::new())
    }

    fn count(&self, key: &RoutedKey, warmed: Warmed) {
        match warmed {
            Warmed::Loaded => _ = self.tally.loaded.fetch_add(1, Relaxed),
            Warmed::Fresh | Warmed::Busy => _ = self.tally.skipped.fetch_add(1, Relaxed),
            Warmed::NotLoaded(error) => self.tally.fail(|| named(key, &error.to_string())),
            Warmed::TooLarge(bytes) => self
                .tally
                .fail(|| named(key, &format!("its {bytes} bytes are more than max_value"))),
        }
    }

    /// A batch twice as large, if that should not take too long; or smaller, if this one did.
    fn learn(&mut self, keys: usize, took: Duration) {
        if took > BATCH_TIME {
            self.batch = (keys / 2).max(1);
        } else if took * 2 < BATCH_TIME && keys >= self.batch {
            self.batch = (keys * 2).min(MAX_WARM_KEYS);
        }
    }
}

impl Vain {
    /// One more; Err: that is enough.
    fn another(&mut self, why: impl FnOnce(u32, Duration) -> WarmError) -> Result<(), WarmError> {
        self.batches += 1;
        let took = self.since.get_or_insert_with(Instant::now).elapsed();
        match self.batches >= MAX_VAIN || took > VAIN_TIME {
            true => Err(why(self.batches, took)),
            false => Ok(()),
        }
    }

    fn pause(&self) -> Duration {
        let doublings = self.batches.saturating_sub(1).min(16);
        let pause = FIRST_PAUSE.saturating_mul(1 << doublings);
        pause
            .min(LONGEST_PAUSE)
            .mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

async fn warm(tools: Tools, space: SpaceId, keys: Vec<RoutedKey>, how: (Manner, bool)) -> Batch {
    let (manner, _) = how;
    let _turn = tools.courtesy.turn(manner).await;
    let began = Instant::now();
    // A panic is a fault of ours: the keys are left to who reads them, and the run goes on.
    let warmed = AssertUnwindSafe(tools.warming.warm(space, &keys, how));
    let warmed = warmed.catch_unwind().await.ok();
    let took = began.elapsed();
    sleep(courtesy::rest(manner, took)).await;
    Batch { keys, took, warmed }
}

/// A key that failed, as it is told.
fn named(key: &RoutedKey, why: &str) -> String {
    format!("`{}`: {why}", String::from_utf8_lossy(&key.key))
}

/// Why none of the keys was loaded that had to be, if so.
fn nothing_loaded(warmed: &[Warmed]) -> Option<LoadError> {
    let mut why = None;
    for warmed in warmed {
        match warmed {
            Warmed::Fresh | Warmed::Busy => {}
            Warmed::Loaded | Warmed::TooLarge(_) => return None,
            Warmed::NotLoaded(error) => why = Some(error.clone()),
        }
    }
    why
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a batch more that came to nothing is one too many.
    fn is_enough(vain: &mut Vain) -> bool {
        let why = |batches, took| WarmError::InVain {
            batches,
            took,
            last: LoadError::TimedOut { after_ms: 1 },
        };
        vain.another(why).is_err()
    }

    #[test]
    fn what_is_in_vain_is_given_up_after_so_many_batches_or_so_long() {
        let mut vain = Vain::default();
        let given_up = (1..=2 * MAX_VAIN).find(|_| is_enough(&mut vain));
        assert_eq!(given_up, Some(MAX_VAIN));
        let long_ago = Instant::now().checked_sub(VAIN_TIME + Duration::from_secs(1));
        let mut vain = Vain {
            batches: 1,
            since: long_ago,
        };
        assert!(is_enough(&mut vain));
    }

    #[test]
    fn until_then_it_is_tried_later_and_later() {
        let mut vain = Vain::default();
        let mut longest = FIRST_PAUSE;
        for _ in 0..MAX_VAIN {
            is_enough(&mut vain);
            let pause = vain.pause();
            assert!(longest / 2 <= pause && pause <= longest, "{pause:?}");
            longest = (longest * 2).min(LONGEST_PAUSE);
        }
    }
}
