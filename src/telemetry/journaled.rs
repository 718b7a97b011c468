//! What is counted of writes that are saved later.

use super::metrics::PassResult;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use std::sync::atomic::AtomicU64;

/// The metrics of the journal, as one daemon sees it.
#[derive(Clone, Debug, Default)]
pub struct Journaled {
    pub rows: Gauge,
    pub lag: Gauge<f64, AtomicU64>,
    pub dead: Gauge,
    pub(super) writes: Family<PassResult, Counter>,
}

impl Journaled {
    /// So many writes stand in the journal.
    pub fn observe(&self, rows: u64) {
        self.rows.set(i64::try_from(rows).unwrap_or(i64::MAX));
        if rows == 0 {
            self.lag.set(0.0);
        }
    }

    /// So many more have left it, and why.
    pub fn counted(&self, result: &'static str, writes: usize) {
        let counter = self.writes.get_or_create(&PassResult { result });
        counter.inc_by(u64::try_from(writes).unwrap_or(u64::MAX));
    }
}
