//! What locks look like, for who wants to know.

use super::LockError;
use super::engine::unavailable;
use super::events::Curious;
use super::held::Held;
use super::messages::{LockInfo, SessionId};
use super::queue::Queues;
use super::scripts::Look;
use crate::store::StoreError;
use bytes::Bytes;

/// Tells what was seen in Redis, and what is known beside.
pub(super) fn tell(
    answer: Result<Vec<(Bytes, Look)>, StoreError>,
    curious: Curious,
    queues: &Queues,
    held: &Held,
) {
    let seen = answer.map_err(LockError::Store);
    match curious {
        Curious::One { session, promise } => {
            let one = seen.map(|seen| seen.into_iter().next());
            let one = one.and_then(|one| one.ok_or_else(unavailable));
            promise.keep(one.map(|one| info(one, session, queues, held)));
        }
        Curious::Many(promise) => {
            let infos = |seen: Vec<_>| {
                let all = seen.into_iter().map(|one| info(one, None, queues, held));
                // The index may know locks that nobody holds any more.
                all.filter(|info| info.held > 0 || info.waiters > 0)
                    .collect()
            };
            promise.keep(seen.map(infos));
        }
    }
}

fn info(
    (name, look): (Bytes, Look),
    session: Option<SessionId>,
    queues: &Queues,
    held: &Held,
) -> LockInfo {
    LockInfo {
        held: look.held,
        fence: look.fence,
        left: look.left,
        waiters: look.waiting_daemons + queues.waiting_for(&name) as u64,
        yours: session.and_then(|session| held.standing(session, &name)),
        name,
    }
}
