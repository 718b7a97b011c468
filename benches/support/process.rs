//! Processes that a bench starts by itself: the daemon and the proxy it is compared with.

use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cachewarden::cli::demo::servers::Folder;
use rustix::process::{Pid, Signal, kill_process};

use super::BenchError;

/// A daemon is ready in well under a second; a machine with all cores busy may need many times that.
const READY_DEADLINE: Duration = Duration::from_secs(20);

/// How often a process that is not ready is looked at: it may have ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The longest message a service manager is sent.
const NOTIFICATION_BYTES: usize = 256;

/// So much of a log's end goes into an error.
const LOG_TAIL_BYTES: usize = 2_048;

/// One process; it is asked to end (SIGTERM) and waited for when dropped.
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it, with its output in `folder`. The command line must name a path in `folder`, by which the folder's
    /// watchdog knows it.
    pub fn start(
        name: &'static str,
        command: &mut Command,
        folder: &Folder,
    ) -> Result<Self, BenchError> {
        let log = folder.path().join(format!("{name}.log"));
        let open = || {
            let out = File::create(&log)?;
            Ok((out.try_clone()?, out))
        };
        let (out, err) = open().map_err(BenchError::io(format!("make {}", log.display())))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            // A group of its own: Ctrl-C is for us, and our folder's watchdog ends it.
            .process_group(0)
            .spawn()
            .map_err(BenchError::io(format!("start {name}")))?;
        folder.watch(child.id(), "TERM")?;
        Ok(Self { name, child, log })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended, as an error that says so.
    pub fn check_alive(&mut self) -> Result<(), BenchError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.not_ready(format!("ended with {status}"))),
            Err(source) => Err(BenchError::io(format!("look at {}", self.name))(source)),
        }
    }

    pub fn not_ready(&self, how: String) -> BenchError {
        let log = fs::read(&self.log).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(LOG_TAIL_BYTES)..];
        BenchError::NotReady {
            name: self.name,
            how,
            log: String::from_utf8_lossy(tail).into_owned(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // Already gone, or ours to wait for.
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// The daemon as it is installed: the binary, a configuration file, and a service manager (us) that it tells READY.
pub struct Daemon {
    process: Process,
    /// From before the process was made to its READY.
    pub start: Duration,
}

impl Daemon {
    /// Starts `cachewarden run` and waits until it says READY.
    pub fn start(folder: &Folder, config: &Path) -> Result<Self, BenchError> {
        let socket = folder.path().join("notify.sock");
        let bind = || {
            let _none_there = fs::remove_file(&socket);
            let manager = UnixDatagram::bind(&socket)?;
            manager.set_read_timeout(Some(LOOK_EVERY))?;
            Ok(manager)
        };
        let manager = bind().map_err(BenchError::io(format!("bind {}", socket.display())))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_cachewarden"));
        command
            .arg("run")
            .arg("--config")
            .arg(config)
            .env("NOTIFY_SOCKET", &socket);
        let begun = Instant::now();
        let mut process = Process::start("cachewarden", &mut command, folder)?;
        let mut message = [0; NOTIFICATION_BYTES];
        while begun.elapsed() < READY_DEADLINE {
            // Most errors here are the timeout; any other shows as the deadline.
            let length = manager.recv(&mut message).unwrap_or(0);
            if message[..length].starts_with(b"READY=1") {
                let start = begun.elapsed();
                return Ok(Self { process, start });
            }
            process.check_alive()?;
        }
        Err(process.not_ready(format!("was not ready within {READY_DEADLINE:?}")))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
