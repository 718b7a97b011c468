//! What is counted of locks.

use super::timings::seconds;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// One label named `result`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct WaitResult {
    pub result: &'static str,
}

/// The metrics of one daemon's locks.
#[derive(Clone, Debug)]
pub struct Locked {
    pub held: Gauge,
    pub waiters: Gauge,
    pub(super) wait_seconds: Family<WaitResult, Histogram, fn() -> Histogram>,
}

impl Default for Locked {
    fn default() -> Self {
        Self {
            held: Gauge::default(),
            waiters: Gauge::default(),
            wait_seconds: Family::new_with_constructor(seconds),
        }
    }
}

impl Locked {
    /// Somebody has waited so many seconds for a lock, and it was `acquired` or `refused`.
    pub fn waited(&self, result: &'static str, seconds: f64) {
        let histogram = self.wait_seconds.get_or_create(&WaitResult { result });
        histogram.observe(seconds);
    }
}
