//! Requests in, replies out: every byte received is part of one request or one error, however cut.
//!
//! Invariants:
//! 1. A request is a flat array of bulk strings, or one inline line. Nothing recurses: depth cannot
//!    hurt.
//! 2. Only what has arrived is kept: an announced length reserves nothing.
//! 3. A request is scanned once, even if it arrives byte by byte ([`Decoder`] keeps its place).
//! 4. An error is raised by the shortest prefix that is refused, so that cutting the stream
//!    differently never changes what is decoded or refused.
//! 5. A reply is one frame: no text, whoever wrote it, can end a line early or start a second reply.
//!
//! ```text
//! bytes ─► Decoder ──'*'──► count ─► (length ─► body)* ─► Request: ranges of the bytes
//!                  └─else─► inline::split ──────────────► Request: its own unescaped text
//! answer ─► reply::* ─► bytes
//! ```

mod decoder;
mod error;
mod inline;
mod length;
mod limits;
pub mod reply;
mod request;

pub use decoder::Decoder;
pub use error::{Foreign, ProtocolError};
pub use limits::Limits;
pub use reply::Protocol;
pub use request::Request;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
