//! What limits answer while Redis cannot be asked, each as it is declared to.

use super::fleet::Fleet;
use super::requests::Request;
use super::rule::Rule;
use super::verdict::Verdict;
use crate::config::OnRedisError;
use std::time::Duration;

/// When who is refused because nobody can be asked may ask again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Counts in this daemon's memory.
pub struct Local {
    fleet: Fleet,
}

impl Local {
    pub fn new(fleet: Fleet) -> Self {
        Self { fleet }
    }

    /// What each limit of a request says.
    pub fn verdicts(&mut self, request: &Request) -> Vec<Verdict> {
        let _daemons = self.fleet.daemons();
        let verdict = |rule: &Rule| {
            let fits = rule.on_redis_error == OnRedisError::Allow;
            Verdict::unasked(rule, fits, ASK_AGAIN)
        };
        request.rules.iter().map(|rule| verdict(rule)).collect()
    }

    pub fn give_back(&mut self, _request: &Request) {}
}
