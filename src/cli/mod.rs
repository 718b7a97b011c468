//! Keeps true that a subcommand says what it found on stdout, what went wrong on stderr.

pub mod check;
