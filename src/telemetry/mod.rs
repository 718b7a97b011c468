//! What the daemon says of itself: counters and times with one table of names, and logging.

mod audited;
mod limited;
mod locked;
pub mod logging;
mod metrics;
mod timings;

pub use audited::Audited;
pub use limited::{LimitMetrics, Limited};
pub use metrics::{CacheMetrics, METRICS, Metric, Metrics, SourceKind};
pub use timings::{Stopwatch, Timer, Timings};
