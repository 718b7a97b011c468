//! Keeps true that what is installed in the database is what the configuration declares.
//!
//! 1. The database's own catalog says what is installed; no list of ours could disagree with it
//!    (`catalog`). A function is named after what it does, so one that is there does what it should.
//! 2. Nothing is changed when the configuration and the database do not fit together (`plan`).
//! 3. A table is changed in one transaction: at no time does a change of a row go unseen. Whoever
//!    must wait long for a table gives up, for writers would wait behind it.
//! 4. A trigger never refuses a writer: what it cannot name it invalidates as a pattern
//!    (`definition`).
//!
//! ```text
//! watches ─┐
//!          ├ plan: problems, steps ─→ check: tells them;  migrate: takes the steps
//! catalog ─┘
//! ```

mod catalog;
mod definition;
mod doorbell;
mod migrations;
mod plan;
mod triggers;

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_postgres::Client;

use super::RepositoryError;
use super::connect::Connector;
use super::dsn::Dsn;
use super::error::describe;
use crate::config;
use catalog::Catalog;
use plan::Wanted;
pub use plan::{Plan, Step, WatchProblem};

/// Held while steps are taken, so that two that install do so one after the other. Any number will
/// do that others do not use.
const LOCK: i64 = 0x6361_6368_6577;

/// Compares what the configuration declares with what is installed, and installs it.
pub struct Installer {
    reading: Connector,
    writing: Arc<Connector>,
    watches: Vec<config::Watch>,
    wanted: Wanted,
    runtime: Handle,
}

impl Installer {
    /// Makes an installer. No connection is made yet; their drivers will run on `runtime`.
    ///
    /// # Errors
    /// If the URL cannot be used.
    pub fn new(
        postgres: &config::Postgres,
        invalidation: &config::Invalidation,
        runtime: Handle,
    ) -> Result<Self, RepositoryError> {
        let dsn = || Dsn::parse(postgres.url.expose());
        Ok(Self {
            reading: Connector::reading(dsn()?, postgres.statement_timeout),
            writing: Arc::new(Connector::installing(dsn()?)),
            watches: invalidation.watches.clone(),
            wanted: Wanted {
                max_keys: invalidation.max_keys,
                notify: invalidation.notify,
                fences: false,
                writes: false,
            },
            runtime,
        })
    }

    /// The same, where locks need fencing tokens: it is a flaw that none can be minted.
    #[must_use]
    pub fn with_fences(mut self, are_needed: bool) -> Self {
        self.wanted.fences = are_needed;
        self
    }

    /// The same, where what clients write is queued: it is a flaw that there is no queue.
    #[must_use]
    pub fn with_writes(mut self, are_declared: bool) -> Self {
        self.wanted.writes = are_declared;
        self
    }

    /// What is wrong with the watches, and what would be done about it. Changes nothing.
    ///
    /// # Errors
    /// If Postgres cannot be reached, or is lost on the way.
    pub async fn plan(self: &Arc<Self>) -> Result<Plan, RepositoryError> {
        self.on_runtime(|this| async move {
            let client = this
                .reading
                .client()
                .await
                .map_err(RepositoryError::Connect)?;
            this.compare(&client).await
        })
        .await
    }

    /// Installs what is declared. The plan's steps have been taken, if it has no problems.
    ///
    /// # Errors
    /// If Postgres cannot be reached or refuses a step; those before it have been taken.
    pub async fn migrate(self: &Arc<Self>) -> Result<Plan, RepositoryError> {
        self.on_runtime(|this| async move {
            let client = this.locked().await?;
            let plan = this.compare(&client).await?;
            if plan.problems.is_empty() {
                for step in &plan.steps {
                    this.take(&client, step).await?;
                }
            }
            Ok(plan)
        })
        .await
    }

