//! What each limit says of a request, and the one answer that becomes of it.

use super::messages::Decision;
use super::requests::Request;
use super::rule::Rule;
use std::sync::Arc;
use std::time::Duration;

/// What one limit says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the request fits; if it was taken, whether it did before.
    pub fits: bool,
    pub remaining: u64,
    /// Zero if it fits; `None`: it never will.
    pub retry_after: Option<Duration>,
    pub reset_after: Duration,
}

impl Verdict {
    /// Where nothing is known: `fits` is all that is said.
    pub fn unasked(rule: &Rule, fits: bool, retry_after: Duration) -> Self {
        Self {
            fits,
            remaining: if fits { rule.policy.limit } else { 0 },
            retry_after: Some(if fits { Duration::ZERO } else { retry_after }),
            reset_after: if fits { Duration::ZERO } else { retry_after },
        }
    }

    fn refuses(&self, rule: &Rule) -> bool {
        !self.fits && !rule.shadow
    }
}

/// The answer: it speaks of the first limit that refuses, else of the one with least left, of those that could refuse.
pub fn decide(request: &Request, verdicts: &[Verdict]) -> Option<Decision> {
    let told = || request.rules.iter().zip(verdicts);
    let refusing = told().find(|(rule, verdict)| verdict.refuses(rule));
    let least = || told().min_by_key(|(rule, verdict)| (rule.shadow, verdict.remaining));
    let (rule, verdict) = refusing.or_else(least)?;
    let allowed = refusing.is_none();
    Some(Decision {
        allowed,
        policy: Arc::clone(&rule.policy),
        remaining: verdict.remaining,
        retry_after: match allowed {
            true => Some(Duration::ZERO),
            false => verdict.retry_after,
        },
        reset_after: verdict.reset_after,
        id: request.id.clone().filter(|_| allowed),
    })
}
