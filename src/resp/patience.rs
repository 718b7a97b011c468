//! How long a client may keep us waiting.

use std::time::Duration;

/// How long a client may keep us waiting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Who must authenticate has this long to do so.
    pub(super) authenticate: Duration,
    /// A request once begun must be complete within this time.
    pub(super) request: Duration,
    /// While the daemon stops: who has come and not said anything yet is about to, and nobody else will hear it.
    pub(super) first_word: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            authenticate: Duration::from_secs(5),
            request: Duration::from_secs(10),
            first_word: Duration::from_secs(1),
        }
    }
}
