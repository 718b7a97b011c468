//! All integration tests in one binary: they share one Postgres, and link once.
#![allow(
    clippy::expect_used,
    clippy::map_err_ignore,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test kit that cannot go on fails its test"
)]

mod activation;
mod aging;
mod audit;
mod audit_command;
mod backlog;
mod bad_frames;
mod behind;
mod broken_sweeps;
mod cancel;
mod check;
mod clients;
mod clocks;
mod coming_back;
mod command_line;
mod courtesy;
mod deafness;
mod demo;
mod deps;
mod door;
mod doorbell;
mod drain;
mod drain_claims;
mod explain;
mod fences;
mod frozen;
mod guards;
mod heartbeats;
mod http;
mod huge_values;
mod indexes;
mod killed;
mod kit;
mod l1;
mod left_sweeps;
mod library;
mod limits;
mod limits_door;
mod loaders;
mod lock_door;
mod locks;
mod long_sweeps;
mod migrate;
mod one_actor;
mod outbox;
mod patterns;
mod pgbench;
mod plain;
mod postgres_away;
mod process;
mod proof;
mod pubsub;
mod pubsub_fleet;
mod race;
mod reading;
mod redis_away;
mod redis_refuses;
mod repository;
mod single_flight;
mod storm;
mod supervisor;
mod support;
mod sweep_storm;
mod sweeps;
mod systemd;
mod timings;
mod typed;
mod unit_file;
mod untold;
mod warm;
mod warmth;
mod watches;
mod writes;
