//! `PING`, `COMMAND`, `INFO`: what describes the door and the daemon.

use super::super::codec::{Protocol, reply};
use super::super::door::Door;
use super::session::{REDIS_VERSION, unknown_subcommand};
use super::{COMMANDS, Command, WrongArity, lookup};
use std::fmt::Write;

pub(super) fn ping(args: &[&[u8]], out: &mut Vec<u8>) {
    match args {
        [] => reply::simple(out, "PONG"),
        [message] => reply::bulk(out, message),
        _ => reply::error(out, "ERR", WrongArity("ping")),
    }
}

/// `COMMAND [COUNT | LIST | INFO name… | DOCS name…]`
pub(super) fn command(args: &[&[u8]], protocol: Protocol, out: &mut Vec<u8>) {
    let Some((verb, names)) = args.split_first() else {
        reply::array(out, COMMANDS.len());
        return COMMANDS.iter().for_each(|command| describe(command, out));
    };
    match verb.to_ascii_uppercase().as_slice() {
        b"COUNT" => reply::integer(out, i64::try_from(COMMANDS.len()).unwrap_or(i64::MAX)),
        b"LIST" => {
            reply::array(out, COMMANDS.len());
            for command in COMMANDS {
                reply::bulk(out, command.name.to_ascii_lowercase().as_bytes());
            }
        }
        b"INFO" if names.is_empty() => command(&[], protocol, out),
        b"INFO" => {
            reply::array(out, names.len());
            for name in names {
                match lookup(name) {
                    Some(command) => describe(command, out),
                    None => reply::null(out, protocol),
                }
            }
        }
        b"DOCS" => {
            let named = |command: &&Command| {
                names.is_empty()
                    || names
                        .iter()
                        .any(|name| command.name.as_bytes().eq_ignore_ascii_case(name))
            };
            let commands: Vec<_> = COMMANDS.iter().filter(named).collect();
            reply::map(out, protocol, commands.len());
            for command in commands {
                reply::bulk(out, command.name.to_ascii_lowercase().as_bytes());
                document(command, protocol, out);
            }
        }
        _ => unknown_subcommand(out, "COMMAND", verb),
    }
}

/// The ten elements Redis 7 gives for a command.
fn describe(command: &Command, out: &mut Vec<u8>) {
    reply::array(out, 10);
    reply::bulk(out, command.name.to_ascii_lowercase().as_bytes());
    reply::integer(out, i64::from(command.arity));
    reply::array(out, command.flags.len());
    for flag in command.flags {
        reply::simple(out, flag);
    }
    let (first, last, step) = command.keys;
    for position in [first, last, step] {
        reply::integer(out, i64::from(position));
    }
    // Categories, tips, key specifications, subcommands: none.
    (0..4).for_each(|_| reply::array(out, 0));
}

fn document(command: &Command, protocol: Protocol, out: &mut Vec<u8>) {
    reply::map(out, protocol, 3);
    for (name, value) in [
        ("summary", command.summary),
        ("since", env!("CARGO_PKG_VERSION")),
        ("group", command.group),
    ] {
        reply::bulk(out, name.as_bytes());
        reply::bulk(out, value.as_bytes());
    }
}

/// `INFO [section…]`: what clients look for when they connect, and what the daemon counts.
pub(super) fn info(door: &Door, args: &[&[u8]], protocol: Protocol, out: &mut Vec<u8>) {
    let everything = ["all", "default", "everything"];
    let wanted = |section: &str| {
        args.is_empty()
            || args.iter().any(|arg| {
                let is = |name: &str| arg.eq_ignore_ascii_case(name.as_bytes());
                is(section) || everything.iter().any(|name| is(name))
            })
    };
    let mut text = String::new();
    for (section, lines) in sections(door) {
        if !wanted(section) {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        // Writing to a String cannot fail.
        let _infallible = write!(text, "# {section}\r\n");
        for (name, value) in lines {
            let _infallible = write!(text, "{name}:{value}\r\n");
        }
    }
    reply::verbatim(out, protocol, &text);
}

type Lines = Vec<(String, String)>;

fn sections(door: &Door) -> [(&'static str, Lines); 7] {
    let line = |name: &str, value: &dyn std::fmt::Display| (name.to_owned(), value.to_string());
    let uptime = door.since.elapsed().as_secs();
    [
        (
            "Server",
            vec![
                line("redis_version", &REDIS_VERSION),
                line("redis_mode", &"standalone"),
                line("cachewarden_version", &env!("CARGO_PKG_VERSION")),
                line("process_id", &std::process::id()),
                line("uptime_in_seconds", &uptime),
                line("uptime_in_days", &(uptime / 86_400)),
            ],
        ),
        (
            "Clients",
            vec![
                line("connected_clients", &door.metrics.connections.get()),
                line("maxclients", &door.max_connections),
            ],
        ),
        (
            "Memory",
            vec![line("used_memory_rss", &resident_bytes().unwrap_or(0))],
        ),
        ("Persistence", vec![line("loading", &0)]),
        (
            "Stats",
            vec![line("total_connections_received", &door.clients_so_far())],
        ),
        (
            "Replication",
            vec![line("role", &"master"), line("connected_slaves", &0)],
        ),
        ("Cachewarden", (door.info)()),
    ]
}

/// The process' resident memory, as the kernel counts it.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}
