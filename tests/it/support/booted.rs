//! A real systemd with the daemon as its service, in a box of its own: `scripts/box.sh`, with the unit files as they are.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use cachewarden::cli::demo::servers::{Folder, Postgres, Redis};
use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::DEADLINE;
use super::daemon::said;
use super::eventually::eventually;
use super::resp::Client;
use super::servers::Database;

/// Where a box sees its own folder.
const INSIDE: &str = "/run/box";
const SERVICE: &str = "cachewarden.service";

/// A box that runs; it ends when dropped, and when the test process ends in whatever way.
pub struct Booted {
    script: Child,
    /// Process 1 of the box, as this machine counts.
    pid: u32,
    path: PathBuf,
    folder: Folder,
}

impl Booted {
    /// Boots one that has the units, this configuration, and the debug binary; nothing is started yet.
    ///
    /// # Panics
    /// On a machine on which none can be booted, with the reason.
    pub async fn boot(config: &str) -> Self {
        Self::boot_with(config, "").await
    }

    /// The same, with lines that `systemctl edit` would add to the service.
    pub async fn boot_with(config: &str, edited: &str) -> Self {
        assert!(
            geteuid().is_root(),
            "only root can boot a systemd in a box; `make test SYSTEMD=0` leaves these tests out"
        );
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = Folder::new().unwrap();
        let path = folder.path().join("box");
        let edits = path.join("units/cachewarden.service.d");
        fs::create_dir_all(&edits).unwrap();
        fs::write(edits.join("override.conf"), edited).unwrap();
        for unit in ["cachewarden.service", "cachewarden.socket"] {
            let from = root.join("systemd").join(unit);
            fs::copy(from, path.join("units").join(unit)).unwrap();
        }
        fs::copy(
            root.join("systemd/sysusers.conf"),
            path.join("sysusers.conf"),
        )
        .unwrap();
        fs::write(path.join("cachewarden.toml"), config).unwrap();
        let binds = format!(
            "{} /usr/bin/cachewarden\n{} /etc/cachewarden/cachewarden.toml\n",
            env!("CARGO_BIN_EXE_cachewarden"),
            path.join("cachewarden.toml").display()
        );
        fs::write(path.join("binds"), binds).unwrap();
        let log = File::create(path.join("log")).unwrap();
        let script = Command::new("bash")
            .arg(root.join("scripts/box.sh"))
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            // Ctrl-C at the terminal is for us, who end it.
            .process_group(0)
            .spawn()
            .unwrap();
        folder.watch(script.id(), "TERM").unwrap();
        let mut booted = Self {
            script,
            pid: 0,
            path,
            folder,
        };
        booted.pid = booted.first_process().await;
        eventually(DEADLINE, async || {
            let state = booted.inside("systemctl", &["is-system-running"]).await;
            match said(&state).1.trim() {
                "running" => Ok(()),
                other => Err(other.to_owned()),
            }
        })
        .await;
        booted
    }

    async fn first_process(&mut self) -> u32 {
        eventually(DEADLINE, async || {
            if let Some(ended) = self.script.try_wait().unwrap() {
                let log = fs::read_to_string(self.path.join("log")).unwrap();
                panic!(
                    "no systemd can be booted here ({ended}); `make test SYSTEMD=0` leaves these tests out:\n{log}"
                );
            }
            let pid = fs::read_to_string(self.path.join("pid")).unwrap_or_default();
            pid.trim().parse().map_err(|_| "a box that boots")
        })
        .await
    }

    /// Lets the box see a Redis, at `redis.sock` of [`folder`](Self::folder).
    pub fn link_redis(&self, redis: &Redis) {
        self.link(&redis.socket(), "redis.sock");
    }

    /// Lets the box see a Postgres.
    pub fn link_postgres(&self, postgres: &Postgres) {
        let name = format!(".s.PGSQL.{}", postgres.port());
        self.link(&postgres.dir().join(&name), &name);
    }

    /// A hard link is the same socket, wherever its own folder may not be entered.
    fn link(&self, socket: &Path, name: &str) {
        fs::set_permissions(socket, Permissions::from_mode(0o777)).unwrap();
        fs::hard_link(socket, self.path.join(name)).unwrap();
    }

    /// The folder of the box, on this machine; inside it is `/run/box`.
    pub fn folder(&self) -> &Path {
        &self.path
    }

    /// A file of the box, as this machine reaches it.
    pub fn file(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }

    /// The daemon's unix socket; these reach across networks.
    pub fn socket(&self) -> PathBuf {
        self.file("/run/cachewarden/resp.sock")
    }

    /// A new connection to the daemon.
    pub async fn client(&self) -> Client {
        Client::connect_unix(&self.socket()).await
    }

    /// Runs a command in the box to its end.
    pub async fn inside(&self, program: &str, args: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.pid.to_string()])
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"])
            .arg(program)
            .args(args)
            .env("SYSTEMD_PAGER", "")
            .env("SYSTEMD_COLORS", "0")
            .stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output());
        output.await.unwrap().unwrap()
    }

    /// `systemctl`, which has to succeed.
    ///
    /// # Panics
    /// If it does not, with the journal.
    pub async fn systemctl(&self, args: &[&str]) {
        let output = self.inside("systemctl", args).await;
        if !output.status.success() {
            let (code, _, errors) = said(&output);
            let journal = self.journal().await;
            panic!("systemctl {args:?}: {code:?} {errors}\n{journal}");
        }
    }

    /// A property of the service, as `systemctl show` prints it.
    pub async fn property(&self, name: &str) -> String {
        let args = ["show", "--value", "-p", name, SERVICE];
        let output = self.inside("systemctl", &args).await;
        said(&output).1.trim().to_owned()
    }

    /// Waits until a property is as wanted.
    pub async fn until(&self, name: &str, wanted: impl Fn(&str) -> bool) {
        eventually(DEADLINE, async || {
            let value = self.property(name).await;
            if wanted(&value) {
                Ok(())
            } else {
                Err((value, self.journal().await))
            }
        })
        .await;
    }

    /// All that the service has said, and systemd of it.
    pub async fn journal(&self) -> String {
        said(
            &self
                .inside("journalctl", &["-o", "cat", "-u", SERVICE])
                .await,
        )
        .1
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        let pid = i32::try_from(self.script.id()).ok().and_then(Pid::from_raw);
        let _gone_either_way = pid.map(|pid| kill_process(pid, Signal::TERM));
        let _ = self.script.wait();
    }
}

/// A configuration for a box that sees one Redis, and this database if there is one; it listens where cachewarden.socket does.
pub fn boxed(database: Option<(&Postgres, &Database)>, more: &str) -> String {
    let postgres = database.map(|(postgres, database)| {
        let (name, port) = (database.name(), postgres.port());
        format!("postgres.url = \"postgres:///{name}?host={INSIDE}&port={port}&user=postgres\"\n")
    });
    format!(
        "{}redis.url = \"unix://{INSIDE}/redis.sock\"\n\
         resp.listen = [\"127.0.0.1:6380\", \"unix:/run/cachewarden/resp.sock\"]\naudit.rate = 0\n{more}",
        postgres.unwrap_or_default()
    )
}
