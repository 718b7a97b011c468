//! Limits as clients, the command line and signals meet them.

mod batches;
mod counted;
mod refusals;
mod reloaded;
mod scripted;
mod standing;
mod typed;
