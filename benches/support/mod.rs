//! What all targets share: every figure comes from a real process, measured from outside, beside its peer.
//!
//! 1. The daemon under test is the built binary, its peers are the packaged ones; both are seen through `/proc` alone.
//! 2. Load comes from one thread that does next to nothing but system calls, and that checks every reply it counts.
//! 3. Ours and theirs take turns, so that a noisy minute hits both.
//! 4. Whatever is started ends with us: see `cachewarden::cli::demo::servers`.
//!
//! ```text
//!  bench.rs ──> s04 … s20 ──> rounds (take turns, medians) ──> table
//!                   ├──> world (postgres, redis, daemon) ──> process ──> usage (CPU, memory)
//!                   └──> load (clients, pipelines)   pgbench   proxy
//! ```

pub mod bench;
pub mod calls;
pub mod error;
pub mod filled;
pub mod load;
pub mod machine;
pub mod pgbench;
pub mod process;
pub mod proxy;
pub mod redis_benchmark;
pub mod request;
pub mod rounds;
pub mod table;
pub mod usage;
pub mod watched;
pub mod world;

pub use bench::{Bench, Watched};
pub use error::BenchError;
