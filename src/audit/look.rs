//! What Redis holds of keys at one moment.

use crate::keyspace::names::lease_of;
use crate::store::{Reply, Script, Store, StoreError};
use bytes::Bytes;
use std::time::Duration;

/// Bytes of values one look brings at most, unless a single one has more: what one exchange may carry.
const MAX_BYTES: &str = "4194304";
/// Keys of one look: what Redis does for them holds up everybody else for as long as it runs.
const MAX_KEYS: usize = 128;
/// By how much two tellings of one expiry may differ, in milliseconds: a Redis before 7.0 cannot be asked for it, and what
/// is told instead is rounded twice.
const ROUNDING_MS: u64 = 2;

/// What `PTTL` says of a key that is not there.
const GONE: i64 = -2;

/// What Redis holds of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// The value's bytes; `None`: there is none.
    pub(super) value: Option<Bytes>,
    /// Something lies there that is no value: another program's list, or nothing but its name.
    pub(super) is_no_value: bool,
    pub(super) life: Life,
    pub(super) lease: Option<HeldLease>,
}

/// How long a value lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    /// What is left of it; `None`: it does not end.
    pub(super) left: Option<Duration>,
    /// When it ends, in milliseconds by Redis' clock.
    ends_ms: Option<u64>,
}

impl Life {
    /// Whether both are the life of one filled value. One that was filled anew ends at another time.
    pub(super) fn is_same(self, other: Life) -> bool {
        match (self.ends_ms, other.ends_ms) {
            (Some(one), Some(two)) => one.abs_diff(two) <= ROUNDING_MS,
            (one, two) => one == two,
        }
    }
}

/// A load under way holds a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldLease {
    /// How its token begins.
    pub token: [u8; 4],
    pub left: Duration,
}

/// Looks at keys.
#[derive(Debug)]
pub(super) struct Looking(Script);

impl Default for Looking {
    fn default() -> Self {
        Self(Script::new(
            "look_at_values",
            include_str!("scripts/look_at_values.lua"),
        ))
    }
}

impl Looking {
    /// Looks at the first of `keys`, as many as one exchange brings: one at least, if there is any.
    pub(super) async fn first<K: AsRef<[u8]>>(
        &self,
        store: &Store,
        keys: &[K],
    ) -> Result<Vec<Look>, StoreError> {
        self.look(store, keys, "0").await
    }

    /// Looks at one key, and at the first `bytes` bytes of its value.
    pub(super) async fn head(
        &self,
        store: &Store,
        key: &[u8],
        bytes: usize,
    ) -> Result<Look, StoreError> {
        let looks = self.look(store, &[key], &bytes.to_string()).await?;
        looks.into_iter().next().ok_or(StoreError::Unexpected {
            command: self.0.name(),
        })
    }

    async fn look<K: AsRef<[u8]>>(
        &self,
        store: &Store,
        keys: &[K],
        wanted: &str,
    ) -> Result<Vec<Look>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys = keys.iter().take(MAX_KEYS).map(AsRef::as_ref);
        let mut names: Vec<Bytes> = keys.clone().map(Bytes::copy_from_slice).collect();
        names.extend(keys.map(lease_of).map(Bytes::from));
        let reply = store.run(&self.0, &names, &[MAX_BYTES, wanted]).await?;
        read(reply).ok_or(StoreError::Unexpected {
            command: self.0.name(),
        })
    }
}

fn read(reply: Reply) -> Option<Vec<Look>> {
    reply.into_list()?.into_iter().map(look).collect()
}

fn look(answer: Reply) -> Option<Look> {
    let [value, left_ms, ends_ms, token, lease_ms]: [Reply; 5] =
        answer.into_list()?.try_into().ok()?;
    let text = |reply: Reply| match reply {
        Reply::Text(text) => Some(text),
        _ => None,
    };
    // Negative: it does not end, or is not there.
    let millis = |reply: Reply| Some(u64::try_from(reply.as_integer()?).ok());
    let token = text(token).and_then(|token| <[u8; 4]>::try_from(token.as_ref()).ok());
    let value = text(value);
    let is_there = left_ms.as_integer()? != GONE;
    let lease_left = Duration::from_millis(millis(lease_ms)?.unwrap_or(0));
    Some(Look {
        is_no_value: is_there && value.is_none(),
        value,
        life: Life {
            left: millis(left_ms)?.map(Duration::from_millis),
            ends_ms: millis(ends_ms)?,
        },
        lease: token.map(|token| HeldLease {
            token,
            left: lease_left,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_was_filled_anew_has_another_life() {
        let life = |left_ms: i64, ends_ms: i64| {
            let numbers = [left_ms, ends_ms, -2].map(Reply::Integer);
            let [left_ms, ends_ms, lease_ms] = numbers;
            let answer = vec![Reply::Nil, left_ms, ends_ms, Reply::Nil, lease_ms];
            look(Reply::List(answer)).expect("an answer").life
        };
        assert!(life(1000, 6000).is_same(life(900, 6001)));
        assert!(!life(1000, 6000).is_same(life(1000, 6100)));
        assert!(life(-1, -1).is_same(life(-1, -1)));
        assert!(!life(-1, -1).is_same(life(1000, 6000)));
    }
}
