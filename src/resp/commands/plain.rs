//! Commands that only plain keys know, on other keys; and keys of both kinds in one command.

use super::super::codec::{Protocol, reply};
use super::super::door::Door;
use super::super::{failure, plain};
use super::{COMMANDS, Verb};
use crate::plain::{Answer, Passed, PlainError};

/// Says why `verb` does not run on these words: they name something that is no plain key.
pub(super) fn refuse(door: &Door, verb: Verb, words: &[&[u8]], out: &mut Vec<u8>) {
    let name = COMMANDS.iter().find(|command| command.verb == verb);
    let name = name.map_or("", |command| command.name);
    let (count, step) = plain::verb_of(verb).map_or((1, 1), |verb| verb.keys());
    let mut keys = words.iter().take(count).step_by(step);
    let Some(key) = keys.find(|key| !door.is_plain(key)) else {
        let text = format_args!("{name} is for plain keys, and no [passthrough.*] is declared");
        return reply::error(out, "ERR", text);
    };
    match door.route(key) {
        Err(error) => failure::key(out, &error),
        Ok(key) => {
            let (space, kind) = match door.space(&key) {
                (cache, true) => (cache, "cache"),
                (namespace, false) => (namespace, "namespace"),
            };
            let text = format_args!(
                "{kind} '{space}' takes no {name}: it is for keys of a [passthrough.*]"
            );
            reply::error(out, "READONLY", text);
        }
    }
}

/// Plain keys, and others.
pub(super) fn split<'a>(door: &Door, keys: &[&'a [u8]]) -> (Vec<&'a [u8]>, Vec<&'a [u8]>) {
    keys.iter().copied().partition(|key| door.is_plain(key))
}

/// Runs a command that counts keys on plain ones; how many it counted. `None`: there was an error, and it is written.
pub(super) async fn count(
    door: &Door,
    core: usize,
    verb: crate::plain::Verb,
    keys: &[&[u8]],
    out: &mut Vec<u8>,
) -> Option<u64> {
    if keys.is_empty() {
        return Some(0);
    }
    let command = plain::command(verb, keys.iter().copied());
    let answer: Option<Answer> = plain::ask(door, core, vec![command]).await.pop();
    // An actor answers every command it was asked.
    let answer = answer.unwrap_or(Err(PlainError::Undeclared));
    match answer {
        Ok(Passed::Integer(count)) => u64::try_from(count).ok(),
        // An error looks alike in both protocols.
        other => {
            plain::write(&other, Protocol::Resp2, out);
            None
        }
    }
}
