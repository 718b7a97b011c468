//! A daemon that keeps a Redis cache true to a Postgres database.
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod keyspace;
pub mod repository;
