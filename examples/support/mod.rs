//! The servers of the examples: those of the environment, or private ones that end with the program.

use std::env;

use cachewarden::cli::demo::servers::{
    Folder, Postgres, PostgresOptions, Redis, RedisOptions, ServerError,
};

/// `$POSTGRES_URL`, or a private server and its URL.
#[allow(dead_code, reason = "not every example reads from Postgres")]
pub fn postgres() -> Result<(String, Option<Postgres>), ServerError> {
    if let Ok(url) = env::var("POSTGRES_URL") {
        return Ok((url, None));
    }
    let server = Postgres::start(&Folder::new()?, &PostgresOptions::default())?;
    Ok((server.postgres_url("postgres"), Some(server)))
}

/// `$REDIS_URL`, or a private server and its URL.
pub fn redis() -> Result<(String, Option<Redis>), ServerError> {
    if let Ok(url) = env::var("REDIS_URL") {
        return Ok((url, None));
    }
    let server = Redis::start(&Folder::new()?, &RedisOptions::default())?;
    Ok((server.redis_url(), Some(server)))
}
