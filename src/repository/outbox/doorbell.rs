//! The doorbell: the database notifies who listens that something was queued.
//!
//! It says no more than *look now*. What is told with it is read by nobody, whoever sends it: the queue is the truth. It may
//! be silent at any time, and says nothing of that: a pooler that lends a connection for one transaction takes the `LISTEN`,
//! and then gives what is notified to whomever it has lent the connection to, or to nobody; a network that swallows shows no
//! error to who only waits. So it is tried: another connection rings with a number of its own, and that must be heard.
//! Another one, because a pooler might deliver to a connection that talks just then, and not to one that waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;
use tokio_postgres::{Client, Notification};

use super::{Outbox, RepositoryError};
use crate::repository::error::describe;

/// Where it rings. Channels are names of one database.
pub(in crate::repository) const CHANNEL: &str = "cachewarden";

/// A connection that hears the doorbell, until it is dropped.
pub struct Listening {
    /// Who listens must stay.
    _client: Client,
    heard: watch::Receiver<Heard>,
    /// Rings that [`rung`](Self::rung) has told of.
    told: u64,
    /// The number that we ring with; 0: none.
    nonce: Arc<AtomicU64>,
}

/// What was heard: counted and not kept, so that whatever is sent takes no memory.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    rings: u64,
    /// The last of our own numbers that came back.
    echo: u64,
}

impl Outbox {
    /// Listens. What was queued before has rung for nobody.
    ///
    /// # Errors
    /// If Postgres is away or silent.
    pub async fn listen(&self) -> Result<Listening, RepositoryError> {
        let (rung, heard) = watch::channel(Heard::default());
        let nonce = Arc::new(AtomicU64::new(0));
        let expected = Arc::clone(&nonce);
        let hear = move |notification: Notification| {
            let number = notification.payload().parse().unwrap_or(0);
            let is_ours = number != 0 && number == expected.load(Ordering::Acquire);
            rung.send_modify(|heard| {
                heard.rings = heard.rings.wrapping_add(1);
                if is_ours {
                    heard.echo = number;
                }
            });
        };
        let connector = Arc::clone(&self.0.connector);
        let connect = self
            .0
            .runtime
            .spawn(async move { connector.client_hearing(hear).await });
        let client = connect
            .await
            .map_err(|_cancelled| RepositoryError::Stopped)?;
        let client = client.map_err(RepositoryError::Connect)?;
        let listen = format!("LISTEN {CHANNEL}");
        let listens = async {
            let done = client.batch_execute(&listen).await;
            done.map_err(|error| describe(&error))
        };
        self.in_time("listen to", listens).await?;
        Ok(Listening {
            _client: client,
            heard,
            told: 0,
            nonce,
        })
    }

    /// Rings on another connection, and returns once that was heard on this one; calls `rung` whenever anything is.
    ///
    /// # Errors
    /// If Postgres is away or silent, or the connection that listens was lost. That nothing comes is no error: who asks
    /// knows how long it waits.
    pub async fn echo(
        &self,
        listening: &mut Listening,
        rung: impl Fn(u64),
    ) -> Result<(), RepositoryError> {
        let nonce = fastrand::u64(1..);
        listening.nonce.store(nonce, Ordering::Release);
        let ring = async {
            let mut seat = self.seat().await?;
            let payload = nonce.to_string();
            let rings = seat.connection.notify(CHANNEL, &payload);
            self.in_time("ring the doorbell of", rings).await?;
            seat.give_back(self);
            Ok(())
        };
        let hear = async {
            while listening.heard.borrow().echo != nonce {
                rung(listening.rung().await?);
            }
            Ok(())
        };
        tokio::try_join!(ring, hear).map(|_both| ())
    }
}

impl Listening {
    /// Waits until it rings; how often, since it was last asked. May be dropped.
    ///
    /// # Errors
    /// If the connection was lost.
    pub async fn rung(&mut self) -> Result<u64, RepositoryError> {
        let changed = self.heard.changed().await;
        changed.map_err(|_ended| RepositoryError::Queue {
            action: "hear the doorbell of",
            message: "the connection was lost".to_owned(),
        })?;
        let rings = self.heard.borrow_and_update().rings;
        let told = std::mem::replace(&mut self.told, rings);
        Ok(rings.wrapping_sub(told))
    }
}
