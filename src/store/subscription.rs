//! What other programs publish, heard on a connection of its own that ends when it is lost.

use super::connection::meaning;
use super::{Store, StoreError};
use bytes::Bytes;
use futures_util::StreamExt;
use redis::aio::{PubSubSink, PubSubStream};
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// A line on which nothing was heard for this long is asked whether it is alive.
const PING_AFTER: Duration = Duration::from_secs(1);

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub channel: String,
    pub payload: Bytes,
}

/// A subscription to channels.
pub struct Subscription {
    sink: PubSubSink,
    stream: PubSubStream,
    timeout: Duration,
    heard_at: Instant,
}

impl Store {
    /// Subscribes, on a new connection. Its driver runs on the runtime that polls this future.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn subscribe(&self, channels: &[String]) -> Result<Subscription, StoreError> {
        let deadline = self.timeout();
        let connecting = async {
            let pubsub = self.client().get_async_pubsub().await?;
            let (mut sink, stream) = pubsub.split();
            sink.subscribe(channels).await?;
            Ok((sink, stream))
        };
        let (sink, stream) = timeout(deadline, connecting)
            .await
            .map_err(|_elapsed| timed_out(deadline))?
            .map_err(|error| meaning("SUBSCRIBE", &error))?;
        Ok(Subscription {
            sink,
            stream,
            timeout: deadline,
            heard_at: Instant::now(),
        })
    }
}

impl Subscription {
    /// The next message. A line that is silent is asked every second whether it is alive, and `None` says that it is; safe to
    /// drop half-way.
    ///
    /// # Errors
    /// Once the line is dead; what is published from now on is not heard.
    pub async fn next(&mut self) -> Result<Option<Heard>, StoreError> {
        let heard = match timeout_at(self.heard_at + PING_AFTER, self.stream.next()).await {
            Ok(Some(message)) => Some(Heard {
                channel: message.get_channel_name().to_owned(),
                payload: Bytes::copy_from_slice(message.get_payload_bytes()),
            }),
            Ok(None) => return Err(StoreError::Lost),
            Err(_silent) => {
                let pong = timeout(self.timeout, self.sink.ping::<redis::Value>()).await;
                pong.map_err(|_elapsed| timed_out(self.timeout))?
                    .map_err(|error| meaning("PING", &error))?;
                None
            }
        };
        self.heard_at = Instant::now();
        Ok(heard)
    }

    /// When the line was last known to be alive.
    pub fn heard_at(&self) -> std::time::Instant {
        self.heard_at.into_std()
    }
}

fn timed_out(deadline: Duration) -> StoreError {
    StoreError::TimedOut {
        timeout_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
    }
}
