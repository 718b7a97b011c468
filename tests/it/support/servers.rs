//! One Postgres for all tests, a fresh database in it for each; a Redis for each test.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use cachewarden::cli::demo::servers::{Folder, Postgres, PostgresOptions, Redis, RedisOptions};
use tokio_postgres::{Client, NoTls};

/// The folder of this test binary. Statics are never dropped: the watchdog cleans up when we end.
fn folder() -> &'static Folder {
    static FOLDER: OnceLock<Folder> = OnceLock::new();
    FOLDER.get_or_init(|| Folder::new().unwrap_or_else(|error| panic!("{error}")))
}

/// The Postgres that all tests share. It is never stopped or frozen: use [`own_postgres`] for that.
pub fn shared_postgres() -> &'static Postgres {
    static POSTGRES: OnceLock<Postgres> = OnceLock::new();
    POSTGRES.get_or_init(|| own_postgres(&PostgresOptions::default()))
}

/// A Postgres for one test alone (about 1 s); ended when dropped.
pub fn own_postgres(options: &PostgresOptions) -> Postgres {
    Postgres::start(folder(), options).unwrap_or_else(|error| panic!("{error}"))
}

/// An empty Redis for one test alone; ended when dropped.
pub fn redis() -> Redis {
    redis_with(&[])
}

/// The same, with more arguments of `redis-server`.
pub fn redis_with(args: &[&str]) -> Redis {
    let options = RedisOptions {
        args: args.iter().copied().map(String::from).collect(),
        ..RedisOptions::default()
    };
    Redis::start(folder(), &options).unwrap_or_else(|error| panic!("{error}"))
}

/// A database of one test.
pub struct Database {
    url: String,
    name: String,
}

/// An empty database in the shared Postgres (0.1 s). It goes with the server, not before.
pub async fn database() -> Database {
    database_in(shared_postgres()).await
}

/// An empty database in a given Postgres.
pub async fn database_in(postgres: &Postgres) -> Database {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("t{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let client = connect(&postgres.postgres_url("postgres")).await;
    client
        .batch_execute(&format!("CREATE DATABASE {name}"))
        .await
        .unwrap();
    Database {
        url: postgres.postgres_url(&name),
        name,
    }
}

impl Database {
    /// `postgres://…` of it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its name in its server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A connection to it, open until the client is dropped.
    pub async fn client(&self) -> Client {
        connect(&self.url).await
    }

    /// Runs statements on a connection of their own.
    pub async fn execute(&self, statements: &str) {
        self.client()
            .await
            .batch_execute(statements)
            .await
            .unwrap_or_else(|error| panic!("{error:?}: {statements}"));
    }
}

/// A client whose connection is driven by the test's own runtime.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    // Its end is seen by the client.
    tokio::spawn(connection);
    client
}
