//! Remembers, for all daemons and those to come, which keys of a cache this one is asked for most.

use super::plan::Plan;
use super::run::Tools;
use crate::repository::RepositoryError;
use bytes::Bytes;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How often: what was counted since is lost with a daemon that is killed.
const REMEMBER_EVERY: Duration = Duration::from_secs(10);
/// What a stop waits for it, at most.
const LAST_TIME: Duration = Duration::from_secs(2);

/// Remembers again and again; runs until dropped.
pub(super) async fn keep_remembering(plans: impl AsRef<[Plan]>, tools: Tools) {
    let mut was_told = false;
    loop {
        sleep(REMEMBER_EVERY).await;
        match remember(plans.as_ref(), &tools).await {
            Ok(()) => was_told = false,
            // Once, however long Postgres is away.
            Err(error) if !was_told => {
                was_told = true;
                tracing::warn!(%error, "the hottest keys are not remembered");
            }
            Err(_) => {}
        }
    }
}

/// Once more, at the end.
pub(super) async fn remember_at_last(plans: impl AsRef<[Plan]>, tools: Tools) {
    let remembered = timeout(LAST_TIME, remember(plans.as_ref(), &tools)).await;
    if !matches!(remembered, Ok(Ok(()))) {
        tracing::warn!("the hottest keys of the last seconds are not remembered");
    }
}

/// Those of all caches; the first error, if any.
async fn remember(plans: &[Plan], tools: &Tools) -> Result<(), RepositoryError> {
    let mut first = Ok(());
    for plan in plans.iter().filter(|plan| plan.warm.hot > 0) {
        let hottest = tools.warming.hottest(plan.space);
        // A key that is no text for Postgres is none of the cache's either, and was not counted.
        let text = |(count, key): (u32, Bytes)| {
            let key = String::from_utf8(key.into()).ok()?;
            Some((key, i64::from(count)))
        };
        let (keys, requests): (Vec<String>, Vec<i64>) =
            hottest.into_iter().filter_map(text).unzip();
        if !keys.is_empty() {
            let remembered = tools.hot.remember(&plan.name, keys, requests).await;
            first = first.and(remembered);
        }
    }
    first
}
