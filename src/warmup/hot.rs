//! Remembers, for all daemons and those to come, which keys of a cache this one is asked for most.

use super::plan::Plan;
use super::run::Tools;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How often: what was counted since is lost with a daemon that is killed.
const REMEMBER_EVERY: Duration = Duration::from_secs(10);
/// What a stop waits for it, at most.
const LAST_TIME: Duration = Duration::from_secs(2);

/// Remembers again and again; runs until dropped.
pub(super) async fn keep_remembering(plans: impl AsRef<[Plan]>, tools: Tools) {
    loop {
        sleep(REMEMBER_EVERY).await;
        remember(plans.as_ref(), &tools).await;
    }
}

/// Once more, at the end.
pub(super) async fn remember_at_last(plans: impl AsRef<[Plan]>, tools: Tools) {
    if timeout(LAST_TIME, remember(plans.as_ref(), &tools))
        .await
        .is_err()
    {
        tracing::warn!("the hottest keys are not remembered: postgres does not answer");
    }
}

async fn remember(plans: &[Plan], tools: &Tools) {
    for plan in plans.iter().filter(|plan| plan.warm.hot > 0) {
        let hottest = tools.warming.hottest(plan.space);
        // What is no text is no key that Postgres could name.
        let text = |(count, key): (u32, bytes::Bytes)| {
            let key = std::str::from_utf8(&key).ok()?.to_owned();
            Some((key, i64::from(count)))
        };
        let (keys, requests): (Vec<String>, Vec<i64>) =
            hottest.into_iter().filter_map(text).unzip();
        if keys.is_empty() {
            continue;
        }
        let cache = &plan.name;
        if let Err(error) = tools.hot.remember(cache, keys, requests).await {
            tracing::warn!(%error, "the hottest keys of `{cache}` are not remembered");
        }
    }
}
