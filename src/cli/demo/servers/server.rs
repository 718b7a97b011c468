//! One server process and whatever it forks: start, stop, kill, freeze, thaw.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::find::{Account, free_port};
use super::{Folder, ServerError};

/// A server answers in well under a second; a machine with all cores busy may need many times that.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// After this a stop is no longer polite. Postgres' fast stop writes a checkpoint first.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Between two looks at a process. There is no event to wait for: a child's end is one, but not its readiness.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// So much of a log's end goes into an error.
const LOG_TAIL_BYTES: u64 = 2_048;

/// A port can be lost between our look and the server's bind; losing this many in a row means something else is wrong.
const PORT_TRIES: u32 = 5;

/// How one kind of server is started, recognised and ended.
#[derive(Debug)]
pub(super) struct Launch {
    /// For messages.
    pub(super) name: &'static str,
    pub(super) program: PathBuf,
    /// The arguments that do not depend on the port.
    pub(super) args: Vec<String>,
    /// Added to our own environment.
    pub(super) env: Vec<(String, String)>,
    pub(super) port_args: fn(u16) -> Vec<String>,
    /// Whether the server of this folder, port and process answers.
    pub(super) ready: fn(&Path, u16, u32) -> bool,
    /// The server's own folder: its socket, data and log.
    pub(super) dir: PathBuf,
    pub(super) account: Option<Account>,
    /// Ends it in good order.
    pub(super) stop: Signal,
    /// Ends it at once without leaving shared memory behind; and the same for the watchdog.
    pub(super) end: Signal,
    pub(super) end_name: &'static str,
}

/// A private server: what [`Postgres`](super::Postgres) and [`Redis`](super::Redis) have in common.
/// It is ended when dropped.
#[derive(Debug)]
pub struct Server {
    launch: Launch,
    folder: Folder,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// Starts it on a free port and waits until it answers.
    pub(super) fn start(folder: &Folder, launch: Launch) -> Result<Self, ServerError> {
        let mut server = Self {
            launch,
            folder: folder.clone(),
            port: 0,
            child: None,
        };
        let mut tries_left = PORT_TRIES;
        loop {
            server.port = free_port()?;
            tries_left -= 1;
            match server.start_again() {
                Err(error) if error.lost_its_port() && tries_left > 0 => {}
                result => return result.map(|()| server),
            }
        }
    }

    /// Its port on 127.0.0.1; the same after [`start_again`](Self::start_again).
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its own folder, with its unix socket and the file `log`.
    pub fn dir(&self) -> &Path {
        &self.launch.dir
    }

    /// The process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts it on its old port and data, and waits until it answers. Does nothing while it runs.
    ///
    /// # Errors
    /// [`ServerError::Ended`] or [`ServerError::Silent`] with the end of the server's log.
    pub fn start_again(&mut self) -> Result<(), ServerError> {
        if self.child.is_some() {
            return Ok(());
        }
        let Launch { program, dir, .. } = &self.launch;
        let log = dir.join("log");
        let output = File::create(&log).map_err(ServerError::file("make", &log))?;
        let errors = output
            .try_clone()
            .map_err(ServerError::file("share", &log))?;
        let mut command = command_as(self.launch.account, program);
        command
            .args(&self.launch.args)
            .envs(self.launch.env.iter().map(|(name, value)| (name, value)))
            .args((self.launch.port_args)(self.port))
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            // A group of its own: Ctrl-C at the terminal is for us, and we stop the server in our order.
            .process_group(0);
        let child = command.spawn().map_err(|source| ServerError::Spawn {
            program: program.clone(),
            source,
        })?;
        let pid = child.id();
        self.child = Some(child);
        self.folder.watch(pid, self.launch.end_name)?;
        self.await_ready(pid)
    }

    fn await_ready(&mut self, pid: u32) -> Result<(), ServerError> {
        let deadline = Instant::now() + START_DEADLINE;
        while Instant::now() < deadline {
            if let Some(status) = self
                .child
                .as_mut()
                .and_then(|child| child.try_wait().ok().flatten())
            {
                self.child = None;
                return Err(ServerError::Ended {
                    server: self.launch.name,
                    port: self.port,
                    status,
                    log: self.log_tail(),
                });
            }
            if (self.launch.ready)(&self.launch.dir, self.port, pid) {
                return Ok(());
            }
            pause();
        }
        let log = self.log_tail();
        self.end();
        Err(ServerError::Silent {
            server: self.launch.name,
            port: self.port,
            waited: START_DEADLINE,
            log,
        })
    }

