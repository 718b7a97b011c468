//! The scripts of this room, with types; and how sweeps are written for other daemons.

use super::heartbeat::Heartbeat;
use super::pending::Sweep;
use crate::keyspace::{
    Pattern,
    names::{HEARTBEAT, LEASE_INDEX, SWEEPS, SWEEPS_CHANNEL, lease_of},
};
use crate::store::{Identity, Pinned, Reply, Script, Store, StoreError};
use bytes::Bytes;
use std::time::Duration;
use uuid::Uuid;

/// How long other daemons heed an announcement that is not renewed, and nobody takes over. Anybody may write one, so none is
/// heeded for longer.
pub(super) const ANNOUNCED_FOR: Duration = Duration::from_secs(60);
/// How long it is remembered beyond that: a daemon that starts until then sweeps what was announced and never swept.
const UNSWEPT_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Entries read of the announced sweeps; their writers merge long before.
const MAX_LISTED: &str = "4096";
/// Prefixes that are vouched for at once, of all daemons' configurations since the server's start.
const MAX_VOUCHED: &str = "10000";

/// What one daemon tells the others of a sweep, or itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    Announced {
        by: Uuid,
        id: Uuid,
        life: Duration,
        pattern: Pattern,
    },
    Ended {
        by: Uuid,
        id: Uuid,
    },
    /// Not of a sweep: whoever published it waits for it, and knows of all that was published on what it `covers`.
    Echo {
        by: Uuid,
        word: Uuid,
        covers: u128,
    },
}

impl Notice {
    /// `announce <by> <id> <life ms> <pattern>`, `end <by> <id>` or `echo <by> <word> <covers>`. A pattern may hold any bytes,
    /// so it comes last.
    pub(super) fn write(&self) -> Vec<u8> {
        match self {
            Notice::Announced {
                by,
                id,
                life,
                pattern,
            } => {
                let head = format!("announce {by} {id} {} ", life.as_millis());
                [head.as_bytes(), pattern.text()].concat()
            }
            Notice::Ended { by, id } => format!("end {by} {id}").into_bytes(),
            Notice::Echo { by, word, covers } => {
                format!("echo {by} {word} {covers:032x}").into_bytes()
            }
        }
    }

    pub(super) fn read(message: &[u8]) -> Option<Self> {
        let mut words = message.splitn(5, |byte| *byte == b' ');
        let verb = words.next()?;
        let by = Uuid::try_parse_ascii(words.next()?).ok()?;
        let id = Uuid::try_parse_ascii(words.next()?).ok()?;
        match verb {
            b"announce" => {
                let life_ms = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
                let life = Duration::from_millis(life_ms).min(ANNOUNCED_FOR);
                Some(Notice::Announced {
                    by,
                    id,
                    life,
                    pattern: Pattern::parse(words.next()?).ok()?,
                })
            }
            b"end" => Some(Notice::Ended { by, id }),
            b"echo" => {
                let covers = std::str::from_utf8(words.next()?).ok()?;
                let covers = u128::from_str_radix(covers, 16).ok()?;
                Some(Notice::Echo {
                    by,
                    word: id,
                    covers,
                })
            }
            _ => None,
        }
    }
}

fn entry(sweep: &Sweep) -> Bytes {
    let id = sweep.id.to_string();
    [id.as_bytes(), b" ", sweep.pattern.text()].concat().into()
}

/// The scripts of this room.
#[derive(Debug)]
pub(super) struct Scripts {
    revoke: Script,
    announce: Script,
    withdraw: Script,
    list: Script,
    list_heartbeats: Script,
    leave_heartbeats: Script,
}

impl Default for Scripts {
    fn default() -> Self {
        Self {
            revoke: Script::new("revoke_leases", include_str!("scripts/revoke_leases.lua")),
            announce: Script::new(
                "announce_sweeps",
                include_str!("scripts/announce_sweeps.lua"),
            ),
            withdraw: Script::new(
                "withdraw_sweeps",
                include_str!("scripts/withdraw_sweeps.lua"),
            ),
            list: Script::new("list_sweeps", include_str!("scripts/list_sweeps.lua")),
            list_heartbeats: Script::new(
                "list_heartbeats",
                include_str!("scripts/list_heartbeats.lua"),
            ),
            leave_heartbeats: Script::new(
                "leave_heartbeats",
                include_str!("scripts/leave_heartbeats.lua"),
            ),
        }
    }
}

impl Scripts {
    /// Ends the leases of `keys`: loads under way will not fill.
    pub(super) async fn revoke(&self, pinned: &Pinned, keys: &[Bytes]) -> Result<(), StoreError> {
        let mut names = vec![Bytes::from_static(LEASE_INDEX.as_bytes())];
        names.extend(keys.iter().map(|key| Bytes::from(lease_of(key))));
        pinned.run(&self.revoke, &names, keys).await.map(drop)
    }

