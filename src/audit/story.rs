//! What has happened to a key, for people.

use crate::cache::Story;
use std::fmt;
use std::time::Instant;

/// A story on one line: `leased 812 ms ago (token 9f3a51c2…), filled 810 ms ago, invalidated 2105 ms ago by watch`.
pub struct Told<'a>(pub &'a Story);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Story {
            leased,
            filled,
            refused,
            invalidated,
        } = self.0;
        let mut parts = Vec::new();
        if let Some(leased) = leased {
            let (ago, token) = (Ago(leased.at), token(leased.token));
            parts.push(format!("leased {ago} (token {token})"));
        }
        parts.extend(filled.map(|at| format!("filled {}", Ago(at))));
        parts.extend(refused.map(|at| format!("a fill refused {}", Ago(at))));
        if let Some(last) = invalidated {
            let (ago, source, by) = (Ago(last.at), last.origin.label(), last.by);
            let pattern = last.pattern.as_ref();
            let what = pattern.map_or(String::new(), |pattern| format!(" as {}", pattern.shown()));
            parts.push(format!("invalidated {ago} by {source}{what} in {by}"));
        }
        match parts.is_empty() {
            true => f.write_str("nothing known"),
            false => f.write_str(&parts.join(", ")),
        }
    }
}

/// A token's beginning, as it is shown: who holds the whole of it could end the lease.
pub fn token(head: [u8; 4]) -> String {
    format!("{:08x}…", u32::from_be_bytes(head))
}

struct Ago(Instant);

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms ago", self.0.elapsed().as_millis())
    }
}
