//! twemproxy (`nutcracker`): the proxy for Redis that we are measured against.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use cachewarden::cli::demo::servers::{Folder, free_port};

use super::BenchError;
use super::process::Process;

const READY_DEADLINE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Where Debian puts it; not in everybody's `PATH`.
const SYSTEM_PROGRAMS: &str = "/usr/sbin";

/// The program.
pub fn program() -> Result<PathBuf, BenchError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from(SYSTEM_PROGRAMS)])
        .map(|folder| folder.join("nutcracker"))
        .find(|program| program.is_file())
        .ok_or(BenchError::NotInstalled {
            program: "nutcracker",
            package: "nutcracker",
        })
}

/// A running twemproxy in front of one Redis.
pub struct Proxy {
    process: Process,
    port: u16,
}

impl Proxy {
    /// Starts one with its usual settings: one pool, one server, one connection to it.
    pub fn start(folder: &Folder, redis_port: u16) -> Result<Self, BenchError> {
        let (port, stats_port) = (free_port()?, free_port()?);
        let config = folder.path().join("nutcracker.yml");
        let text = format!(
            "bench:\n  listen: 127.0.0.1:{port}\n  redis: true\n  hash: fnv1a_64\n  distribution: ketama\n  \
             preconnect: true\n  servers:\n    - 127.0.0.1:{redis_port}:1\n"
        );
        fs::write(&config, text).map_err(BenchError::io(format!("write {}", config.display())))?;
        let mut command = Command::new(program()?);
        command
            .arg("-c")
            .arg(&config)
            .args(["-a", "127.0.0.1", "-s", &stats_port.to_string()]);
        let process = Process::start("nutcracker", &mut command, folder)?;
        let mut proxy = Self { process, port };
        proxy.await_ready()?;
        Ok(proxy)
    }

    fn await_ready(&mut self) -> Result<(), BenchError> {
        let begun = Instant::now();
        while begun.elapsed() < READY_DEADLINE {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                return Ok(());
            }
            self.process.check_alive()?;
            std::thread::park_timeout(LOOK_EVERY);
        }
        Err(self
            .process
            .not_ready(format!("was not ready within {READY_DEADLINE:?}")))
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
