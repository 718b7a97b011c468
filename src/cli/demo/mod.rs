//! `cachewarden demo` shows the daemon on servers of its own, and leaves nothing behind.
//!
//! [`Shop::open`] starts the servers and loads the shop; the caller starts the daemon on [`Shop::config`]; then the
//! [`tour`] walks through what `steps.rs` lists, or [`invite`] prints the same for the visitor to try.

mod client;
mod error;
mod invite;
pub mod servers;
mod shop;
mod steps;
mod tour;

pub use error::DemoError;
pub use invite::{invite, wait_for_ctrl_c};
pub use shop::Shop;
pub use tour::tour;
