//! `[audit]`: how many cached values a second are compared with the database.

use super::value::Checked;

const DEFAULT_RATE: usize = 5;

/// `[audit]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Keys sampled a second; 0: none.
    pub rate: usize,
}

pub(super) fn audit(table: &Checked) -> Audit {
    Audit {
        rate: table.count("rate").unwrap_or(DEFAULT_RATE),
    }
}
