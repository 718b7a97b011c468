//! Keeps true that no more is let through than was declared, however many daemons and clients ask.
//!
//! See [`messages`] for what one may ask.

mod error;
mod messages;

pub use error::{Class, LimitError};
pub use messages::{
    Ask, Asked, Check, Decision, Fixed, Policy, RateLimitHandle, Refund, Release, Reload, Reset,
    Throttle,
};
