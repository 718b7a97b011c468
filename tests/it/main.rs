//! All integration tests in one binary: they share one Postgres, and link once.

mod bad_frames;
mod check;
mod clients;
mod demo;
mod door;
mod kit;
mod process;
mod repository;
mod support;
