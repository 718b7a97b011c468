//! Keeps true that no more is let through than was declared, however many daemons and clients ask.
//!
//! See [`messages`] for what one may ask.

mod actor;
mod counter;
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

// For tests that hold the script against the counters of this room, and tell it what time it is.
#[doc(hidden)]
pub use {
    counter::{Claim, Counter},
    requests::{Request, Rules, Verb},
    rule::{Kind, Numbers, Rule},
    scripts::{Scripts, Served},
    verdict::Verdict,
};
