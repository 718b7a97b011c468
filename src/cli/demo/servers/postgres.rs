//! A private Postgres.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use super::server::{Launch, command_as};
use super::{Folder, Server, ServerError, find};

/// The superuser of a private Postgres; connections need no password.
const USER: &str = "postgres";

/// What every private Postgres is set to. Its data is thrown away, so nothing waits for a disk; and enough
/// connections for a test binary's tests at once.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("fsync", "off"),
    ("synchronous_commit", "off"),
    ("full_page_writes", "off"),
    ("shared_buffers", "64MB"),
    ("max_connections", "200"),
];

/// How a private Postgres differs from the usual one.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    /// More settings of `postgresql.conf`, name and value; they win over the usual ones.
    pub settings: Vec<(String, String)>,
}

/// A private Postgres with an empty database `postgres`.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    programs: PathBuf,
}

impl Postgres {
    /// Makes a database folder (about 1 s) and starts a server on it.
    ///
    /// # Errors
    /// [`ServerError::NotInstalled`] without Postgres; any other with the end of the log.
    pub fn start(folder: &Folder, options: &PostgresOptions) -> Result<Self, ServerError> {
        let programs = find::postgres_programs(&["postgres", "initdb", "psql"])?;
        let account = find::account()?;
        let dir = folder.subfolder("pg", account)?;
        let data = dir.join("data");
        init_db(command_as(account, &programs.join("initdb")), &dir, &data)?;

        let own = SETTINGS
            .iter()
            .map(|(name, value)| format!("--{name}={value}"));
        let extra = options
            .settings
            .iter()
            .map(|(name, value)| format!("--{name}={value}"));
        let mut args = vec![
            format!("-D{}", data.display()),
            format!("-k{}", dir.display()),
        ];
        args.extend(own.chain(extra));
        let launch = Launch {
            name: "postgres",
            program: programs.join("postgres"),
            args,
            env: Vec::new(),
            port_args: |port| vec![format!("-p{port}")],
            ready: |dir, _, pid| says_ready(&dir.join("data/postmaster.pid"), pid),
            dir,
            account,
            stop: Signal::INT,
            // Not SIGKILL: the postmaster would leave its children and its shared memory behind.
            end: Signal::QUIT,
            end_name: "QUIT",
        };
        Ok(Self {
            server: Server::start(folder, launch)?,
            programs,
        })
    }

    /// `postgres://…` over TCP to database `database`.
    pub fn postgres_url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port())
    }

    /// `postgres://…` over the unix socket to database `database`.
    pub fn postgres_socket_url(&self, database: &str) -> String {
        let dir = self.dir().display();
        format!(
            "postgres:///{database}?host={dir}&port={}&user={USER}",
            self.port()
        )
    }

    /// One of Postgres' own programs, of the same version as the server.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// `psql` on a database, quiet, unaligned, without the user's own settings, and ending at the first error.
    pub fn psql(&self, database: &str) -> Command {
        let mut command = Command::new(self.program("psql"));
        command
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d"])
            .arg(self.postgres_url(database));
        command
    }
}

/// A Postgres is a [`Server`] that has Postgres' addresses.
impl Deref for Postgres {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Postgres {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

fn init_db(mut initdb: Command, dir: &Path, data: &Path) -> Result<(), ServerError> {
    initdb
        .args([
            "--no-sync",
            "-Atrust",
            "-EUTF8",
            "--locale=C",
            "-U",
            USER,
            "-D",
        ])
        .arg(data)
        .current_dir(dir);
    let made = initdb.output().map_err(|source| ServerError::Spawn {
        program: initdb.get_program().into(),
        source,
    })?;
    if made.status.success() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&made.stderr).into_owned();
    Err(ServerError::InitDb {
        status: made.status,
        output,
    })
}

/// Postgres writes its state to the 8th line of its pid file, as `pg_ctl -w` reads it: a connection would be
/// accepted, and refused, while it still recovers.
fn says_ready(pid_file: &Path, pid: u32) -> bool {
    let Ok(text) = fs::read_to_string(pid_file) else {
        return false;
    };
    let mut lines = text.lines();
    // A killed server leaves its file behind.
    lines.next() == Some(pid.to_string().as_str())
        && lines.nth(6).is_some_and(|state| state.trim() == "ready")
}
