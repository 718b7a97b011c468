//! Daemons under test: in this process through the library, or the real binary as systemd would start it.

use std::fs::{self, File, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use cachewarden::Warden;
use cachewarden::cli::demo::servers::{Folder, free_port};
use cachewarden::config::Config;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use super::DEADLINE;
use super::eventually::eventually;
use super::resp::Client;

/// The longest message systemd's protocol allows in practice.
const NOTICE_BYTES: usize = 4096;

/// A configuration as text. `more` may begin with dotted keys (`redis.timeout = "50ms"`), then come its tables
/// (`[caches.…]`). The daemon listens on a free port.
pub fn config(postgres_url: &str, redis_url: &str, more: &str) -> String {
    config_on("127.0.0.1:0", postgres_url, redis_url, more)
}

/// The same for a daemon that needs no Postgres.
pub fn config_without_postgres(redis_url: &str, more: &str) -> String {
    format!("redis.url = {redis_url:?}\nresp.listen = [\"127.0.0.1:0\"]\n{more}")
}

/// The same, listening here.
pub fn config_on(listen: &str, postgres_url: &str, redis_url: &str, more: &str) -> String {
    // Tests plant values and lock tables: nobody else is to look at them, unless a test is about that.
    let audit = if more.contains("[audit]") {
        ""
    } else {
        "audit.rate = 0\n"
    };
    format!(
        "postgres.url = {postgres_url:?}\nredis.url = {redis_url:?}\nresp.listen = [{listen:?}]\n{audit}\
         resp.threads = 2 # so that readers meet each other's shards on any machine\n{more}"
    )
}

/// A daemon in this process. End it with [`stop`](Self::stop).
pub struct InProcess {
    /// The library's handle.
    pub warden: Warden,
}

impl InProcess {
    /// Starts one with this text as its configuration, and returns when it is ready.
    pub async fn start(config: &str) -> Self {
        let config = Config::from_toml(config).unwrap_or_else(|problems| panic!("{problems}"));
        let warden = Warden::start(config)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        Self { warden }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.warden
            .resp_addr()
            .expect("`config` declares a TCP listener")
    }

    /// A new connection to it.
    pub async fn client(&self) -> Client {
        Client::connect(self.address()).await
    }

    /// Stops it in good order.
    pub async fn stop(self) {
        self.warden.stop().await;
    }
}

/// The real binary, `cachewarden run`. It is killed when dropped, and when the test process ends in whatever way.
pub struct Spawned {
    child: Child,
    folder: Folder,
    address: SocketAddr,
    notices: UnixDatagram,
}

impl Spawned {
    /// Starts it and waits until it tells systemd that it is ready.
    pub async fn start(postgres_url: &str, redis_url: &str, more: &str) -> Self {
        let mut daemon = Self::start_unready(postgres_url, redis_url, more);
        daemon.notice("READY=1").await;
        daemon
    }

    /// Starts it, ready or not.
    pub fn start_unready(postgres_url: &str, redis_url: &str, more: &str) -> Self {
        Self::start_with(
            |address| config_on(&address.to_string(), postgres_url, redis_url, more),
            |_| {},
        )
    }

    /// Starts it, ready or not, with the configuration that `config` writes for the address it is to listen on, and its
    /// command as `prepare` leaves it.
    pub fn start_with(
        config: impl FnOnce(SocketAddr) -> String,
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        Self::start_through(|_| Vec::new(), config, prepare)
    }

    /// The same, executed by another program: its words, to which the daemon's are added.
    pub fn start_through(
        program: impl FnOnce(SocketAddr) -> Vec<String>,
        config: impl FnOnce(SocketAddr) -> String,
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let folder = Folder::new().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().unwrap()));
        let notify = folder.path().join("notify");
        let notices = UnixDatagram::bind(&notify).unwrap();
        let mut command = command(&folder, &program(address), &config(address));
        command
            .arg("run")
            .stdin(Stdio::null())
            .env("NOTIFY_SOCKET", &notify)
            .stdout(File::create(folder.path().join("stdout")).unwrap())
            .stderr(File::create(folder.path().join("stderr")).unwrap());
        prepare(&mut command);
        let child = command.spawn().unwrap();
        folder.watch(child.id(), "KILL").unwrap();
        Self {
            child,
            folder,
            address,
            notices,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("cachewarden.toml")
    }

    /// A new connection to it.
    pub async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        fs::read_to_string(self.folder.path().join("stdout")).unwrap()
    }

    /// The memory it holds, in bytes, as the kernel counts it.
    pub fn resident_bytes(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse::<usize>().ok()).unwrap() * 1024
    }

    /// Waits until it sends systemd a message with this line, such as `STOPPING=1`; gives all that it said up to there.
    ///
    /// # Panics
    /// If it ends first, or says nothing of the kind for long.
    pub async fn notice(&mut self, line: &str) -> Vec<String> {
        let mut buffer = vec![0; NOTICE_BYTES];
        let mut said = Vec::new();
        while !said.iter().any(|said| said == line) {
            let heard = tokio::select! {
                // What it said before it ended counts.
                biased;
                heard = timeout(DEADLINE, self.notices.recv(&mut buffer)) => heard,
                status = ended(&mut self.child) => {
                    panic!("it ended with {status} before it said {line}:\n{}", self.stderr())
                }
            };
            let Ok(count) = heard else {
                panic!("it never said {line}:\n{}", self.stderr())
            };
            let message = String::from_utf8_lossy(&buffer[..count.unwrap()]).into_owned();
            said.extend(message.lines().map(String::from));
        }
        said
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(Pid::from_raw)
            .unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it runs on.
    pub async fn exit(&mut self) -> ExitStatus {
        let status = timeout(DEADLINE, ended(&mut self.child)).await;
        status.unwrap_or_else(|_| panic!("it still runs:\n{}", self.stderr()))
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a subcommand of the binary to its end, on a configuration of this text (mode 0600).
pub async fn cachewarden(config: &str, args: &[&str]) -> Output {
    let folder = Folder::new().unwrap();
    let mut command = command(&folder, &[], config);
    command.args(args).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = timeout(DEADLINE, output).await;
    drop(folder);
    output.expect("it still runs").unwrap().unwrap()
}

/// The whole of what a program printed, and how it ended.
pub fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// The binary with this configuration, which lies in `folder` as `cachewarden.toml`, executed by `program` if there is one.
fn command(folder: &Folder, program: &[String], config: &str) -> Command {
    let path = folder.path().join("cachewarden.toml");
    fs::write(&path, config).unwrap();
    // It may hold passwords, and is refused if others may read them.
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let binary = env!("CARGO_BIN_EXE_cachewarden");
    let mut command = match program {
        [] => Command::new(binary),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(binary);
            command
        }
    };
    command.arg("--config").arg(&path);
    command
}

async fn ended(child: &mut Child) -> ExitStatus {
    eventually(2 * DEADLINE, async || {
        child.try_wait().unwrap().ok_or("a running process")
    })
    .await
}