    /// Stops it in good order; its data stays for [`start_again`](Self::start_again).
    ///
    /// # Errors
    /// [`ServerError::Signal`] if it still runs after 10 s, [`ServerError::NotRunning`] if it did not run.
    pub fn stop(&mut self) -> Result<(), ServerError> {
        let pid = self.running_pid()?;
        self.signal("stop", pid, self.launch.stop)?;
        self.thaw()?;
        let deadline = Instant::now() + STOP_DEADLINE;
        while Instant::now() < deadline {
            if self
                .child
                .as_mut()
                .is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
            {
                self.child = None;
                return Ok(());
            }
            pause();
        }
        Err(self.signal_error("stop", io::ErrorKind::TimedOut.into()))
    }

    /// Kills it and all it forked with SIGKILL, and waits until they are gone.
    ///
    /// # Errors
    /// [`ServerError::NotRunning`], or [`ServerError::Signal`] if a process is still there after 10 s.
    pub fn kill(&mut self) -> Result<(), ServerError> {
        // Frozen first: a server that is still alive could fork a child we have not seen.
        let family = self.freeze()?;
        for pid in &family {
            self.signal("kill", *pid, Signal::KILL)?;
        }
        if let Some(mut child) = self.child.take() {
            child
                .wait()
                .map_err(|source| self.signal_error("wait for", source))?;
        }
        let deadline = Instant::now() + STOP_DEADLINE;
        while Instant::now() < deadline {
            if !family.iter().any(|pid| parent_of_live(*pid).is_some()) {
                return Ok(());
            }
            pause();
        }
        Err(self.signal_error("kill", io::ErrorKind::TimedOut.into()))
    }

    /// Stops the clock of the server and all it forked (SIGSTOP): connections stay, nothing answers.
    /// Gives the processes it froze.
    ///
    /// # Errors
    /// [`ServerError::NotRunning`] or [`ServerError::Signal`].
    pub fn freeze(&mut self) -> Result<Vec<Pid>, ServerError> {
        let mut family = vec![self.running_pid()?];
        self.signal("freeze", family[0], Signal::STOP)?;
        family.extend(children_of(family[0]));
        for child in &family[1..] {
            self.signal("freeze", *child, Signal::STOP)?;
        }
        Ok(family)
    }

    /// Lets a frozen server go on (SIGCONT).
    ///
    /// # Errors
    /// [`ServerError::NotRunning`] or [`ServerError::Signal`].
    pub fn thaw(&mut self) -> Result<(), ServerError> {
        let server = self.running_pid()?;
        for pid in children_of(server).into_iter().chain([server]) {
            self.signal("thaw", pid, Signal::CONT)?;
        }
        Ok(())
    }

    /// Ends it at once; what cannot be ended the watchdog gets.
    fn end(&mut self) {
        let Ok(pid) = self.running_pid() else { return };
        let asked = self
            .signal("end", pid, self.launch.end)
            .and_then(|()| self.thaw());
        if asked.is_ok()
            && let Some(mut child) = self.child.take()
        {
            let _ = child.wait();
        }
    }

    fn running_pid(&self) -> Result<Pid, ServerError> {
        self.pid()
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
            .ok_or(ServerError::NotRunning {
                server: self.launch.name,
                port: self.port,
            })
    }

    fn signal(&self, action: &'static str, pid: Pid, signal: Signal) -> Result<(), ServerError> {
        match kill_process(pid, signal) {
            // A backend that ended meanwhile needs no signal.
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(self.signal_error(action, errno.into())),
        }
    }

    fn signal_error(&self, action: &'static str, source: io::Error) -> ServerError {
        ServerError::Signal {
            action,
            server: self.launch.name,
            port: self.port,
            source,
        }
    }

    fn log_tail(&self) -> String {
        read_tail(&self.launch.dir.join("log")).unwrap_or_else(|error| format!("(no log: {error})"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// A command that runs as `account`, or as ourselves.
pub(super) fn command_as(account: Option<Account>, program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some(Account { uid, gid }) = account {
        command.uid(uid).gid(gid);
    }
    command
}

fn pause() {
    std::thread::park_timeout(LOOK_EVERY);
}

fn read_tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(LOG_TAIL_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// All live processes whose parent is `pid`.
fn children_of(pid: Pid) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(|child| parent_of_live(*child) == Some(pid.as_raw_pid()))
        .collect()
}

/// The parent of a process that lives; a zombie does not.
fn parent_of_live(pid: Pid) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
    // `pid (name) state parent …`, and a name may hold spaces and brackets.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    (state != "Z" && state != "X")
        .then(|| fields.next()?.parse().ok())
        .flatten()
}
