//! What each limit says of a request, and the one answer that becomes of it.

use super::messages::Decision;
use super::requests::{Request, Verb};
use super::rule::Rule;
use crate::telemetry::LimitMetrics;
use std::sync::Arc;
use std::time::Duration;

/// When who is refused because nobody can be asked may ask again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

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
    pub fn unasked(rule: &Rule, fits: bool) -> Self {
        let again = if fits { Duration::ZERO } else { ASK_AGAIN };
        Self {
            fits,
            remaining: if fits { rule.policy.limit } else { 0 },
            retry_after: Some(again),
            reset_after: again,
        }
    }

    fn refuses(&self, rule: &Rule) -> bool {
        !self.fits && !rule.shadow
    }
}

/// The answer, counted; `asked`: whether Redis was. None only if there is no verdict, or no limit.
pub fn settle(request: &Request, verdicts: &[Verdict], asked: bool) -> Option<Decision> {
    let decision = decide(request, verdicts)?;
    if request.verb == Verb::Take {
        for (rule, verdict) in request.rules.iter().zip(verdicts) {
            // What another limit has refused, this one has not let through.
            if decision.allowed || !verdict.fits {
                count(&rule.metrics, rule.shadow, verdict.fits, asked);
            }
        }
    }
    Some(decision)
}

fn count(metrics: &LimitMetrics, shadow: bool, fits: bool, asked: bool) {
    let counter = match (asked, fits) {
        (_, false) if shadow => &metrics.shadowed,
        (true, true) => &metrics.allowed,
        (true, false) => &metrics.refused,
        (false, true) => &metrics.unasked_allowed,
        (false, false) => &metrics.unasked_refused,
    };
    counter.inc();
}

/// It speaks of the first limit that refuses, else of the one with least left, of those that could refuse.
fn decide(request: &Request, verdicts: &[Verdict]) -> Option<Decision> {
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
