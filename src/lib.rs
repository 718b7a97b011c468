//! cachewarden keeps a Redis cache true to a Postgres database.
#![forbid(unsafe_code)]

pub mod audit;
pub mod cache;
pub mod cli;
pub mod config;
mod daemon;
pub mod http;
pub mod invalidation;
pub mod journal;
pub mod keyspace;
pub mod lock;
mod password;
pub mod plain;
pub mod rate_limit;
pub mod repository;
pub mod resp;
pub mod store;
pub mod supervisor;
pub mod telemetry;
pub mod typed;
pub mod warmup;

pub use daemon::{Ended, Passed, Reloaded, StartError, Status, Warden, WardenError};
