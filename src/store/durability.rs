//! Whether what lies in Redis is still there after a crash, and is never evicted.

use super::connection::meaning;
use super::{Store, StoreError};
use redis::{AsyncConnectionConfig, Value};

/// What a Redis does about keys that must not be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durability {
    /// Whether it keeps an append-only file.
    pub appends: bool,
    /// Which keys it evicts when its memory is full, such as `noeviction`.
    pub policy: String,
}

impl Durability {
    /// What a journal of acknowledged writes has against it; none: it can lie there.
    pub fn flaws(&self) -> Vec<String> {
        let mut flaws = Vec::new();
        if !self.appends {
            flaws.push("it keeps no append-only file (appendonly no)".to_owned());
        }
        // The others evict only what expires, or nothing.
        if self.policy.starts_with("allkeys-") {
            let policy = &self.policy;
            flaws.push(format!("it may evict any key (maxmemory-policy {policy})"));
        }
        flaws
    }

    fn of(info: &str) -> Option<Self> {
        let field = |name: &str| {
            info.lines()
                .find_map(|line| line.trim_end().strip_prefix(name))
        };
        Some(Self {
            appends: field("aof_enabled:")? == "1",
            policy: field("maxmemory_policy:")?.to_owned(),
        })
    }
}

impl Store {
    /// Asks the server, over a connection of its own.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn durability(&self) -> Result<Durability, StoreError> {
        const INFO: &str = "INFO";
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout()))
            .set_response_timeout(None);
        let asking = async {
            let mut connection = super::stream::connect(self.client(), config).await?;
            let mut info = Vec::new();
            for section in ["persistence", "memory"] {
                let mut ask = redis::cmd(INFO);
                ask.arg(section);
                info.push(connection.send_packed_command(&ask).await?);
            }
            Ok(info)
        };
        let info = self.within_timeout(asking).await?;
        let info = info.map_err(|error| meaning(INFO, &error))?;
        let texts: Option<Vec<String>> = info.into_iter().map(text).collect();
        let durability = texts.and_then(|texts| Durability::of(&texts.concat()));
        durability.ok_or(StoreError::Unexpected { command: INFO })
    }
}

fn text(reply: Value) -> Option<String> {
    match reply {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::VerbatimString { text, .. } => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_lies_where_nothing_is_forgotten_and_nothing_evicted() {
        let of = |aof: &str, policy: &str| {
            let info = format!(
                "# Persistence\r\naof_enabled:{aof}\r\n# Memory\r\nmaxmemory_policy:{policy}\r\n"
            );
            Durability::of(&info).unwrap().flaws().len()
        };
        assert_eq!(of("1", "noeviction"), 0);
        assert_eq!(of("1", "volatile-lru"), 0);
        assert_eq!(of("0", "noeviction"), 1);
        assert_eq!(of("0", "allkeys-lfu"), 2);
        assert_eq!(Durability::of("# Memory\r\n"), None);
    }
}
