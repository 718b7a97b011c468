//! What the auditor has found, and how consistent the caches are by that.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use std::sync::atomic::AtomicU64;

/// What the auditor has found.
#[derive(Clone, Debug)]
pub struct Audited {
    /// Values that were compared to the end.
    pub checked: Counter,
    pub inconsistent: Counter,
    pub drift: Counter,
    pub undecided: Counter,
    /// 1 − inconsistent / checked; 1 as long as nothing was checked.
    pub consistency: Gauge<f64, AtomicU64>,
}

impl Default for Audited {
    fn default() -> Self {
        let consistency = Gauge::default();
        consistency.set(1.0);
        Self {
            checked: Counter::default(),
            inconsistent: Counter::default(),
            drift: Counter::default(),
            undecided: Counter::default(),
            consistency,
        }
    }
}

impl Audited {
    /// A value says what the database says.
    pub fn found_equal(&self) {
        self.found();
    }

    /// A value is wrong that should have been invalidated.
    pub fn found_inconsistent(&self) {
        self.inconsistent.inc();
        self.found();
    }

    /// A value is wrong that nothing would have invalidated, and it is looked at again for as long as it lives: counted once.
    pub fn found_drift(&self, is_news: bool) {
        if is_news {
            self.drift.inc();
        }
        self.found();
    }

    fn found(&self) {
        self.checked.inc();
        let (checked, wrong) = (self.checked.get(), self.inconsistent.get());
        self.consistency.set(1.0 - wrong as f64 / checked as f64);
    }
}
