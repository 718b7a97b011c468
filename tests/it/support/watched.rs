//! A database with watched tables, and what its triggers have queued.

use cachewarden::cli::demo::servers::{Postgres, PostgresOptions};
use tokio_postgres::Client;

use super::DEADLINE;
use super::daemon::{cachewarden, config, said};
use super::eventually::eventually;
use super::servers::{Database, database, database_in, own_postgres};

/// A database in which `cachewarden migrate` was run.
pub struct Watched {
    pub database: Database,
    pub client: Client,
    /// The configuration's text.
    pub config: String,
}

/// What one statement queued.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queued {
    pub keys: Vec<String>,
    pub patterns: Vec<String>,
}

/// Keys and patterns, for comparing.
pub fn queued(keys: &[&str], patterns: &[&str]) -> Queued {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Queued {
        keys: owned(keys),
        patterns: owned(patterns),
    }
}

impl Watched {
    /// Runs `sql` in a new database, then `cachewarden migrate` with these sections.
    pub async fn start(sql: &str, sections: &str) -> Self {
        let watched = Self::unmigrated(sql, sections).await;
        watched.migrate().await;
        watched
    }

    /// The same on a Postgres that nobody else uses.
    pub async fn start_apart(sql: &str, sections: &str) -> (Postgres, Self) {
        let postgres = own_postgres(&PostgresOptions::default());
        let watched = Self::unmigrated_in(database_in(&postgres).await, sql, sections).await;
        watched.migrate().await;
        (postgres, watched)
    }

    /// The same without `migrate`.
    pub async fn unmigrated(sql: &str, sections: &str) -> Self {
        Self::unmigrated_in(database().await, sql, sections).await
    }

    /// The same in a given database.
    pub async fn unmigrated_in(database: Database, sql: &str, sections: &str) -> Self {
        database.execute(sql).await;
        let client = database.client().await;
        let config = config(database.url(), "redis://127.0.0.1:1", sections);
        Self {
            database,
            client,
            config,
        }
    }

    /// Runs `cachewarden migrate`; what it printed. What it queues is not told.
    pub async fn migrate(&self) -> String {
        let (code, stdout, stderr) = self.run(&["migrate"]).await;
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
        let queue = "SELECT to_regclass('cachewarden.outbox')";
        if self.ask(queue).await != "NULL" {
            self.execute("DELETE FROM cachewarden.outbox WHERE source = 'migrate'")
                .await;
        }
        stdout
    }

    /// Runs a subcommand: its code, and what it printed.
    pub async fn run(&self, args: &[&str]) -> (Option<i32>, String, String) {
        said(&cachewarden(&self.config, args).await)
    }

    pub async fn execute(&self, sql: &str) {
        let done = self.client.batch_execute(sql).await;
        done.unwrap_or_else(|error| panic!("{error:?}: {sql}"));
    }

    /// Runs statements, and takes what they queued from the queue, a row a statement.
    pub async fn queues(&self, sql: &str) -> Vec<Queued> {
        self.execute(sql).await;
        self.take().await
    }

    /// Takes all that is queued.
    pub async fn take(&self) -> Vec<Queued> {
        let sql = "WITH gone AS (DELETE FROM cachewarden.outbox RETURNING *) SELECT keys, patterns FROM gone ORDER BY id";
        let rows = self.client.query(sql, &[]).await.unwrap();
        let sorted = |mut texts: Vec<String>| {
            texts.sort();
            // A few of a statement may stand there more than once.
            texts.dedup();
            texts
        };
        let row = |row: &tokio_postgres::Row| Queued {
            keys: sorted(row.get(0)),
            patterns: sorted(row.get(1)),
        };
        rows.iter().map(row).collect()
    }

    /// How many rows are queued.
    pub async fn rows(&self) -> u64 {
        let rows = self.ask("SELECT count(*) FROM cachewarden.outbox");
        rows.await.parse().unwrap()
    }

    /// Waits until nothing is queued.
    pub async fn until_empty(&self) {
        // A large backlog takes debug builds their time on a machine that does other things.
        eventually(3 * DEADLINE, async || match self.rows().await {
            0 => Ok(()),
            rows => Err(rows),
        })
        .await;
    }

    /// The first column of the first row, as text.
    pub async fn ask(&self, sql: &str) -> String {
        let rows = self.client.simple_query(sql).await.unwrap();
        let row = rows.iter().find_map(|row| match row {
            tokio_postgres::SimpleQueryMessage::Row(row) => {
                Some(row.get(0).unwrap_or("NULL").to_owned())
            }
            _ => None,
        });
        row.unwrap_or_else(|| "nothing".to_owned())
    }
}
