//! `cachewarden limit`: asks the running daemon about a limit, as a client would.

use super::client::Reply;
use super::{ask, check, exit};
use serde_json::json;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

/// The daemon answers at once, or has given Redis up before.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ask the running daemon what a limit lets through, or give back what was taken
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Action {
    /// Take from a limit, as a request of the subject would; exit code 1 if it refuses
    Check(Amount),
    /// Tell what `check` would, and take nothing
    Peek(Amount),
    /// Forget what the subject has taken
    Reset(Named),
    /// Give back what was taken and not used
    Refund(Amount),
    /// End a request that is in flight, of a limit that counts those: by the id that `check` told; exit code 1 if none has it
    Release(Flight),
}

#[derive(clap::Args, Clone, Debug)]
struct Named {
    /// A limit's name, as in [limits.NAME]; of `check` and `peek` also several, with commas between them
    limit: OsString,
    /// Who asks, as the programs name them: user:42
    subject: OsString,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Clone, Debug)]
struct Amount {
    #[command(flatten)]
    named: Named,
    /// How much
    #[arg(long, value_name = "N", default_value_t = 1)]
    cost: u64,
}

#[derive(clap::Args, Clone, Debug)]
struct Flight {
    #[command(flatten)]
    named: Named,
    /// Its id
    id: OsString,
}

pub(super) fn run(path: &Path, args: Args) -> u8 {
    let config = match check::offline_or_told(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let cost = |cost: u64| cost.to_string().into_bytes();
    let (command, named, rest) = match args.action {
        Action::Check(Amount { named, cost: n }) => {
            ("RATE.CHECK", named, vec![b"COST".to_vec(), cost(n)])
        }
        Action::Peek(Amount { named, cost: n }) => {
            ("RATE.PEEK", named, vec![b"COST".to_vec(), cost(n)])
        }
        Action::Reset(named) => ("RATE.RESET", named, vec![]),
        Action::Refund(Amount { named, cost: n }) => ("RATE.REFUND", named, vec![cost(n)]),
        Action::Release(Flight { named, id }) => ("RATE.RELEASE", named, vec![id.into_vec()]),
    };
    let mut words = vec![command.as_bytes().to_vec()];
    words.extend([named.limit.into_vec(), named.subject.into_vec()]);
    words.extend(rest);
    let answer = match ask::ask_within(PATIENCE, &config, &words) {
        Ok(answer) => answer,
        Err(error) => {
            exit::tell(&error);
            return error.exit_code();
        }
    };
    let Some(said) = Said::of(command, &answer) else {
        exit::tell(format_args!(
            "the daemon answered something unexpected: {answer}"
        ));
        return exit::FAILED;
    };
    if named.json {
        println!("{}", said.json());
    } else {
        println!("{}", said.line());
    }
    said.exit_code()
}

/// What the daemon has said.
enum Said {
    Decision(Decision),
    Reset { was_there: bool },
    Refunded(i64),
    Released { was_there: bool },
}

struct Decision {
    allowed: bool,
    limit: i64,
    remaining: i64,
    /// -1: never.
    retry_after_ms: i64,
    reset_ms: i64,
    refused_by: String,
    /// Of what is in flight now, and counts until its lease ends.
    id: Option<String>,
}

impl Said {
    fn of(command: &str, answer: &Reply) -> Option<Said> {
        match answer {
            Reply::Int(number) if command == "RATE.RESET" => Some(Said::Reset {
                was_there: *number == 1,
            }),
            Reply::Int(number) if command == "RATE.RELEASE" => Some(Said::Released {
                was_there: *number == 1,
            }),
            Reply::Int(number) => Some(Said::Refunded(*number)),
            Reply::List(elements) => Decision::of(elements).map(Said::Decision),
            _ => None,
        }
    }

    fn line(&self) -> String {
        match self {
            Said::Decision(decision) => decision.line(),
            Said::Reset { was_there: true } => "forgot what was taken".to_owned(),
            Said::Reset { was_there: false } => "nothing was taken".to_owned(),
            Said::Refunded(amount) => format!("gave back {amount}"),
            Said::Released { was_there: true } => "released".to_owned(),
            Said::Released { was_there: false } => "nothing in flight has this id".to_owned(),
        }
    }

    fn json(&self) -> serde_json::Value {
        match self {
            Said::Decision(decision) => decision.json(),
            Said::Reset { was_there } => json!({ "reset": was_there }),
            Said::Refunded(amount) => json!({ "refunded": amount }),
            Said::Released { was_there } => json!({ "released": was_there }),
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Said::Decision(Decision { allowed: false, .. })
            | Said::Released { was_there: false } => exit::FAILED,
            _ => 0,
        }
    }
}

impl Decision {
    fn of(elements: &[Reply]) -> Option<Decision> {
        use Reply::{Int, Text};
        let (first, id) = elements.split_at_checked(6)?;
        let [
            Int(allowed),
            Int(limit),
            Int(remaining),
            Int(retry),
            Int(reset),
            Text(refused_by),
        ] = first
        else {
            return None;
        };
        let id = match id {
            [] => None,
            [Text(id)] => Some(id.clone()),
            _ => return None,
        };
        Some(Decision {
            allowed: *allowed == 1,
            limit: *limit,
            remaining: *remaining,
            retry_after_ms: *retry,
            reset_ms: *reset,
            refused_by: refused_by.clone(),
            id,
        })
    }

    fn line(&self) -> String {
        let verdict = match (self.allowed, u64::try_from(self.retry_after_ms)) {
            (true, _) => "allowed".to_owned(),
            (false, Ok(retry)) => {
                let retry = Duration::from_millis(retry);
                format!("refused by {} for {retry:?}", self.refused_by)
            }
            (false, Err(_never)) => {
                format!(
                    "refused by {} for ever: it never has so much",
                    self.refused_by
                )
            }
        };
        let left = format!("{} of {} left", self.remaining, self.limit);
        let reset = match u64::try_from(self.reset_ms) {
            Ok(ms @ 1..) => format!(", all of it in {:?}", Duration::from_millis(ms)),
            _ => String::new(),
        };
        let id = self.id.iter().map(|id| format!(", id {id}"));
        let id: String = id.collect();
        format!("{verdict}; {left}{reset}{id}")
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "allowed": self.allowed,
            "limit": self.limit,
            "remaining": self.remaining,
            "retry_after_ms": (self.retry_after_ms >= 0).then_some(self.retry_after_ms),
            "reset_ms": self.reset_ms,
            "refused_by": (!self.allowed).then_some(&self.refused_by),
            "id": self.id,
        })
    }
}
