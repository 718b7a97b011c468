//! How the rate limit actor is asked.

use super::LimitError;
use super::declared::{Declared, unasked};
use super::messages::{Asked, Check, Decision, Fixed, Refund, Release, Reload, Reset, Throttle};
use super::requests::Request;
use crate::supervisor::{AskError, Handle};
use std::time::Duration;

/// Batches in flight; one more is answered *overloaded*.
const MAX_IN_FLIGHT: usize = 20_000;
/// Redis has a deadline of its own, which comes first.
const DEADLINE: Duration = Duration::from_secs(60);

/// The handles of the rate limit actor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RateLimitHandle {
    pub check: Handle<Check>,
    pub fixed: Handle<Fixed>,
    pub throttle: Handle<Throttle>,
    pub reset: Handle<Reset>,
    pub refund: Handle<Refund>,
    pub release: Handle<Release>,
    pub reload: Handle<Reload>,
    pub(super) declared: Declared,
}

impl RateLimitHandle {
    /// Handles nobody answers yet, of an actor that knows these limits.
    pub fn unbound(declared: Declared) -> Self {
        const NAME: &str = "rate-limit";
        Self {
            check: Handle::unbound(NAME, MAX_IN_FLIGHT, DEADLINE),
            fixed: Handle::unbound(NAME, MAX_IN_FLIGHT, DEADLINE),
            throttle: Handle::unbound(NAME, MAX_IN_FLIGHT, DEADLINE),
            reset: Handle::unbound(NAME, MAX_IN_FLIGHT, DEADLINE),
            refund: Handle::unbound(NAME, MAX_IN_FLIGHT, DEADLINE),
            release: Handle::unbound(NAME, MAX_IN_FLIGHT, DEADLINE),
            reload: Handle::unbound(NAME, MAX_IN_FLIGHT, DEADLINE),
            declared,
        }
    }

    /// Requests that the actor has taken and not answered yet.
    pub fn in_flight(&self) -> usize {
        self.check.in_flight()
            + self.fixed.in_flight()
            + self.throttle.in_flight()
            + self.reset.in_flight()
            + self.refund.in_flight()
            + self.release.in_flight()
            + self.reload.in_flight()
    }

    /// Asks for requests that came together; an answer each, in their order. While the actor restarts, each limit says what it
    /// is declared to say without Redis (`local`: no).
    pub async fn decide(&self, asked: Vec<Asked>) -> Vec<Result<Decision, LimitError>> {
        let check = Check {
            asked: asked.clone(),
        };
        let answers = self.check.ask(check).await;
        answers.unwrap_or_else(|error| {
            let asked = asked.into_iter();
            let unasked = asked.map(|asked| without_actor(error, || self.declared.check(asked)));
            unasked.collect()
        })
    }

    /// Asks for a window that is declared nowhere; without the actor as [`decide`](Self::decide) does.
    ///
    /// # Errors
    /// See [`LimitError`].
    pub async fn decide_fixed(&self, fixed: Fixed) -> Result<Decision, LimitError> {
        let answer = self.fixed.ask(fixed.clone()).await;
        answer.unwrap_or_else(|error| without_actor(error, || self.declared.fixed(fixed)))
    }

    /// Asks for a bucket that is declared nowhere; without the actor as [`decide`](Self::decide) does.
    ///
    /// # Errors
    /// See [`LimitError`].
    pub async fn decide_throttle(&self, throttle: Throttle) -> Result<Decision, LimitError> {
        let answer = self.throttle.ask(throttle.clone()).await;
        answer.unwrap_or_else(|error| without_actor(error, || self.declared.throttle(throttle)))
    }
}

/// What is said in place of an actor that cannot be asked now. One that is overloaded can be: its limit is the answer.
fn without_actor(
    error: AskError,
    request: impl FnOnce() -> Result<Request, LimitError>,
) -> Result<Decision, LimitError> {
    if let AskError::Overloaded { .. } = error {
        return Err(LimitError::Actor(error));
    }
    unasked(&request()?).ok_or(LimitError::Actor(error))
}

#[cfg(test)]
#[path = "handle_tests.rs"]
mod tests;
