//! Where the programs are, whom they run as, and a port for them.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::ServerError;

/// Debian keeps Postgres' server programs here, one folder a version, outside `PATH`.
const DEBIAN_POSTGRES: &str = "/usr/lib/postgresql";

/// Ports are drawn below Linux' range for outgoing connections (32768 and up). A port from that range can be taken
/// by any client while its server restarts; worse, a client that redials a dead port may draw it as its own and
/// be connected to itself.
const PORTS: Range<u16> = 20_000..32_000;

/// Draws before we give up: with 100 servers running, a miss that often has odds of 1 in 10^60.
const PORT_DRAWS: u32 = 30;

/// The folder of Postgres' programs: beside `postgres` in `PATH`, else the newest of Debian's.
/// A folder counts only if all of `programs` are in it.
pub(super) fn postgres_programs(programs: &[&'static str]) -> Result<PathBuf, ServerError> {
    let mut folders = path_folders();
    folders.extend(debian_versions());
    let missing = |folder: &Path| {
        programs
            .iter()
            .copied()
            .find(|name| !folder.join(name).is_file())
    };
    // `/usr/local/bin` may link some of them only: the folder that holds all wins.
    if let Some(folder) = folders.iter().find(|folder| missing(folder).is_none()) {
        return Ok(folder.clone());
    }
    Err(ServerError::NotInstalled {
        program: programs.first().copied().unwrap_or("postgres"),
    })
}

/// A program of `PATH`.
pub(super) fn program(name: &'static str) -> Result<PathBuf, ServerError> {
    path_folders()
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .ok_or(ServerError::NotInstalled { program: name })
}

fn path_folders() -> Vec<PathBuf> {
    std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default()
}

/// `/usr/lib/postgresql/*/bin`, the newest version first.
fn debian_versions() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(DEBIAN_POSTGRES) else {
        return Vec::new();
    };
    let mut versions: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .collect();
    versions.sort_by(|a, b| b.cmp(a));
    versions.into_iter().map(|(_, path)| path).collect()
}

/// The account servers are handed to when root starts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Whom servers run as: `None` is ourselves. Postgres refuses to run as root, and nothing here needs it.
pub(super) fn account() -> Result<Option<Account>, ServerError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd =
        fs::read_to_string("/etc/passwd").map_err(ServerError::file("read", "/etc/passwd"))?;
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| account_named(&passwd, name))
        .map(Some)
        .ok_or(ServerError::NoAccount)
}

/// `name:password:uid:gid:…`, one account a line.
fn account_named(passwd: &str, name: &str) -> Option<Account> {
    let mut fields = passwd
        .lines()
        .map(|line| line.split(':'))
        .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(Account { uid, gid })
}

/// A port of 127.0.0.1 that nobody listens on now, outside the range of outgoing connections.
///
/// # Errors
/// [`ServerError::NoPort`] when every draw was taken.
pub fn free_port() -> Result<u16, ServerError> {
    (0..PORT_DRAWS)
        .map(|_| fastrand::u16(PORTS))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or(ServerError::NoPort { tried: PORT_DRAWS })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_read_by_its_whole_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgres2:x:7:8::/:/bin/sh\npostgres:x:101:104:,,,:/var/lib:/bin/bash\n";
        assert_eq!(
            account_named(passwd, "postgres"),
            Some(Account { uid: 101, gid: 104 })
        );
        assert_eq!(account_named(passwd, "nobody"), None);
        assert_eq!(account_named("postgres:x:many", "postgres"), None);
    }

    #[test]
    fn a_free_port_can_be_bound_and_is_no_port_of_an_outgoing_connection() {
        let port = free_port().unwrap();
        assert!(PORTS.contains(&port));
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    }

    #[test]
    fn a_missing_program_is_an_error_that_names_the_command_to_install_it() {
        let message = program("no-such-server").unwrap_err().to_string();
        assert!(message.contains("`no-such-server`"), "{message}");
        assert!(
            message.contains("apt-get install -y postgresql redis-server"),
            "{message}"
        );
    }
}
