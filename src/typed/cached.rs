//! A repository behind a cache.

use super::Error;
use crate::daemon::Warden;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;

/// What reads and writes one kind of entity in the database. Errors are told in their own words.
pub trait Repository: Send + Sync + 'static {
    /// What a row is to the program. Cached as JSON.
    type Entity: Serialize + DeserializeOwned + Send + Sync;
    /// What tells entities apart. Its text becomes part of a key: no spaces, braces, control characters, nor what means
    /// something in a pattern (`*`, `?`, `[`, `\`).
    type Id: Display + Send + Sync + Clone + 'static;
    /// Why the database has no answer.
    type Error: std::error::Error + Send;

    /// The id of an entity.
    fn id(entity: &Self::Entity) -> Self::Id;

    /// Reads an entity; `None` if there is none. Reads anew each time it is called: what came before may be outdated.
    fn find_by_id(
        &self,
        id: &Self::Id,
    ) -> impl Future<Output = Result<Option<Self::Entity>, Self::Error>> + Send;

    /// Reads the entities of a page, in an order of its own that does not change.
    fn find_page(
        &self,
        page: Page,
    ) -> impl Future<Output = Result<Vec<Self::Entity>, Self::Error>> + Send;

    /// Inserts or updates an entity, and returns once that is committed, with the entity as it is now.
    fn save(
        &self,
        entity: Self::Entity,
    ) -> impl Future<Output = Result<Self::Entity, Self::Error>> + Send;

    /// Removes an entity, and returns once that is committed: whether there was one.
    fn delete(&self, id: &Self::Id) -> impl Future<Output = Result<bool, Self::Error>> + Send;
}

/// Which entities of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    page: u32,
    limit: u32,
}

impl Page {
    /// The most entities of a page.
    pub const MAX_LIMIT: u32 = 10_000;

    /// The `page`-th page, from 1, of `limit` entities each.
    ///
    /// # Errors
    /// [`Error::NoPage`], if there is no such page.
    pub fn new<E: std::error::Error>(page: u32, limit: u32) -> Result<Self, Error<E>> {
        if page == 0 || !(1..=Self::MAX_LIMIT).contains(&limit) {
            return Err(Error::NoPage { page, limit });
        }
        Ok(Self { page, limit })
    }

    /// How many entities it holds at most.
    pub fn limit(self) -> i64 {
        i64::from(self.limit)
    }

    /// How many entities come before it.
    pub fn offset(self) -> i64 {
        (i64::from(self.page) - 1) * i64::from(self.limit)
    }
}

/// A repository behind a cache. Cheap to clone.
pub struct CacheRepository<R> {
    warden: Warden,
    repository: Arc<R>,
    /// The namespace's, colon included.
    prefix: Arc<str>,
}

impl<R> Clone for CacheRepository<R> {
    fn clone(&self) -> Self {
        Self {
            warden: self.warden.clone(),
            repository: Arc::clone(&self.repository),
            prefix: Arc::clone(&self.prefix),
        }
    }
}

impl<R: Repository> CacheRepository<R> {
    /// Caches what `repository` answers under `prefix`: that of a `[namespaces.*]`, colon included. Entities live for its
    /// `ttl`.
    pub fn new(warden: Warden, prefix: &str, repository: R) -> Self {
        Self {
            warden,
            repository: Arc::new(repository),
            prefix: Arc::from(prefix),
        }
    }

    /// The entity, from the cache or loaded once for all who ask. That there is none is not remembered.
    ///
    /// # Errors
    /// [`Error::Cache`], also with the repository's words if it could not be read.
    pub async fn find_by_id(&self, id: &R::Id) -> Result<Option<R::Entity>, Error<R::Error>> {
        let (repository, id) = (Arc::clone(&self.repository), id.clone());
        let key = self.key(&id)?;
        let load = move || {
            let (repository, id) = (Arc::clone(&repository), id.clone());
            async move {
                let found = repository.find_by_id(&id).await;
                found.map_err(|error| error.to_string())
            }
        };
        let found = self.warden.get_or_load(&key, None, load).await;
        found.map_err(Error::Cache)
    }

    /// The `page`-th page, from 1, of `limit` entities each; the same way.
    ///
    /// # Errors
    /// [`Error::NoPage`], or [`Error::Cache`] as for [`Self::find_by_id`].
    pub async fn find_page(
        &self,
        page: u32,
        limit: u32,
    ) -> Result<Vec<R::Entity>, Error<R::Error>> {
        let wanted = Page::new(page, limit)?;
        let repository = Arc::clone(&self.repository);
        let key = format!("{}page:{page}:limit:{limit}", self.prefix);
        let load = move || {
            let repository = Arc::clone(&repository);
            async move {
                let found = repository.find_page(wanted).await;
                found.map(Some).map_err(|error| error.to_string())
            }
        };
        let found = self.warden.get_or_load(&key, None, load).await;
        Ok(found.map_err(Error::Cache)?.unwrap_or_default())
    }

    /// Writes an entity, and forgets what that outdates before it returns.
    ///
    /// # Errors
    /// [`Error::Repository`] if nothing was written; [`Error::NotForgotten`] if it was.
    pub async fn save(&self, entity: R::Entity) -> Result<R::Entity, Error<R::Error>> {
        let id = R::id(&entity);
        self.key(&id)?;
        let saved = self.repository.save(entity).await;
        // Also after an error: the connection may have been lost behind the commit.
        let forgotten = self.forget(&id).await;
        let saved = saved.map_err(Error::Repository)?;
        forgotten?;
        let given = R::id(&saved);
        if given.to_string() != id.to_string() {
            // By the database.
            self.forget(&given).await?;
        }
        Ok(saved)
    }

    /// Removes an entity, and forgets what that outdates before it returns. Whether there was one.
    ///
    /// # Errors
    /// [`Error::Repository`] if nothing was removed; [`Error::NotForgotten`] if it was.
    pub async fn delete(&self, id: &R::Id) -> Result<bool, Error<R::Error>> {
        self.key(id)?;
        let deleted = self.repository.delete(id).await;
        let forgotten = self.forget(id).await;
        let deleted = deleted.map_err(Error::Repository)?;
        forgotten.map(|()| deleted)
    }

    /// Forgets an entity and all pages, in all daemons.
    ///
    /// # Errors
    /// [`Error::NotForgotten`].
    pub async fn forget(&self, id: &R::Id) -> Result<(), Error<R::Error>> {
        let (key, pages) = (self.key(id)?, format!("{}page:*", self.prefix));
        let forgotten = self.warden.invalidate(&[&key, &pages]).await;
        forgotten.map(drop).map_err(Error::NotForgotten)
    }

    fn key(&self, id: &R::Id) -> Result<String, Error<R::Error>> {
        let id = id.to_string();
        match id.contains(['*', '?', '[', '\\']) {
            true => Err(Error::BadId { id }),
            false => Ok(format!("{}id:{id}", self.prefix)),
        }
    }
}
