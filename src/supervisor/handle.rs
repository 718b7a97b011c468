//! The only way to talk to an actor: late-bound, bounded, with a deadline.

use actix::prelude::RecipientRequest;
use actix::{Message, Recipient};
use parking_lot::RwLock;
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// Why a request was not answered. Each is told at once; nothing waits for a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The stated number of requests is in flight already; ask again later.
    #[error("`{actor}` has {limit} requests in flight, its limit")]
    Overloaded { actor: &'static str, limit: usize },
    /// The actor is restarting, or died with the request in hand.
    #[error("`{actor}` is not running")]
    Unavailable { actor: &'static str },
    /// The answer did not come within the handle's deadline.
    #[error("`{actor}` did not answer within {deadline_ms} ms")]
    TimedOut {
        actor: &'static str,
        deadline_ms: u64,
    },
}

/// A typed address of an actor that outlives the actor's restarts. Cheap to clone.
pub struct Handle<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    shared: Arc<Shared<M>>,
}

struct Shared<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    actor: &'static str,
    target: RwLock<Option<Recipient<M>>>,
    permits: Arc<Semaphore>,
    limit: usize,
    deadline: Duration,
}

impl<M> Clone for Handle<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<M> fmt::Debug for Handle<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("actor", &self.shared.actor)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

impl<M> Handle<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    /// A handle nobody answers yet. `limit` requests may be in flight at once; each is given `deadline`.
    pub fn unbound(actor: &'static str, limit: usize, deadline: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                actor,
                target: RwLock::new(None),
                permits: Arc::new(Semaphore::new(limit)),
                limit,
                deadline,
            }),
        }
    }

    /// Points the handle at a started actor. For a child's `bind`.
    pub fn bind(&self, target: Recipient<M>) {
        *self.shared.target.write() = Some(target);
    }

    /// From now on requests are answered *unavailable*. For a child's `bind`.
    pub fn unbind(&self) {
        *self.shared.target.write() = None;
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// See [`AskError`]; *overloaded* and *unavailable* come without waiting.
    pub async fn ask(&self, request: M) -> Result<M::Result, AskError> {
        let permits = self.shared.permits.try_acquire();
        let _permit = permits.map_err(|_full| self.overloaded())?;
        let answer = self.send(request)?;
        match tokio::time::timeout(self.shared.deadline, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_closed)) => Err(AskError::Unavailable {
                actor: self.shared.actor,
            }),
            Err(_elapsed) => Err(AskError::TimedOut {
                actor: self.shared.actor,
                deadline_ms: u64::try_from(self.shared.deadline.as_millis()).unwrap_or(u64::MAX),
            }),
        }
    }

    /// Sends a message whose answer nobody waits for. It counts as in flight until the actor has handled it.
    ///
    /// # Errors
    /// *Overloaded* or *unavailable*, never silence.
    pub fn tell(&self, message: M) -> Result<(), AskError> {
        let permits = Arc::clone(&self.shared.permits).try_acquire_owned();
        let permit = permits.map_err(|_full| self.overloaded())?;
        let request = self.send(message)?;
        tokio::spawn(async move {
            // An actor that dies with the message in hand loses it, as the doc of `tell` warns.
            let _handled = request.await;
            drop(permit);
        });
        Ok(())
    }

    /// Requests admitted and not answered yet.
    pub fn in_flight(&self) -> usize {
        self.shared.limit - self.shared.permits.available_permits()
    }

    /// Puts a request into the mailbox of the actor that the handle points at.
    fn send(&self, request: M) -> Result<RecipientRequest<M>, AskError> {
        match &*self.shared.target.read() {
            Some(target) => Ok(target.send(request)),
            None => Err(AskError::Unavailable {
                actor: self.shared.actor,
            }),
        }
    }

    fn overloaded(&self) -> AskError {
        AskError::Overloaded {
            actor: self.shared.actor,
            limit: self.shared.limit,
        }
    }
}