    /// The steps that take away all that was ever installed.
    ///
    /// # Errors
    /// If Postgres cannot be reached, or is lost on the way; if there are dead writes.
    pub async fn plan_uninstall(self: &Arc<Self>) -> Result<Vec<Step>, RepositoryError> {
        self.on_runtime(|this| async move {
            let client = this
                .reading
                .client()
                .await
                .map_err(RepositoryError::Connect)?;
            uninstalling(&client).await
        })
        .await
    }

    /// Takes away all that was ever installed; the steps have been taken.
    ///
    /// # Errors
    /// If Postgres cannot be reached or refuses, or if there are dead writes: then nothing has been taken away.
    pub async fn uninstall(self: &Arc<Self>) -> Result<Vec<Step>, RepositoryError> {
        self.on_runtime(|this| async move {
            let client = this.locked().await?;
            let steps = uninstalling(&client).await?;
            for step in &steps {
                this.take(&client, step).await?;
            }
            Ok(steps)
        })
        .await
    }

    async fn compare(&self, client: &Client) -> Result<Plan, RepositoryError> {
        let catalog = look(client, &self.watches).await?;
        Ok(plan::compare(&catalog, &self.wanted, &self.watches))
    }

    /// A connection that nobody else installs beside, for as long as it lives.
    async fn locked(&self) -> Result<Client, RepositoryError> {
        let client = self
            .writing
            .client()
            .await
            .map_err(RepositoryError::Connect)?;
        let locked = client
            .execute("SELECT pg_advisory_lock($1)", &[&LOCK])
            .await;
        locked.map_err(|error| RepositoryError::Step {
            title: "wait for another `cachewarden migrate`".to_owned(),
            message: describe(&error),
        })?;
        Ok(client)
    }

    async fn take(&self, client: &Client, step: &Step) -> Result<(), RepositoryError> {
        let taken = if step.is_migration {
            migrations::run(&self.writing).await
        } else {
            // A text of several statements is one transaction.
            let ran = client.batch_execute(&step.sql).await;
            ran.map_err(|error| describe(&error))
        };
        taken.map_err(|message| RepositoryError::Step {
            title: step.title.clone(),
            message,
        })
    }

    /// Runs where drivers may be spawned, and to its end even if the caller goes away.
    async fn on_runtime<T: Send + 'static, F>(
        self: &Arc<Self>,
        task: impl FnOnce(Arc<Self>) -> F,
    ) -> Result<T, RepositoryError>
    where
        F: Future<Output = Result<T, RepositoryError>> + Send + 'static,
    {
        let done = self.runtime.spawn(task(Arc::clone(self))).await;
        done.map_err(|_cancelled| RepositoryError::Stopped)?
    }
}

/// Only people remove dead writes: with their table, what somebody was told is saved would be lost unseen.
async fn uninstalling(client: &Client) -> Result<Vec<Step>, RepositoryError> {
    let catalog = look(client, &[]).await?;
    match dead_writes(client).await {
        Ok(0) => Ok(plan::uninstall(&catalog)),
        Ok(count) => Err(RepositoryError::DeadWrites { count }),
        Err(error) => Err(RepositoryError::Step {
            title: "count dead writes".to_owned(),
            message: describe(&error),
        }),
    }
}

async fn dead_writes(client: &Client) -> Result<i64, tokio_postgres::Error> {
    let is_there = "SELECT to_regclass('cachewarden.dead_writes') IS NOT NULL";
    if !client.query_one(is_there, &[]).await?.try_get(0)? {
        return Ok(0);
    }
    let count = "SELECT count(*) FROM cachewarden.dead_writes";
    client.query_one(count, &[]).await?.try_get(0)
}

async fn look(client: &Client, watches: &[config::Watch]) -> Result<Catalog, RepositoryError> {
    let catalog = catalog::read(client, watches).await;
    catalog.map_err(|message| match client.is_closed() {
        true => RepositoryError::Connect(message),
        false => RepositoryError::Step {
            title: "show what is installed".to_owned(),
            message,
        },
    })
}
