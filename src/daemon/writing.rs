//! What programs save and delete through the library.

use super::error::WardenError;
use super::warden::{Warden, within_limit};
use crate::cache::{Remove, Save};
use bytes::Bytes;
use serde::Serialize;
use std::sync::Arc;

impl Warden {
    /// Saves a value under a key of a cache that declares `write.save`; what that makes outdated is invalidated.
    ///
    /// # Errors
    /// See [`WardenError`]. If the commit was not confirmed, it may be saved all the same.
    pub async fn save<T: Serialize>(&self, key: &str, value: &T) -> Result<(), WardenError> {
        self.save_all(&[(key, value)]).await
    }

    /// Saves values under keys of caches that declare `write.save`, all of them in one transaction or none.
    ///
    /// # Errors
    /// See [`save`](Warden::save).
    pub async fn save_all<T: Serialize>(&self, values: &[(&str, T)]) -> Result<(), WardenError> {
        within_limit(values.len())?;
        let values: Result<Vec<_>, WardenError> = values
            .iter()
            .map(|(key, value)| {
                let json = serde_json::to_vec(value).map_err(|why| WardenError::Encode {
                    key: (*key).to_owned(),
                    why: Arc::new(why),
                })?;
                Ok((self.route(key)?, Bytes::from(json)))
            })
            .collect();
        let save = Save { values: values? };
        Ok(self.actor().save.ask(save).await??)
    }

    /// Deletes the rows of keys of caches that declare `write.delete`, all of them in one transaction or none; what that makes
    /// outdated is invalidated. Returns how many rows there were.
    ///
    /// # Errors
    /// See [`save`](Warden::save).
    pub async fn remove(&self, keys: &[&str]) -> Result<u64, WardenError> {
        let keys = self.route_all(keys)?;
        Ok(self.actor().remove.ask(Remove { keys }).await??)
    }
}
