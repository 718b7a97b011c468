//! What programs ask of the limits, and how these are declared anew.

use super::error::WardenError;
use super::reload::Reloaded;
use super::warden::Warden;
use crate::config::Config;
use crate::rate_limit::{Ask, Asked, Decision, LimitError, RateLimitHandle};
use crate::supervisor::AskError;
use bytes::Bytes;

impl Warden {
    /// Asks a declared limit, or several (names with commas between them; all let it through, or none), for so much.
    ///
    /// # Errors
    /// See [`LimitError`]. A refusal is none: it is a [`Decision`].
    pub async fn check_limit(
        &self,
        limits: &str,
        subject: &str,
        cost: u64,
    ) -> Result<Decision, WardenError> {
        let asked = vec![Asked {
            limits: Bytes::copy_from_slice(limits.as_bytes()),
            subject: Bytes::copy_from_slice(subject.as_bytes()),
            cost,
            id: None,
            ask: Ask::Take,
        }];
        let answer = self.0.rate_limit.decide(asked).await.pop();
        // There is an answer for each that was asked.
        let restarted = || {
            LimitError::Actor(AskError::Unavailable {
                actor: "rate-limit",
            })
        };
        Ok(answer.ok_or_else(restarted)??)
    }

    /// The handles of the rate limit actor: for programs and tests that send messages themselves.
    pub fn rate_limit(&self) -> &RateLimitHandle {
        &self.0.rate_limit
    }

    /// Applies the limits of another configuration, at once and without forgetting what was counted; the rest of it waits for
    /// a restart.
    ///
    /// # Errors
    /// If the limits' actor does not answer: then nothing has changed, and one may ask again.
    pub async fn reload(&self, config: Config) -> Result<Reloaded, AskError> {
        self.0.reloading.reload(config).await
    }
}
