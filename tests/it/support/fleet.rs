//! Daemons that know of each other.

use super::DEADLINE;
use super::eventually::eventually;
use super::resp::{Client, Value};

/// When each daemon has registered last.
pub async fn registrations(raw: &mut Client) -> Vec<String> {
    let all = raw
        .command(&["ZRANGE", "cachewarden:instances", "0", "-1", "WITHSCORES"])
        .await;
    let Value::Array(words) = all else {
        panic!("{all:?}")
    };
    words
        .chunks(2)
        .map(|pair| pair[1].text().to_owned())
        .collect()
}

/// Waits until all `daemons` are registered, and each has registered again since.
pub async fn until_acquainted(raw: &mut Client, daemons: usize) {
    let all = eventually(DEADLINE, async || match registrations(raw).await {
        all if all.len() == daemons => Ok(all),
        seen => Err(seen),
    })
    .await;
    eventually(DEADLINE, async || match registrations(raw).await {
        since if since.iter().all(|at| !all.contains(at)) => Ok(()),
        seen => Err(seen),
    })
    .await;
}
