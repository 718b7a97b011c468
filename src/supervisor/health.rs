//! What every actor does, as data: for readiness, the watchdog, and whoever asks.

use tokio::sync::watch;

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
    actors: watch::Sender<Vec<ActorHealth>>,
}

impl Health {
    /// A copy of the table.
    pub fn snapshot(&self) -> Vec<ActorHealth> {
        self.actors.borrow().clone()
    }

    /// Every actor runs and takes its mail.
    pub fn all_up(&self) -> bool {
        are_up(&self.actors.borrow())
    }

    /// Follows the table.
    pub fn subscribe(&self) -> watch::Receiver<Vec<ActorHealth>> {
        self.actors.subscribe()
    }

    pub(super) fn register(&self, name: &str) -> usize {
        let mut place = 0;
        self.actors.send_modify(|actors| {
            place = actors.len();
            actors.push(ActorHealth {
                name: name.to_owned(),
                state: ActorState::Starting,
                restarts: 0,
                last_exit: None,
            });
        });
        place
    }

    pub(super) fn update(&self, place: usize, change: impl FnOnce(&mut ActorHealth)) {
        self.actors.send_modify(|actors| {
            if let Some(actor) = actors.get_mut(place) {
                change(actor);
            }
        });
    }
}

pub(super) fn are_up(actors: &[ActorHealth]) -> bool {
    actors.iter().all(|actor| actor.state == ActorState::Up)
}
