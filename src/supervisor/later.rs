//! Answering a message after its handler has returned, without a future per message.
//!
//! A handler that gathers requests (one look-up for many readers) cannot answer before it returns, and a
//! `ResponseFuture` costs an allocation and a task a message. [`Later`] takes actix' reply channel instead and hands it to
//! the [`Promise`] that the actor keeps.

use actix::dev::{MessageResponse, OneshotSender};
use actix::{Actor, Message};
use parking_lot::Mutex;
use std::sync::Arc;

enum Slot<T> {
    /// Neither the reply channel nor the answer is there.
    Empty,
    Channel(OneshotSender<T>),
    /// The answer came before the handler returned.
    Answer(T),
    Done,
}

/// What the handler returns: "the answer comes through the promise".
pub struct Later<T>(Arc<Mutex<Slot<T>>>);

/// The duty to answer. Dropped unkept, the asker is told *unavailable* at once.
pub struct Promise<T>(Arc<Mutex<Slot<T>>>);

impl<T> Later<T> {
    /// Both halves of one answer.
    pub fn new() -> (Later<T>, Promise<T>) {
        let slot = Arc::new(Mutex::new(Slot::Empty));
        (Later(Arc::clone(&slot)), Promise(slot))
    }
}

impl<T> Promise<T> {
    /// Whether the asker has not gone away, as far as is known.
    pub fn is_awaited(&self) -> bool {
        match &*self.0.lock() {
            // The other half is still to be handed in, or was dropped.
            Slot::Empty => Arc::strong_count(&self.0) > 1,
            Slot::Channel(channel) => !channel.is_closed(),
            Slot::Answer(_) | Slot::Done => false,
        }
    }

    /// Answers. An asker that has gone away is no error.
    pub fn keep(self, answer: T) {
        let mut slot = self.0.lock();
        match std::mem::replace(&mut *slot, Slot::Done) {
            Slot::Channel(channel) => drop(channel.send(answer)),
            Slot::Empty => *slot = Slot::Answer(answer),
            Slot::Answer(_) | Slot::Done => {}
        }
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let mut slot = self.0.lock();
        if matches!(*slot, Slot::Channel(_) | Slot::Empty) {
            // Dropping the channel tells the asker.
            *slot = Slot::Done;
        }
    }
}

impl<A, M> MessageResponse<A, M> for Later<M::Result>
where
    A: Actor,
    M: Message,
{
    fn handle(self, _ctx: &mut A::Context, tx: Option<OneshotSender<M::Result>>) {
        let Some(tx) = tx else { return };
        let mut slot = self.0.lock();
        match std::mem::replace(&mut *slot, Slot::Done) {
            Slot::Empty => *slot = Slot::Channel(tx),
            Slot::Answer(answer) => drop(tx.send(answer)),
            Slot::Channel(_) | Slot::Done => {}
        }
    }
}
