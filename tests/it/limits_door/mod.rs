//! Limits as clients, the command line and signals meet them.

mod batches;
mod refusals;
mod reloaded;
mod scripted;
mod typed;
