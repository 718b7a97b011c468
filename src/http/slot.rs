//! A request in flight: it ends when it is dropped, wherever that happens.

use crate::rate_limit::Release;
use crate::supervisor::Handle;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::runtime;

/// What may be counted as in flight. Dropped, it is released.
pub(super) struct Slot {
    pub release: Handle<Release>,
    /// Which of them count requests in flight, only the limiter knows.
    pub limits: Arc<[Bytes]>,
    pub subject: Bytes,
    /// None if it is known that nothing counts it.
    pub id: Option<Bytes>,
}

impl Slot {
    /// A body that holds the slot until it has been sent, or nobody is there to send it to.
    pub fn held_by(self, body: impl MessageBody + 'static) -> BoxBody {
        let body = body.boxed();
        if self.id.is_none() {
            return body;
        }
        BoxBody::new(Held {
            body,
            slot: Some(self),
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else {
            return;
        };
        // What is dropped with its whole server has no runtime any more to send a message from.
        if runtime::Handle::try_current().is_err() {
            return;
        }
        for limit in self.limits.iter() {
            let release = Release {
                limit: limit.clone(),
                subject: self.subject.clone(),
                id: id.clone(),
            };
            if let Err(error) = self.release.tell(release) {
                tracing::debug!(%error, "a request is not released: its lease ends it");
            }
        }
    }
}

struct Held {
    body: BoxBody,
    slot: Option<Slot>,
}

impl MessageBody for Held {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let next = Pin::new(&mut self.body).poll_next(cx);
        // A connection may keep a body that has ended.
        if matches!(next, Poll::Ready(None | Some(Err(_)))) {
            self.slot = None;
        }
        next
    }
}
