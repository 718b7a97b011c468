//! What a connection holds for as long as it lives: the locks it asked for with `SESSION`.

use super::door::Door;
use crate::lock::{EndSession, Lost, Session, SessionId};
use tokio::sync::mpsc;

/// Losses that wait for a connection to be told; of what is beyond, `LOCK.INFO` tells.
const MAX_UNTOLD: usize = 64;

/// A connection's session of locks, if it has asked for one.
#[derive(Default)]
pub(super) struct LockSession(Option<Open>);

struct Open {
    session: Session,
    lost: mpsc::Receiver<Lost>,
}

impl LockSession {
    /// The session, begun if there is none.
    pub(super) fn open(&mut self, door: &Door) -> Session {
        let open = self.0.get_or_insert_with(|| {
            let (tell, lost) = mpsc::channel(MAX_UNTOLD);
            let id = SessionId(door.next_session());
            Open {
                session: Session { id, lost: tell },
                lost,
            }
        });
        open.session.clone()
    }

    pub(super) fn id(&self) -> Option<SessionId> {
        self.0.as_ref().map(|open| open.session.id)
    }

    /// The next lock that was lost; never returns without a session. Cancel safe.
    pub(super) async fn lost(&mut self) -> Lost {
        match &mut self.0 {
            // The session holds a sender itself, so the channel is never closed.
            Some(open) => match open.lost.recv().await {
                Some(lost) => lost,
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    /// Lets everything go.
    pub(super) fn end(&mut self, door: &Door) {
        let Some(Open { session, .. }) = self.0.take() else {
            return;
        };
        // Not told, the actor finds out at the next renewal: nobody hears any more what it would tell the session.
        let session = session.id;
        let _found_out = door.locks.end_session.tell(EndSession { session });
    }
}
