//! What limits have decided.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// Labels of the decisions.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct LimitDecision {
    pub limit: String,
    pub decision: &'static str,
}

/// The decisions of all limits. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Limited {
    pub(super) decisions: Family<LimitDecision, Counter>,
    /// Refusals that are remembered.
    pub remembered: Gauge,
    /// Requests refused from memory.
    pub known: Counter,
}

/// The counters of one limit, looked up once.
#[derive(Clone, Debug)]
pub struct LimitMetrics {
    pub allowed: Counter,
    pub refused: Counter,
    /// A limit that never refuses would have.
    pub shadowed: Counter,
    /// Redis could not be asked.
    pub unasked_allowed: Counter,
    pub unasked_refused: Counter,
}

impl Limited {
    /// The counters of one limit.
    pub(super) fn of(&self, limit: &str) -> LimitMetrics {
        let decided = |decision| {
            let labels = LimitDecision {
                limit: limit.to_owned(),
                decision,
            };
            self.decisions.get_or_create_owned(&labels)
        };
        LimitMetrics {
            allowed: decided("allowed"),
            refused: decided("refused"),
            shadowed: decided("shadowed"),
            unasked_allowed: decided("unasked_allowed"),
            unasked_refused: decided("unasked_refused"),
        }
    }
}
