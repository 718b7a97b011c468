//! All integration tests in one binary: they share one Postgres, and link once.
#![allow(
    clippy::expect_used,
    clippy::map_err_ignore,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test kit that cannot go on fails its test"
)]

mod kit;
mod repository;
mod supervisor;
mod support;
mod unit_file;
