//! Writes down in the database what was invalidated without its queue: a row a batch, beside what the queue had.
//!
//! Whoever invalidates does not wait for it, and is not told when it fails: it is tried again until it is written, and what
//! piles up meanwhile becomes everything. Only what a daemon has not written when it dies is lost.

use crate::cache::{Noted, Notes};
use crate::keyspace::Scope;
use crate::repository::Outbox;
use crate::telemetry::Metrics;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// So long a batch is gathered.
const GATHER: Duration = Duration::from_millis(50);
/// The longest pause after a failure; the first is [`GATHER`].
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Writes down what was invalidated. Cheap to clone.
#[derive(Clone)]
pub struct Noter {
    pub notes: Notes,
    pub outbox: Outbox,
    pub scope: Arc<Scope>,
    pub metrics: Metrics,
}

impl Noter {
    /// Writes for ever.
    pub async fn run(self) {
        let mut pause = GATHER;
        loop {
            self.notes.came().await;
            sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            let (noted, calls) = self.notes.take();
            // Nobody could read half of it: a task that ends in here takes it along, as a daemon does that dies.
            let (keys, patterns) = texts(&self.scope, &noted);
            match self.outbox.note(&keys, &patterns).await {
                Ok(()) => {
                    pause = GATHER;
                    self.notes.written(calls);
                }
                Err(error) => {
                    tracing::debug!(%error, "what was invalidated is not noted yet");
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    self.notes.put_back(noted);
                }
            }
            let waiting = i64::try_from(self.notes.len()).unwrap_or(i64::MAX);
            self.metrics.notes_waiting.set(waiting);
        }
    }
}

/// As text, which is all that Postgres takes. What is none becomes everything under its prefix.
fn texts(scope: &Scope, noted: &Noted) -> (Vec<String>, Vec<String>) {
    let mut patterns = BTreeSet::new();
    if noted.everything {
        let all = scope.everything().patterns.into_iter();
        patterns.extend(all.filter_map(|pattern| text(pattern.text())));
    }
    let mut keys = Vec::with_capacity(noted.keys.len());
    let prefix_of = |name: &Bytes| {
        let mut targets = crate::keyspace::Targets::default();
        scope.add_all_beside(name, &mut targets);
        targets.patterns.into_iter().next()
    };
    let wide = |name: &Bytes| prefix_of(name).and_then(|pattern| text(pattern.text()));
    for key in &noted.keys {
        match text(key) {
            Some(key) => keys.push(key),
            None => patterns.extend(wide(key)),
        }
    }
    for pattern in &noted.patterns {
        patterns.extend(text(pattern).or_else(|| wide(pattern)));
    }
    (keys, patterns.into_iter().collect())
}

fn text(name: &Bytes) -> Option<String> {
    let text = std::str::from_utf8(name).ok()?;
    (!text.contains('\0')).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::Reach;

    #[test]
    fn what_is_no_text_is_noted_as_all_under_its_prefix() {
        let scope = Scope::new(&[], &[], Reach::new(["a:", "b:"].map(str::to_owned)));
        let mut noted = Noted::default();
        for key in [&b"a:1"[..], b"b:\xff", b"b:\0"] {
            noted.keys.insert(Bytes::copy_from_slice(key));
        }
        noted.patterns.insert(Bytes::from_static(b"a:x*"));
        let (keys, patterns) = texts(&scope, &noted);
        assert_eq!(keys, ["a:1"]);
        assert_eq!(patterns, ["a:x*", "b:*"]);
        noted = Noted {
            everything: true,
            ..Noted::default()
        };
        assert_eq!(texts(&scope, &noted).1, ["a:*", "b:*"]);
    }
}
