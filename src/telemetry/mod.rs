//! What the daemon says of itself: counters and times with one table of names, and logging.

mod audited;
mod journaled;
mod limited;
mod locked;
pub mod logging;
mod metrics;
mod timings;
mod warmed;

pub use audited::Audited;
pub use journaled::Journaled;
pub use limited::{LimitMetrics, Limited};
pub use metrics::{CacheMetrics, METRICS, Metric, Metrics, SourceKind};
pub use timings::{Stopwatch, Timer, Timings};
pub use warmed::Warmed;
