//! What the daemon says of itself: counters with one table of names, and logging.

pub mod logging;
mod metrics;

pub use metrics::{CacheMetrics, METRICS, Metric, Metrics, SourceKind};
