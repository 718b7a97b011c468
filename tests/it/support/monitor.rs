//! What reaches a Redis, command by command and in order, those of scripts included.

use std::time::Duration;

use cachewarden::cli::demo::servers::Redis;

use super::resp::{Client, Value};
use super::world::raw;

/// A command that was carried out.
#[derive(Clone, Debug)]
pub struct Command {
    /// When, by Redis' clock: since 1970.
    pub at: Duration,
    /// Its name in lower case, then its arguments as `MONITOR` quotes them.
    pub words: Vec<String>,
}

impl Command {
    /// Whether it has this name.
    pub fn is(&self, name: &str) -> bool {
        self.words[0] == name
    }

    /// Whether an argument begins like this.
    pub fn names(&self, head: &str) -> bool {
        self.words[1..].iter().any(|word| word.starts_with(head))
    }
}

/// Hears all commands from its start on.
pub struct Monitor {
    heard: Client,
    other: Client,
}

impl Monitor {
    pub async fn start(redis: &Redis) -> Self {
        let (mut heard, other) = (raw(redis).await, raw(redis).await);
        assert_eq!(heard.command(&["MONITOR"]).await.text(), "OK");
        Self { heard, other }
    }

    /// All that was carried out since it was asked last.
    pub async fn commands(&mut self) -> Vec<Command> {
        const END: &str = "the end of what was heard";
        self.other.command(&["ECHO", END]).await;
        let mut commands = Vec::new();
        loop {
            let Value::Simple(line) = self.heard.read().await.unwrap() else {
                panic!("no line of MONITOR")
            };
            let command = read(&line).unwrap_or_else(|| panic!("{line}"));
            if command.is("echo") && command.names(END) {
                return commands;
            }
            commands.push(command);
        }
    }
}

/// `1700000000.123456 [0 127.0.0.1:1234] "GET" "a key"`
fn read(line: &str) -> Option<Command> {
    let (at, rest) = line.split_once(' ')?;
    let (seconds, micros) = at.split_once('.')?;
    let at = Duration::new(seconds.parse().ok()?, 1000 * micros.parse::<u32>().ok()?);
    let (_, quoted) = rest.split_once("] \"")?;
    let words = quoted.strip_suffix('"')?.split("\" \"");
    let mut words: Vec<String> = words.map(String::from).collect();
    words[0] = words[0].to_lowercase();
    Some(Command { at, words })
}
