//! All integration tests in one binary: they share one Postgres, and link once.

mod kit;
mod library;
mod one_actor;
mod postgres_away;
mod race;
mod reading;
mod redis_away;
mod repository;
mod single_flight;
mod supervisor;
mod support;
