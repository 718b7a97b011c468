//! A line to Postgres for what is asked beside the loads and the queue: connections are made when they are needed, and no answer
//! is waited for without end.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_postgres::Client;

use super::RepositoryError;
use super::connect::Connector;
use super::error::describe;

/// What our own wait for an answer adds to the server's limit.
const ANSWER_MARGIN: Duration = Duration::from_secs(2);

/// Makes connections, and waits for their answers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Line {
    connector: Arc<Connector>,
    runtime: Handle,
    patience: Duration,
}

impl Line {
    /// The server ends statements after `limit` by itself; the connections' drivers will run on `runtime`.
    pub fn new(connector: Connector, limit: Duration, runtime: Handle) -> Self {
        Self {
            connector: Arc::new(connector),
            runtime,
            patience: limit + ANSWER_MARGIN,
        }
    }

    /// A connection. It closes with the client.
    pub async fn client(&self) -> Result<Client, RepositoryError> {
        let connector = Arc::clone(&self.connector);
        let connecting = self.runtime.spawn(async move { connector.client().await });
        let client = connecting
            .await
            .map_err(|_cancelled| RepositoryError::Stopped)?;
        client.map_err(RepositoryError::Connect)
    }

    /// An answer; `refused` says what it means that Postgres refuses, in its words.
    pub async fn answered<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
        refused: impl FnOnce(&tokio_postgres::Error, String) -> RepositoryError,
    ) -> Result<T, RepositoryError> {
        let answer = self.in_time(answer).await?;
        answer.map_err(|error| match error.code() {
            Some(_) if !error.is_closed() => refused(&error, describe(&error)),
            _ => RepositoryError::Connect(describe(&error)),
        })
    }

    /// What comes in time.
    pub async fn in_time<T>(&self, answer: impl Future<Output = T>) -> Result<T, RepositoryError> {
        let patience = self.patience;
        timeout(patience, answer).await.map_err(|_elapsed| {
            let patience = patience.as_millis();
            RepositoryError::Connect(format!("no answer within {patience} ms"))
        })
    }
}