    pub(super) async fn announce(
        &self,
        pinned: &Pinned,
        by: Uuid,
        life: Duration,
        sweeps: &[Sweep],
    ) -> Result<(), StoreError> {
        let ms = |time: Duration| Bytes::from(time.as_millis().to_string());
        let channel = Bytes::from_static(SWEEPS_CHANNEL.as_bytes());
        let mut args = vec![ms(life), ms(UNSWEPT_KEPT), channel];
        for sweep in sweeps {
            let notice = Notice::Announced {
                by,
                id: sweep.id,
                life,
                pattern: sweep.pattern.clone(),
            };
            args.extend([entry(sweep), notice.write().into()]);
        }
        pinned.run(&self.announce, &[SWEEPS], &args).await.map(drop)
    }

    pub(super) async fn withdraw(
        &self,
        pinned: &Pinned,
        by: Uuid,
        sweeps: &[Sweep],
    ) -> Result<(), StoreError> {
        let mut args = vec![Bytes::from_static(SWEEPS_CHANNEL.as_bytes())];
        for sweep in sweeps {
            let notice = Notice::Ended { by, id: sweep.id };
            args.extend([entry(sweep), notice.write().into()]);
        }
        pinned.run(&self.withdraw, &[SWEEPS], &args).await.map(drop)
    }

    /// The announced sweeps, and for how long they still are; no time is left for those that nobody has gone on with.
    pub(super) async fn list(&self, store: &Store) -> Result<Vec<(Sweep, Duration)>, StoreError> {
        let reply = store.run(&self.list, &[SWEEPS], &[MAX_LISTED]).await?;
        let items = reply.into_list().unwrap_or_default();
        let pairs = items.chunks_exact(2).filter_map(|pair| match pair {
            [Reply::Text(entry), Reply::Integer(left_ms)] => {
                let mut parts = entry.splitn(2, |byte| *byte == b' ');
                let id = Uuid::try_parse_ascii(parts.next()?).ok()?;
                let pattern = Pattern::parse(parts.next()?).ok()?;
                let left = Duration::from_millis(u64::try_from(*left_ms).unwrap_or(0));
                Some((Sweep { id, pattern }, left.min(ANNOUNCED_FOR)))
            }
            _ => None,
        });
        Ok(pairs.collect())
    }

    /// How many keys there are beside the heartbeats, and the heartbeat of each of `prefixes`.
    pub(super) async fn heartbeats(
        &self,
        pinned: &Pinned,
        prefixes: &[Pattern],
    ) -> Result<(i64, Vec<Option<Heartbeat>>), StoreError> {
        let args: Vec<&[u8]> = prefixes.iter().map(Pattern::head).collect();
        let script = &self.list_heartbeats;
        let reply = pinned.run(script, &[HEARTBEAT], &args).await?;
        let mut items = reply.into_list().unwrap_or_default().into_iter();
        let Some(Reply::Integer(keys)) = items.next() else {
            let command = script.name();
            return Err(StoreError::Unexpected { command });
        };
        let heartbeat = |item| match item {
            Reply::Text(text) => Heartbeat::read(&text),
            _ => None,
        };
        Ok((keys, items.map(heartbeat).collect()))
    }

    /// Leaves heartbeats of these data: what lies under `prefixes` is as it should be, at that time.
    pub(super) async fn vouch(
        &self,
        pinned: &Pinned,
        identity: &Identity,
        at_us: i64,
        life: Duration,
        prefixes: &[Pattern],
    ) -> Result<(), StoreError> {
        let (data, at) = (Heartbeat::data(identity), at_us.to_string());
        let life_ms = life.as_millis().to_string();
        let mut args = vec![data.as_bytes(), at.as_bytes(), life_ms.as_bytes()];
        args.push(MAX_VOUCHED.as_bytes());
        args.extend(prefixes.iter().map(Pattern::head));
        let script = &self.leave_heartbeats;
        pinned.run(script, &[HEARTBEAT], &args).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_daemon_writes_of_a_sweep_the_others_read() {
        let (by, id) = (Uuid::new_v4(), Uuid::new_v4());
        let pattern = Pattern::parse(b"a: b\xff \\**").expect("a pattern");
        let life = Duration::from_secs(60);
        for notice in [
            Notice::Announced {
                by,
                id,
                life,
                pattern,
            },
            Notice::Ended { by, id },
            Notice::Echo {
                by,
                word: id,
                covers: 7,
            },
        ] {
            assert_eq!(Notice::read(&notice.write()), Some(notice));
        }
        for broken in ["", "announce", "end x y", "announce 1 2 3 4"] {
            assert_eq!(Notice::read(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn nobody_announces_a_sweep_for_longer_than_a_daemon_would() {
        let id = Uuid::new_v4();
        for life_ms in [60_001, 31_536_000_000, u64::MAX] {
            let forged = format!("announce {id} {id} {life_ms} a:*");
            match Notice::read(forged.as_bytes()) {
                Some(Notice::Announced { life, .. }) => assert_eq!(life, ANNOUNCED_FOR),
                other => panic!("{other:?}"),
            }
        }
    }
}
