//! Typed repositories with a cache in front: what a service writes around its tables, once and right.
//!
//! A program brings a [`Repository`], around diesel or whatever else reads its database; [`CacheRepository`] answers from the
//! cache what it has answered before, and invalidates what a write outdates:
//!
//! | call | reads, or outdates |
//! | --- | --- |
//! | [`find_by_id`](CacheRepository::find_by_id) | `PREFIXid:ID` |
//! | [`find_page`](CacheRepository::find_page) | `PREFIXpage:PAGE:limit:LIMIT` |
//! | [`save`](CacheRepository::save), [`delete`](CacheRepository::delete) | the entity's own key, and every page |
//!
//! The prefix is that of a `[namespaces.*]`. Loads run under leases, one for the whole fleet: an entity that was read before
//! a write is never cached after it. What other programs write is heard from a watch, whose `invalidate` names the same keys.

mod cached;
mod error;

pub use cached::{CacheRepository, Page, Repository};
pub use error::Error;
