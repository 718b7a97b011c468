//! What one request may cost.

/// No limit is taken above this (bytes, 1 GiB): positions then fit 32 bits with room to add, which
/// keeps an idle connection's decoder within a cache line.
const MAX_LIMIT: usize = 1 << 30;

/// Bytes of the largest request for each argument that one may have. Clients list keys by `SCAN` and then name all of them in one
/// command, so what bounds them is the bytes, and a key of ten has 17 with its length and line ends. But an empty one has 6, and
/// an argument costs us up to 260 before it is answered: at 1 MiB 65,536 arguments, and 17 MiB (measured, an `UNLINK`).
const BYTES_AN_ARGUMENT: usize = 16;
/// So many arguments are allowed however small requests have to be.
const LEAST_MAX_ARGS: usize = 1024;
/// No more are, however large they may be: as in Redis.
const MOST_MAX_ARGS: usize = 1 << 20;
/// Bytes of one argument at most, however large requests may be.
const DEFAULT_MAX_BULK: usize = 64 << 20;
/// Bytes of an inline request at most: they are typed by people.
const DEFAULT_MAX_INLINE: usize = 4096;

/// Arguments before authentication, as in Redis: `HELLO 3 AUTH user password SETNAME name` has 7.
const UNAUTHENTICATED_MAX_ARGS: usize = 10;
/// Bytes of an argument before authentication, as in Redis.
const UNAUTHENTICATED_MAX_BULK: usize = 16 << 10;
/// Bytes of a request before authentication: a user's name and a password, both as long as may be.
const UNAUTHENTICATED_MAX_REQUEST: usize = 2 * UNAUTHENTICATED_MAX_BULK + 1024;

/// What one request may cost. Values above 1 GiB mean 1 GiB.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one request, lengths and line ends included.
    pub max_request: usize,
    /// Arguments, the command's name included.
    pub max_args: usize,
    /// Bytes of one argument.
    pub max_bulk: usize,
    /// Bytes of an inline request, without its line feed.
    pub max_inline: usize,
}

impl Limits {
    /// The limits for clients that are let in, from the configured `max_request` (bytes).
    pub fn new(max_request: usize) -> Limits {
        Limits {
            max_request,
            max_args: (max_request / BYTES_AN_ARGUMENT).clamp(LEAST_MAX_ARGS, MOST_MAX_ARGS),
            max_bulk: max_request.min(DEFAULT_MAX_BULK),
            max_inline: DEFAULT_MAX_INLINE,
        }
    }

    /// The limits before authentication: a stranger costs a few KiB.
    pub fn unauthenticated() -> Limits {
        Limits {
            max_request: UNAUTHENTICATED_MAX_REQUEST,
            max_args: UNAUTHENTICATED_MAX_ARGS,
            max_bulk: UNAUTHENTICATED_MAX_BULK,
            max_inline: DEFAULT_MAX_INLINE,
        }
    }
}

/// [`Limits`] at half the size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) request: u32,
    pub(super) args: u32,
    pub(super) bulk: u32,
    pub(super) inline: u32,
}

impl From<Limits> for Bounds {
    fn from(limits: Limits) -> Bounds {
        let clamp = |limit: usize| limit.min(MAX_LIMIT) as u32;
        Bounds {
            request: clamp(limits.max_request),
            args: clamp(limits.max_args),
            bulk: clamp(limits.max_bulk),
            inline: clamp(limits.max_inline.min(limits.max_request.saturating_sub(1))),
        }
    }
}
