//! All integration tests in one binary: they share one Postgres, and link once.

mod kit;
mod repository;
mod supervisor;
mod support;
