//! Keeps true that no more is let through than was declared, however many daemons and clients ask.
//!
//! See [`messages`] for what one may ask.

mod actor;
mod denied;
mod error;
mod fleet;
mod limiter;
mod listener;
mod local;
mod messages;
mod queue;
mod requests;
mod rule;
mod scripts;
mod verdict;

pub use actor::{RateLimitActor, RateLimitParts};
pub use denied::Denied;
pub use error::{Class, LimitError};
pub use messages::{
    Ask, Asked, Check, Decision, Fixed, Policy, RateLimitHandle, Refund, Release, Reload, Reset,
    Throttle,
};
