//! Limits as clients, the command line and signals meet them.

mod batches;
mod refusals;
mod scripted;
