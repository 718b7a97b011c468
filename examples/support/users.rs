//! A diesel repository of users, as a service has it: nothing in here knows of a cache.

use cachewarden::typed::{Page, Repository};
use diesel::prelude::*;
use diesel::result::Error as DieselError;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The table, to be created.
pub const SCHEMA: &str =
    "CREATE TABLE example_users (id bigint PRIMARY KEY, name text NOT NULL CHECK (name <> ''))";

diesel::table! {
    #[sql_name = "example_users"]
    users (id) {
        id -> BigInt,
        name -> Text,
    }
}

/// A row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Queryable, Insertable, AsChangeset)]
#[diesel(table_name = users)]
pub struct User {
    pub id: i64,
    pub name: String,
}

/// All of them.
pub struct Users {
    pool: Pool<AsyncPgConnection>,
    queries: Arc<AtomicU64>,
}

/// Why the database has no answer.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    #[error("{0}")]
    Connection(String),
    #[error("{0}")]
    Query(#[from] DieselError),
}

impl Users {
    /// In the database of this URL. `queries` counts what is asked of it.
    pub fn new(url: &str, queries: Arc<AtomicU64>) -> Result<Self, UsersError> {
        let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(url);
        let pool = Pool::builder(manager).max_size(4).build();
        let pool = pool.map_err(|error| UsersError::Connection(error.to_string()))?;
        Ok(Self { pool, queries })
    }

    async fn connection(
        &self,
    ) -> Result<impl std::ops::DerefMut<Target = AsyncPgConnection>, UsersError> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        let connection = self.pool.get().await;
        connection.map_err(|error| UsersError::Connection(error.to_string()))
    }
}

impl Repository for Users {
    type Entity = User;
    type Id = i64;
    type Error = UsersError;

    fn id(user: &User) -> i64 {
        user.id
    }

    async fn find_by_id(&self, id: &i64) -> Result<Option<User>, UsersError> {
        let mut connection = self.connection().await?;
        let found = users::table.find(id).first(&mut *connection).await;
        Ok(found.optional()?)
    }

    async fn find_page(&self, page: Page) -> Result<Vec<User>, UsersError> {
        let mut connection = self.connection().await?;
        let found = users::table
            .order(users::id)
            .limit(page.limit())
            .offset(page.offset());
        Ok(found.load(&mut *connection).await?)
    }

    async fn save(&self, user: User) -> Result<User, UsersError> {
        let mut connection = self.connection().await?;
        let saving = diesel::insert_into(users::table)
            .values(&user)
            .on_conflict(users::id)
            .do_update()
            .set(&user);
        Ok(saving.get_result(&mut *connection).await?)
    }

    async fn delete(&self, id: &i64) -> Result<bool, UsersError> {
        let mut connection = self.connection().await?;
        let deleting = diesel::delete(users::table.find(id));
        Ok(deleting.execute(&mut *connection).await? > 0)
    }
}
