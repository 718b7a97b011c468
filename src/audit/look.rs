//! What Redis holds of keys at one moment.

use crate::keyspace::names::lease_of;
use crate::store::{Reply, Script, Store, StoreError};
use bytes::Bytes;
use std::time::Duration;

/// Bytes of values one look brings at most, unless a single one has more: what one exchange may carry.
const MAX_BYTES: &str = "4194304";
/// Keys of one look: what Redis does for them holds up everybody else for as long as it runs.
const MAX_KEYS: usize = 128;
/// By how much two tellings of one expiry may differ: Redis rounds both time and life to milliseconds.
const ROUNDING_MS: u64 = 2;

/// What Redis holds of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// The value's bytes; `None`: there is none.
    pub(super) value: Option<Bytes>,
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
    let mut answers = reply.into_list()?.into_iter();
    let now_ms = u64::try_from(answers.next()?.as_integer()?).ok()?;
    answers.map(|answer| look(answer, now_ms)).collect()
}

fn look(answer: Reply, now_ms: u64) -> Option<Look> {
    let [value, left_ms, token, lease_ms]: [Reply; 4] = answer.into_list()?.try_into().ok()?;
    let text = |reply: Reply| match reply {
        Reply::Text(text) => Some(text),
        _ => None,
    };
    let left_ms = u64::try_from(left_ms.as_integer()?).ok();
    let lease_ms = u64::try_from(lease_ms.as_integer()?).unwrap_or(0);
    let token = text(token).and_then(|token| <[u8; 4]>::try_from(token.as_ref()).ok());
    Some(Look {
        value: text(value),
        life: Life {
            left: left_ms.map(Duration::from_millis),
            ends_ms: left_ms.map(|left_ms| now_ms + left_ms),
        },
        lease: token.map(|token| HeldLease {
            token,
            left: Duration::from_millis(lease_ms),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_was_filled_anew_has_another_life() {
        let life = |left_ms: i64, now_ms: u64| {
            let answer = [
                Reply::Nil,
                Reply::Integer(left_ms),
                Reply::Nil,
                Reply::Integer(-2),
            ];
            look(Reply::List(answer.to_vec()), now_ms)
                .expect("an answer")
                .life
        };
        assert!(life(1000, 5000).is_same(life(900, 5101)));
        assert!(!life(1000, 5000).is_same(life(1000, 5100)));
        assert!(life(-1, 5000).is_same(life(-1, 5100)));
        assert!(!life(-1, 5000).is_same(life(1000, 5000)));
    }
}
