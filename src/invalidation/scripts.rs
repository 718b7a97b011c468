//! The scripts of this room, with types; and how sweeps are written for other daemons.

use super::pending::Sweep;
use crate::keyspace::{
    Pattern,
    names::{LEASE_INDEX, SWEEPS, SWEEPS_CHANNEL, lease_of},
};
use crate::store::{Pinned, Script, StoreError};
use bytes::Bytes;
use std::time::Duration;
use uuid::Uuid;

/// What one daemon tells the others of a sweep.
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
}

impl Notice {
    /// `announce <by> <id> <life ms> <pattern>` or `end <by> <id>`. A pattern may hold any bytes, so it comes last.
    fn write(&self) -> Vec<u8> {
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
        let life_ms = Bytes::from(life.as_millis().to_string());
        let mut args = vec![life_ms, Bytes::from_static(SWEEPS_CHANNEL.as_bytes())];
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
}
