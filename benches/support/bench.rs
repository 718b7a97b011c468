//! How long and how often is measured, and the one thread that makes load.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::calls::Calls;
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

    /// The same for one sample's time, beside what everybody used meanwhile.
    pub fn measure(
        &self,
        clients: &mut Clients,
        draw: &Draw,
        watched: Watched,
    ) -> Result<Measured, BenchError> {
        let before = watched.cpu()?;
        let sample = self.run(clients, draw, Until::Elapsed(self.sample))?;
        Ok(Measured::new(sample, watched.cpu()? - before))
    }

    /// Opens a connection for each list of requests.
    pub fn call(&self, port: u16, requests: Vec<Vec<Vec<u8>>>) -> Result<Calls, BenchError> {
        self.runtime.block_on(Calls::connect(port, requests))
    }

    /// Lets callers go through their requests for one sample's time.
    pub fn measure_calls(
        &self,
        calls: &mut Calls,
        watched: Watched,
    ) -> Result<Measured, BenchError> {
        let before = watched.cpu()?;
        let sample = self.runtime.block_on(calls.run(self.sample))?;
        Ok(Measured::new(sample, watched.cpu()? - before))
    }
}

/// The processes of one side, by their ids; the generator is ourselves.
#[derive(Debug, Clone, Copy)]
pub struct Watched {
    pub server: u32,
    /// Those behind the server, if there are any.
    pub redis: Option<u32>,
    pub postgres: Option<u32>,
}

impl Watched {
    fn cpu(self) -> Result<Cpu, BenchError> {
        Ok(Cpu {
            server: usage::cpu(self.server)?,
            redis: self.redis.map(usage::cpu).transpose()?.unwrap_or_default(),
            postgres: self
                .postgres
                .map(usage::family_cpu)
                .transpose()?
                .unwrap_or_default(),
            generator: usage::cpu(std::process::id())?,
        })
    }
}
