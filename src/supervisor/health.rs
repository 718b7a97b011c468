//! What every actor does, as data: for readiness, the watchdog, and whoever asks.

use parking_lot::Mutex;
use std::sync::Arc;

/// Where an actor is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorState {
    /// Not yet started, or being started.
    Starting,
    /// Running and taking its mail.
    Up,
    /// Died; waits for its restart.
    BackingOff,
    /// Stopped on request.
    Stopped,
    /// Died too often; the process ends.
    GaveUp,
}

/// One actor's line.
#[derive(Clone, Debug)]
pub struct ActorHealth {
    /// The actor's name, with its number where there are several.
    pub name: String,
    /// Where it is in its life.
    pub state: ActorState,
    /// How often it was restarted since the daemon began.
    pub restarts: u64,
    /// Why it ended the last time.
    pub last_exit: Option<String>,
}

/// The table of all actors; cheap to clone, readable from every thread.
#[derive(Clone, Debug, Default)]
pub struct Health {
    actors: Arc<Mutex<Vec<ActorHealth>>>,
}

impl Health {
    /// A copy of the table.
    pub fn snapshot(&self) -> Vec<ActorHealth> {
        self.actors.lock().clone()
    }

    /// Every actor runs and takes its mail.
    pub fn all_up(&self) -> bool {
        self.actors
            .lock()
            .iter()
            .all(|actor| actor.state == ActorState::Up)
    }

    pub(super) fn register(&self, name: &str) -> usize {
        let mut actors = self.actors.lock();
        actors.push(ActorHealth {
            name: name.to_owned(),
            state: ActorState::Starting,
            restarts: 0,
            last_exit: None,
        });
        actors.len() - 1
    }

    pub(super) fn update(&self, place: usize, change: impl FnOnce(&mut ActorHealth)) {
        if let Some(actor) = self.actors.lock().get_mut(place) {
            change(actor);
        }
    }
}
