//! Why bytes are not a request.

/// A broken frame. Its text is what follows `-ERR Protocol error: `; the connection closes after
/// it, because nobody can tell where the next request would begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The first byte can begin neither an array nor an inline request.
    #[error("expected '*', got '{}'", got.escape_ascii())]
    ExpectedArray { got: u8 },
    /// An element of the array is not a bulk string.
    #[error("expected '$', got '{}'", got.escape_ascii())]
    ExpectedBulk { got: u8 },
    /// An array within the array: valid RESP, but never a request.
    #[error("nested arrays not allowed")]
    NestedArray,
    /// Not a plain decimal number: a sign, a space, a leading zero, letters, nothing at all.
    #[error("invalid multibulk length")]
    ArrayLength,
    /// More arguments than [`Limits::max_args`](super::Limits::max_args).
    #[error("invalid multibulk length (max {max})")]
    ArrayTooLong { max: u32 },
    /// Not a plain decimal number.
    #[error("invalid bulk length")]
    BulkLength,
    /// Null or nonsense: a request has no use for either.
    #[error("invalid bulk length {length}")]
    BulkNegative { length: i64 },
    /// Longer than [`Limits::max_bulk`](super::Limits::max_bulk).
    #[error("invalid bulk length (max {max})")]
    BulkTooLong { max: u32 },
    /// All arguments together are longer than [`Limits::max_request`](super::Limits::max_request).
    #[error("too big request (max {max})")]
    RequestTooLong { max: u32 },
    /// A length line that ends in something else.
    #[error("expected CRLF")]
    ExpectedCrlf,
    /// The announced length and the sent bytes disagree.
    #[error("bulk not terminated by CRLF")]
    BulkNotTerminated,
    /// No line end within [`Limits::max_inline`](super::Limits::max_inline).
    #[error("too big inline request (max {max})")]
    InlineTooLong { max: u32 },
    /// An inline request with more words than [`Limits::max_args`](super::Limits::max_args).
    #[error("too many arguments in inline request (max {max})")]
    InlineTooManyArguments { max: u32 },
    /// A quote that is never closed, or is closed in the middle of a word.
    #[error("unbalanced quotes in request")]
    UnbalancedQuotes,
    /// Another protocol's greeting.
    #[error("this is not a Redis client: {0}")]
    Foreign(Foreign),
}

impl ProtocolError {
    /// True if the peer speaks another protocol: an answer would only help whoever tricked it into
    /// calling here.
    pub fn closes_silently(&self) -> bool {
        matches!(self, ProtocolError::Foreign(_))
    }
}

/// A protocol that was recognised by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// A browser or an HTTP client, perhaps sent here by somebody else's page or server.
    #[error("HTTP on the Redis port, possible cross-protocol attack")]
    Http,
    /// A TLS ClientHello.
    #[error("TLS on a plain port")]
    Tls,
    /// A load balancer's `PROXY TCP4 …` line.
    #[error("PROXY header on a port that takes none")]
    ProxyHeader,
}
