//! How long and how often is measured, and the one thread that makes load.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::load::{Clients, Sample, Until};
use super::request::{Draw, Template};
use super::rounds::{Cpu, Measured};
use super::{BenchError, usage};

/// What every target is given.
pub struct Bench {
    /// How often each side of a comparison runs.
    pub rounds: usize,
    /// How long one run takes.
    pub sample: Duration,
    runtime: Runtime,
}

impl Bench {
    /// Load will come from the calling thread, and from no other.
    pub fn new(rounds: usize, sample: Duration) -> Result<Self, BenchError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        Ok(Self {
            rounds,
            sample,
            runtime: runtime.map_err(BenchError::io("make a runtime"))?,
        })
    }

    /// Opens connections to a port of this machine.
    pub fn connect(
        &self,
        port: u16,
        connections: usize,
        template: &Template,
    ) -> Result<Clients, BenchError> {
        self.runtime
            .block_on(Clients::connect(port, connections, template))
    }

    /// Lets clients ask for rows.
    pub fn run(
        &self,
        clients: &mut Clients,
        draw: &Draw,
        until: Until,
    ) -> Result<Sample, BenchError> {
        self.runtime.block_on(clients.run(draw, until))
    }

    /// The same for one sample's time, beside the CPU time of the `server` and of the `others` it works with.
    pub fn measure(
        &self,
        clients: &mut Clients,
        draw: &Draw,
        server: impl Fn() -> Result<Duration, BenchError>,
        others: impl Fn() -> Result<Duration, BenchError>,
    ) -> Result<Measured, BenchError> {
        let used = || -> Result<Cpu, BenchError> {
            Ok(Cpu {
                server: server()?,
                others: others()?,
                generator: usage::cpu(std::process::id())?,
            })
        };
        let before = used()?;
        let sample = self.run(clients, draw, Until::Elapsed(self.sample))?;
        Ok(Measured::new(sample, used()? - before))
    }
}
