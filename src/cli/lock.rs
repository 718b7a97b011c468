//! `cachewarden lock`: who holds which lock, asked of the running daemon.

use super::client::Reply;
use super::table::table;
use super::{ask, check, exit};
use serde_json::json;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

/// The daemon answers at once, or has given Redis up before.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tell who holds which lock, or take one away from its holder
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Action {
    /// Tell of all locks that are held, or waited for; of the whole fleet
    List {
        /// Only those whose names begin so
        prefix: Option<OsString>,
    },
    /// Tell of one lock
    Info { name: OsString },
    /// Take a lock away from whoever holds it, and say so in the daemon's log; exit code 1 if nobody did
    ///
    /// Its holder is told, but may go on for a moment: only a fence refuses what it still writes.
    Force { name: OsString },
}

pub(super) fn run(path: &Path, args: Args) -> u8 {
    let config = match check::offline_or_told(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let (command, name) = match args.action {
        Action::List { prefix } => ("LOCK.LIST", prefix),
        Action::Info { name } => ("LOCK.INFO", Some(name)),
        Action::Force { name } => ("LOCK.FORCE", Some(name)),
    };
    let mut words = vec![command.as_bytes().to_vec()];
    words.extend(name.map(OsString::into_vec));
    let answer = match ask::ask_within(PATIENCE, &config, &words) {
        Ok(answer) => answer,
        Err(error) => {
            exit::tell(&error);
            return error.exit_code();
        }
    };
    match Said::of(command, &answer) {
        Some(said) => {
            print!("{}", if args.json { said.json() } else { said.text() });
            said.exit_code()
        }
        None => {
            exit::tell(format_args!(
                "the daemon answered something unexpected: {answer}"
            ));
            exit::FAILED
        }
    }
}

/// What the daemon has said.
enum Said {
    Locks(Vec<Lock>),
    Lock(Lock),
    Forced(bool),
}

struct Lock {
    name: String,
    held: i64,
    /// None while nobody holds it.
    fence: Option<i64>,
    ttl_ms: i64,
    waiters: i64,
}

impl Said {
    fn of(command: &str, answer: &Reply) -> Option<Self> {
        match (command, answer) {
            ("LOCK.LIST", Reply::List(locks)) => {
                let locks: Option<_> = locks.iter().map(Lock::of).collect();
                locks.map(Said::Locks)
            }
            ("LOCK.INFO", answer) => Lock::of(answer).map(Said::Lock),
            (_, Reply::Int(forced @ (0 | 1))) => Some(Said::Forced(*forced == 1)),
            _ => None,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Said::Forced(false) => exit::FAILED,
            _ => 0,
        }
    }

    fn text(&self) -> String {
        let locks = match self {
            Said::Forced(true) => return "taken away\n".to_owned(),
            Said::Forced(false) => return "nobody holds it\n".to_owned(),
            Said::Locks(locks) if locks.is_empty() => return "nobody holds a lock\n".to_owned(),
            Said::Locks(locks) => locks.as_slice(),
            Said::Lock(lock) => std::slice::from_ref(lock),
        };
        let head = ["lock", "held by", "fence", "ms left", "waiting"].map(str::to_owned);
        let rows: Vec<_> = [head]
            .into_iter()
            .chain(locks.iter().map(Lock::row))
            .collect();
        table(&rows)
    }

    fn json(&self) -> String {
        let value = match self {
            Said::Forced(forced) => json!({ "forced": forced }),
            Said::Lock(lock) => lock.json(),
            Said::Locks(locks) => locks.iter().map(Lock::json).collect(),
        };
        format!("{value}\n")
    }
}

impl Lock {
    /// From names and values in turn.
    fn of(answer: &Reply) -> Option<Self> {
        let Reply::List(fields) = answer else {
            return None;
        };
        let field = |name: &str| {
            let mut pairs = fields.chunks_exact(2);
            pairs.find_map(|pair| match pair {
                [Reply::Text(text), value] if text == name => Some(value),
                _ => None,
            })
        };
        let number = |name| match field(name)? {
            Reply::Int(number) => Some(*number),
            _ => None,
        };
        let Reply::Text(name) = field("name")? else {
            return None;
        };
        Some(Self {
            name: name.clone(),
            held: number("held")?,
            fence: number("fence"),
            ttl_ms: number("ttl_ms")?,
            waiters: number("waiters")?,
        })
    }

    fn row(&self) -> [String; 5] {
        [
            self.name.clone(),
            self.held.to_string(),
            self.fence.map_or("-".to_owned(), |fence| fence.to_string()),
            self.ttl_ms.to_string(),
            self.waiters.to_string(),
        ]
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "held": self.held,
            "fence": self.fence,
            "ttl_ms": self.ttl_ms,
            "waiters": self.waiters,
        })
    }
}
