//! One statement's work on one connection: its parts, and what to do when one of them fails.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use diesel::QueryResult;
use diesel_async::pooled_connection::deadpool::Object;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use tokio::time::{Instant, timeout};

use super::LoadError;
use super::batch::Batch;
use super::call::Pending;
use super::error::one_line;
use super::lanes::End;
use super::loader::Loader;
use super::part::Part;

/// How long a connection may take to show that it still lives.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// How it ended, and the keys that are to wait again.
pub(super) type Left = (End, Vec<Pending>);

pub(super) struct Session<'a> {
    loader: &'a Arc<Loader>,
    batch: &'a Batch,
    connection: Object<AsyncPgConnection>,
    /// What is still to be sent, the next one last.
    parts: Vec<Vec<Pending>>,
    began: Instant,
    pub end: End,
}

impl<'a> Session<'a> {
    pub fn new(
        loader: &'a Arc<Loader>,
        batch: &'a Batch,
        connection: Object<AsyncPgConnection>,
        keys: Vec<Pending>,
    ) -> Self {
        Self {
            loader,
            batch,
            connection,
            parts: vec![keys],
            began: Instant::now(),
            end: End::Failed,
        }
    }

    /// The keys to send next, without those that nobody waits for any more.
    pub fn next(&mut self) -> Option<Part> {
        while let Some(keys) = self.parts.pop() {
            let part = Part::new(keys);
            if !part.is_empty() {
                self.began = Instant::now();
                return Some(part);
            }
        }
        None
    }

    /// Sends a part and answers its keys.
    pub async fn fetch(&mut self, part: &mut Part) -> QueryResult<()> {
        self.loader.statements.fetch_add(1, Ordering::Relaxed);
        let fetched = part.fetch(&mut self.connection, self.batch).await;
        if fetched.is_ok() || part.has_answers() {
            self.end = End::Answered;
        }
        fetched
    }

    /// The statement has to stop: cancels it on the server. Keys that had to make room wait again,
    /// those whose time is over have been answered.
    pub async fn interrupted(mut self, part: Part, why: End) -> Left {
        let token = self.connection.cancel_token();
        self.loader.connector.cancel(token).await;
        drop(Object::take(self.connection));
        if why != End::Evicted {
            return (why, Vec::new());
        }
        self.parts.push(part.unanswered());
        (why, self.parts.into_iter().flatten().collect())
    }

    /// A part failed: what there is to go on with, or how it ended.
    pub async fn failed(mut self, part: Part, error: &diesel::result::Error) -> Result<Self, Left> {
        let error = one_line(&error.to_string());
        if !self.is_alive().await {
            self.parts.push(part.unanswered());
            return self.reconnect(&error).await;
        }
        if self.began.elapsed() < self.loader.statement_timeout {
            part.blame(&error, &mut self.parts);
            return Ok(self);
        }
        // The server's own limit: neither halving nor trying again would make it quicker.
        let after_ms = self.loader.statement_timeout.as_millis();
        let after_ms = u64::try_from(after_ms).unwrap_or(u64::MAX);
        self.parts.push(part.unanswered());
        answer_all(self.parts, &LoadError::TimedOut { after_ms });
        Err((End::TimedOut, Vec::new()))
    }

    /// Whether the connection can go on after an error. The error does not tell: the driver has one
    /// word for a dead line and for a statement it could not send.
    async fn is_alive(&mut self) -> bool {
        let ping = timeout(PING_TIMEOUT, self.connection.batch_execute("")).await;
        matches!(ping, Ok(Ok(())))
    }

    /// The connection is dead. If it had lain in the pool it may have died there, which says nothing
    /// of Postgres now: another is taken. A new one that dies does so of the statement, or of the
    /// server's trouble, and neither is helped by sending the statement again.
    async fn reconnect(mut self, error: &str) -> Result<Self, Left> {
        let was_new = Object::metrics(&self.connection).recycle_count == 0;
        // Out of the pool before another is asked for: it may be the one the pool has room for.
        drop(Object::take(self.connection));
        if was_new {
            let reason = Arc::from(format!("the connection was lost: {error}"));
            answer_all(self.parts, &LoadError::Unavailable { reason });
            return Err((self.end, Vec::new()));
        }
        match self.loader.connection().await {
            Ok(connection) => {
                self.connection = connection;
                Ok(self)
            }
            Err(()) => Err((self.end, self.parts.into_iter().flatten().collect())),
        }
    }
}

fn answer_all(parts: Vec<Vec<Pending>>, error: &LoadError) {
    for key in parts.into_iter().flatten() {
        key.answer(Err(error.clone()));
    }
}
