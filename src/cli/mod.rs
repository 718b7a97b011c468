//! Every subcommand is one room here, and none of them knows another.

pub mod demo;
