//! `HELLO`, `AUTH`, `SELECT`, `CLIENT`, `RESET`: what belongs to one connection.

use super::super::codec::{Protocol, reply};
use super::super::door::Door;
use super::super::lock_session::LockSession;
use super::WrongArity;
use std::net::IpAddr;

/// The longest name a client may give itself or its library.
const MAX_NAME: usize = 256;
/// The version of Redis whose behaviour clients may expect of what this door serves.
pub(super) const REDIS_VERSION: &str = "7.2.0";

/// The state of one connection.
pub(in super::super) struct Session {
    pub(in super::super) id: u64,
    pub(in super::super) peer: Option<IpAddr>,
    pub(in super::super) protocol: Protocol,
    pub(in super::super) authenticated: bool,
    pub(in super::super) locks: LockSession,
    name: Option<Box<str>>,
    library: Option<Box<str>>,
    library_version: Option<Box<str>>,
}

impl Session {
    pub(in super::super) fn new(id: u64, peer: Option<IpAddr>, authenticated: bool) -> Self {
        Self {
            id,
            peer,
            protocol: Protocol::Resp2,
            authenticated,
            locks: LockSession::default(),
            name: None,
            library: None,
            library_version: None,
        }
    }

    /// `HELLO [version [AUTH user password] [SETNAME name]]`
    pub(super) async fn hello(&mut self, door: &Door, args: &[&[u8]], out: &mut Vec<u8>) {
        let mut args = args.iter();
        let mut protocol = self.protocol;
        if let Some(version) = args.next() {
            protocol = match (*version, integer(version)) {
                (b"2", _) => Protocol::Resp2,
                (b"3", _) => Protocol::Resp3,
                (_, Some(_)) => {
                    return reply::error(out, "NOPROTO", "unsupported protocol version");
                }
                (_, None) => {
                    let text = "Protocol version is not an integer or out of range";
                    return reply::error(out, "ERR", text);
                }
            };
        }
        let mut name = None;
        while let Some(option) = args.next() {
            if option.eq_ignore_ascii_case(b"AUTH") && args.len() >= 2 {
                let (user, guess) = (args.next(), args.next());
                let (Some(user), Some(guess)) = (user, guess) else {
                    return;
                };
                if !self.log_in(door, user, guess, out).await {
                    return;
                }
            } else if option.eq_ignore_ascii_case(b"SETNAME") && args.len() >= 1 {
                name = args.next();
            } else {
                let option = String::from_utf8_lossy(option);
                let text = format!("Syntax error in HELLO option '{option}'");
                return reply::error(out, "ERR", text);
            }
        }
        if !self.authenticated {
            let text = "HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time";
            return reply::error(out, "NOAUTH", text);
        }
        if let Some(name) = name {
            match label(name) {
                Some(name) => self.name = Some(name),
                None => return bad_label(out, "Client names"),
            }
        }
        self.protocol = protocol;
        self.greet(out);
    }

    fn greet(&self, out: &mut Vec<u8>) {
        reply::map(out, self.protocol, 7);
        let mut text = |name: &str, value: &str| {
            reply::bulk(out, name.as_bytes());
            reply::bulk(out, value.as_bytes());
        };
        // Clients choose what they may send by these two; ours are in `INFO`.
        text("server", "redis");
        text("version", REDIS_VERSION);
        text("mode", "standalone");
        text("role", "master");
        reply::bulk(out, b"proto");
        reply::integer(
            out,
            match self.protocol {
                Protocol::Resp2 => 2,
                Protocol::Resp3 => 3,
            },
        );
        reply::bulk(out, b"id");
        reply::integer(out, i64::try_from(self.id).unwrap_or(i64::MAX));
        reply::bulk(out, b"modules");
        reply::array(out, 0);
    }

    /// `AUTH [user] password`
    pub(super) async fn auth(&mut self, door: &Door, args: &[&[u8]], out: &mut Vec<u8>) {
        let (user, guess): (&[u8], &[u8]) = match args {
            [guess] => (b"default", guess),
            [user, guess] => (user, guess),
            _ => return reply::error(out, "ERR", "syntax error"),
        };
        if args.len() == 1 && door.password.is_none() {
            let text = "AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?";
            return reply::error(out, "ERR", text);
        }
        if self.log_in(door, user, guess, out).await {
            reply::simple(out, "OK");
        }
    }

    /// Checks a password; a wrong one is answered here, ever more slowly.
    async fn log_in(&mut self, door: &Door, user: &[u8], guess: &[u8], out: &mut Vec<u8>) -> bool {
        let verdict = match &door.password {
            _ if user != b"default" => Err(std::time::Duration::ZERO),
            // As in Redis: without a password, the default user's every password is right.
            None => Ok(()),
            Some(password) => password.check(guess, self.peer),
        };
        match verdict {
            Ok(()) => self.authenticated = true,
            Err(pause) => {
                tokio::time::sleep(pause).await;
                let text = "invalid username-password pair or user is disabled.";
                reply::error(out, "WRONGPASS", text);
            }
        }
        verdict.is_ok()
    }

