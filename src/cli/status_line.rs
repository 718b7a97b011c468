//! The line that `systemctl status` shows.

use crate::Status;

/// While it serves.
pub(super) fn ready_line(status: &Status) -> String {
    let mut line = format!(
        "ready: {}, {}, {}",
        counted(status.caches, "cache"),
        counted(status.watches, "watch"),
        status.listens.join(", ")
    );
    for server in &status.away {
        line.push_str(&format!("; {server} is away"));
    }
    line
}

/// While it stops.
pub(super) fn stopping_line(status: &Status) -> String {
    let connections = usize::try_from(status.connections).unwrap_or(0);
    let mut line = format!("stopping: {}", counted(connections, "connection"));
    if status.writes_waiting > 0 {
        line.push_str(&format!(", {} writes not saved yet", status.writes_waiting));
    }
    line
}

/// `1 cache`, `2 caches`, `2 watches`.
fn counted(count: usize, name: &str) -> String {
    let ending = match count {
        1 => "",
        _ if name.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{count} {name}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status {
            caches: 3,
            watches: 2,
            listens: vec!["127.0.0.1:6380".to_owned(), "unix:/run/x".to_owned()],
            connections: 4,
            writes_waiting: 0,
            away: Vec::new(),
        }
    }

    #[test]
    fn the_line_of_systemctl_status_tells_what_is_served_and_what_is_away() {
        let line = "ready: 3 caches, 2 watches, 127.0.0.1:6380, unix:/run/x";
        assert_eq!(ready_line(&status()), line);
        let one = Status {
            caches: 1,
            watches: 1,
            away: vec!["redis", "postgres"],
            ..status()
        };
        let line =
            "ready: 1 cache, 1 watch, 127.0.0.1:6380, unix:/run/x; redis is away; postgres is away";
        assert_eq!(ready_line(&one), line);
    }

    #[test]
    fn the_line_of_a_stop_tells_what_it_waits_for() {
        assert_eq!(stopping_line(&status()), "stopping: 4 connections");
        let behind = Status {
            connections: 1,
            writes_waiting: 12,
            ..status()
        };
        let line = "stopping: 1 connection, 12 writes not saved yet";
        assert_eq!(stopping_line(&behind), line);
    }
}
