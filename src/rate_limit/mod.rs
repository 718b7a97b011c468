//! Keeps true that no more is let through than was declared, however many daemons and clients ask.
//!
//! Invariants, while one Redis lives:
//! 1. By Redis' clock, and exactly: `fixed_window` lets through no more than its limit in any aligned window; `token_bucket` no
//!    more than its burst and what came in meanwhile, in any stretch of time; `concurrency` has no more than its limit in flight.
//! 2. `sliding_window` remembers two counts, not every request, and takes the window before for evenly filled. In a window that
//!    ends `x` into the present aligned one of length `W` it lets through at most `limit + p * x / W`, `p` being the count of
//!    the window before: with `c` in the present one, what was let through last at `x` had `c + p * (W - x) / W <= limit`, and
//!    the window holds at most `c + p`, all of `p` having come late.
//! 3. A request of several limits takes from all of them, or from none. What is refused consumes nothing, and writes nothing.
//! 4. What is refused until a time is refused here until then, without Redis ([`denied`]); what is given back undoes that in
//!    every daemon that hears. A subject over several limits may be told of another of them than Redis would name.
//! 5. A `shadow` limit counts what it lets through and never refuses; what it would have refused it does not count.
//! 6. Every key has an expiry; memory is bounded.
//!
//! ```text
//!  Check, Refund, ... ─▶ actor ─▶ limiter ──refusal stands──▶ answered
//!                                   └─ queue: what came together ─▶ serve_requests.lua ─▶ verdicts ─▶ decision
//!                                                    Redis away ─▶ allow | deny | local: this daemon's share
//! ```
//!
//! Faults survived, each with a test in `tests/it/limits/`: Redis killed, frozen, restarted empty (windows begin anew), a key of
//! another form, a subscription cut, this actor's own panic, and being asked while it restarts. A Redis whose clock is set back, or which loses what it
//! acknowledged in a failover, may let a limit through once more.

mod actor;
mod counter;
mod declared;
mod denied;
mod error;
mod fleet;
mod handle;
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
pub use declared::Declared;
pub use denied::Denied;
pub use error::{Class, LimitError};
pub use handle::RateLimitHandle;
pub use messages::{
    Ask, Asked, Check, Decision, Fixed, Policy, Refund, Release, Reload, Reset, Throttle,
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
