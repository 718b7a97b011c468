//! One file a subcommand; results go to stdout, messages to stderr, exit codes are sysexits'.

pub mod check;
pub mod demo;
