//! Keeps true that one row has one key, and that every key leads to at most one declared space.
//!
//! 1. A value has one spelling ([`ParamType::check`]); two spellings of one row would let one of
//!    them escape the row's invalidation.
//! 2. A key is answered by one cache: a literal segment beats a parameter, and templates of which
//!    neither wins are refused when the configuration is read ([`KeyTemplate::overlap`]).
//! 3. What a change invalidates is spelled as its keys are; data widens no pattern
//!    ([`ChangeTemplate`]).
//! 4. A plain key, of a passthrough, leads to no space: nothing that reads, invalidates or compares cached values meets it.
//! 5. Nothing declared, and no pattern, can reach the keys the daemon keeps for itself ([`names`], [`Reach`]).
//!
//! ```text
//! "courses:{id:bigint}" ─parse→ KeyTemplate ─┐
//!                                            ├→ Router ─route("courses:42")→ space 0, params ["42"]
//! "calc:"  (a namespace) ────────────────────┘
//! ```
//!
//! Pure: no clock, no input, no output, no other room.

mod change;
mod error;
pub mod expiry;
mod label;
mod named;
pub mod names;
mod overlap;
mod param;
mod pattern;
mod prefixes;
mod router;
mod scope;
mod template;

pub use change::{ChangePart, ChangeTemplate};
pub use error::KeyError;
pub use label::{LabelError, MAX_LABEL_BYTES, check_label};
pub use named::{Place, may_name};
pub use overlap::Overlap;
pub use param::{Param, ParamType};
pub use pattern::{MAX_PATTERN_BYTES, Pattern, PatternError, Reach, escape, is_pattern};
pub use prefixes::Prefixes;
pub use router::{Route, RoutedKey, Router, SpaceId, shard_of};
pub use scope::{Scope, TargetError, Targets, UnknownCache};
pub use template::{BoundError, KeyTemplate, TemplateError, check_prefix};

/// The longest key that is looked at, in bytes.
pub const MAX_KEY_BYTES: usize = 512;
