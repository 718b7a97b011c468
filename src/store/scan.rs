//! A page of all keys, for who walks slowly: the walk may go on after the connection was lost, and even on another server,
//! where it meets some keys twice and misses some.

use super::pinned::page;
use super::{Page, Store, StoreError};

impl Store {
    /// The page of all keys that begins at `cursor`, of about `count` keys.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn scan(&self, cursor: u64, count: usize) -> Result<Page, StoreError> {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("COUNT").arg(count);
        page("SCAN", self.command("SCAN", &scan).await?)
    }

    /// How many keys there are, of whatever kind.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn key_count(&self) -> Result<u64, StoreError> {
        let reply = self.command("DBSIZE", &redis::cmd("DBSIZE")).await?;
        super::pinned::number("DBSIZE", reply)
    }
}
