//! A write as it stands in the journal.

use bytes::Bytes;
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// Where in the journal a write stands: Redis' clock when it was accepted, in milliseconds, and a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub ms: u64,
    pub number: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.number)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (ms, number) = text.split_once('-').ok_or(())?;
        Ok(Self {
            ms: ms.parse().map_err(drop)?,
            number: number.parse().map_err(drop)?,
        })
    }
}

/// What stands there, whoever wrote it. What is missing is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub place: Place,
    pub id: Bytes,
    pub cache: Bytes,
    pub key: Bytes,
    pub op: Bytes,
    pub value: Bytes,
}

impl Entry {
    /// What it wants. Err: why no daemon has written it.
    pub(super) fn change(&self) -> Result<(Uuid, Option<Bytes>), &'static str> {
        let id = std::str::from_utf8(&self.id).ok();
        let id = id.and_then(|id| Uuid::try_parse(id).ok());
        let id = id.ok_or("its id is no UUID")?;
        let value = match self.op.as_ref() {
            b"delete" => None,
            b"set" => Some(self.value.clone()),
            _ => return Err("its op is neither `set` nor `delete`"),
        };
        match value.as_deref().map(std::str::from_utf8) {
            Some(Err(_)) => Err("its value is not UTF-8"),
            _ => Ok((id, value)),
        }
    }

    /// How many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, op: &str, value: &'static [u8]) -> Entry {
        Entry {
            place: "7-1".parse().unwrap(),
            id: Bytes::copy_from_slice(id.as_bytes()),
            cache: Bytes::new(),
            key: Bytes::from_static(b"a:1"),
            op: Bytes::copy_from_slice(op.as_bytes()),
            value: Bytes::from_static(value),
        }
    }

    #[test]
    fn places_are_ordered_by_number_and_not_by_text() {
        let place = |text: &str| text.parse::<Place>().unwrap();
        assert!(place("9-10") > place("9-9") && place("10-0") > place("9-99"));
        assert_eq!(place("1700000000000-3").to_string(), "1700000000000-3");
        assert!("7".parse::<Place>().is_err() && "a-b".parse::<Place>().is_err());
    }

    #[test]
    fn what_no_daemon_has_written_is_told_apart() {
        let id = Uuid::new_v4();
        let (text, value) = (id.to_string(), Bytes::from_static(b"1"));
        assert_eq!(entry(&text, "set", b"1").change(), Ok((id, Some(value))));
        assert_eq!(entry(&text, "delete", b"").change(), Ok((id, None)));
        assert!(entry("", "set", b"1").change().is_err());
        assert!(entry(&text, "", b"1").change().is_err());
        assert!(entry(&text, "set", b"\xff").change().is_err());
    }
}