    /// `CLIENT ID|GETNAME|SETNAME|SETINFO|INFO|NO-EVICT|NO-TOUCH`
    pub(super) fn client(&mut self, args: &[&[u8]], out: &mut Vec<u8>) {
        let (verb, rest) = (args[0].to_ascii_uppercase(), &args[1..]);
        match (verb.as_slice(), rest) {
            (b"ID", []) => reply::integer(out, i64::try_from(self.id).unwrap_or(i64::MAX)),
            (b"GETNAME", []) => match &self.name {
                Some(name) => reply::bulk(out, name.as_bytes()),
                None => reply::null(out, self.protocol),
            },
            (b"SETNAME", [name]) => match label(name) {
                Some(name) => {
                    self.name = (!name.is_empty()).then_some(name);
                    reply::simple(out, "OK");
                }
                None => bad_label(out, "Client names"),
            },
            (b"SETINFO", [what, value]) => self.set_info(what, value, out),
            (b"INFO", []) => reply::verbatim(out, self.protocol, &self.describe()),
            (b"NO-EVICT" | b"NO-TOUCH", [b"on" | b"off" | b"ON" | b"OFF"]) => {
                // Nothing here is evicted or touched by a connection.
                reply::simple(out, "OK");
            }
            (b"ID" | b"GETNAME" | b"SETNAME" | b"SETINFO" | b"INFO", _) => {
                let verb = String::from_utf8_lossy(&verb).to_ascii_lowercase();
                reply::error(out, "ERR", WrongArity(&format!("client|{verb}")));
            }
            _ => unknown_subcommand(out, "CLIENT", args[0]),
        }
    }

    fn set_info(&mut self, what: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let Some(value) = label(value) else {
            return bad_label(out, "Client library names and versions");
        };
        match what.to_ascii_lowercase().as_slice() {
            b"lib-name" => self.library = Some(value),
            b"lib-ver" => self.library_version = Some(value),
            _ => {
                let what = String::from_utf8_lossy(what);
                return reply::error(out, "ERR", format!("Unrecognized option '{what}'"));
            }
        }
        reply::simple(out, "OK");
    }

    fn describe(&self) -> String {
        let text = |label: &Option<Box<str>>| label.as_deref().unwrap_or_default().to_owned();
        let resp = match self.protocol {
            Protocol::Resp2 => 2,
            Protocol::Resp3 => 3,
        };
        let peer = self.peer.map_or_else(String::new, |peer| peer.to_string());
        format!(
            "id={} addr={peer} name={} db=0 resp={resp} lib-name={} lib-ver={}\n",
            self.id,
            text(&self.name),
            text(&self.library),
            text(&self.library_version),
        )
    }

    /// Who this is, for the log.
    pub(super) fn who(&self) -> String {
        let name = self.name.as_deref().unwrap_or("without a name");
        match self.peer {
            Some(peer) => format!("client {} ({name}) at {peer}", self.id),
            None => format!("client {} ({name}) on a unix socket", self.id),
        }
    }

    /// `RESET`
    pub(super) fn reset(&mut self, door: &Door, out: &mut Vec<u8>) {
        self.locks.end(door);
        *self = Session::new(self.id, self.peer, door.password.is_none());
        reply::simple(out, "RESET");
    }
}

/// `SELECT index`
pub(super) fn select(index: &[u8], out: &mut Vec<u8>) {
    match integer(index) {
        Some(0) => reply::simple(out, "OK"),
        Some(_) => reply::error(out, "ERR", "DB index is out of range"),
        None => reply::error(out, "ERR", "value is not an integer or out of range"),
    }
}

pub(super) fn unknown_subcommand(out: &mut Vec<u8>, command: &str, subcommand: &[u8]) {
    let shown = String::from_utf8_lossy(&subcommand[..subcommand.len().min(128)]);
    let text = format!("unknown subcommand '{shown}' of {command}: not supported by this daemon");
    reply::error(out, "ERR", text);
}

fn bad_label(out: &mut Vec<u8>, what: &str) {
    let text = format!("{what} cannot contain spaces, newlines or special characters.");
    reply::error(out, "ERR", text);
}

/// A name as Redis allows it: printable ASCII without spaces.
fn label(name: &[u8]) -> Option<Box<str>> {
    let fine = name.len() <= MAX_NAME && name.iter().all(u8::is_ascii_graphic);
    fine.then(|| String::from_utf8_lossy(name).into())
}

fn integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
