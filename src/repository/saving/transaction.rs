//! One transaction, from its connection to its commit, and what may become of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tokio_postgres::error::{Severity, SqlState};

use super::super::WriteError;
use super::super::error::describe;
use super::statements::{Connection, Dml};
use super::{COMMIT_WITHIN, Saver, Write, Written};
use crate::config::Names;

/// How often one transaction is tried.
const MAX_TRIES: u32 = 4;
/// The pause before it is tried again, times the tries so far, jittered.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// Bytes of a key that an error repeats.
const SHOWN_KEY: usize = 64;
/// How long a transaction that came to nothing may take to be rolled back.
const ROLLBACK_WITHIN: Duration = Duration::from_secs(1);

/// Why one attempt came to nothing.
struct Failure {
    error: WriteError,
    /// Whether the next may do better.
    again: bool,
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        Self {
            error,
            again: false,
        }
    }
}

impl Saver {
    /// Tries the transaction until it is done, or trying again is in vain.
    pub(super) async fn transact(
        &self,
        writes: &[Write],
        (deadline, limit): (Instant, Duration),
    ) -> Result<Written, WriteError> {
        let names = self.names(writes);
        let mut tries = 0;
        loop {
            tries += 1;
            match self.attempt(writes, &names, (deadline, limit)).await {
                Err(Failure { again: true, .. })
                    if tries < MAX_TRIES && Instant::now() < deadline =>
                {
                    let pause = RETRY_PAUSE * tries;
                    sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                }
                done => return done.map_err(|failure| failure.error),
            }
        }
    }

    async fn attempt(
        &self,
        writes: &[Write],
        names: &Names,
        (deadline, limit): (Instant, Duration),
    ) -> Result<Written, Failure> {
        let after_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let late = |_elapsed| Failure::from(WriteError::TimedOut { after_ms });
        let (mut connection, was_idle) = timeout_at(deadline, self.connection())
            .await
            .map_err(late)??;
        let work: Vec<(&Dml, &Write)> = writes
            .iter()
            .filter_map(|write| Some((self.dml(write).ok()?.1, write)))
            .collect();
        let done = timeout_at(deadline, connection.write(&work, names)).await;
        let written = match done {
            // Dropped with its transaction, which Postgres then ends: no commit was sent.
            Err(elapsed) => {
                self.connector.cancel(connection.cancel_token()).await;
                return Err(late(elapsed));
            }
            Ok(Err((at, error))) => {
                let failure = self.failure(&error, shown(writes.get(at)), was_idle);
                // Its plans may be of no more use; Postgres ends the transaction.
                if error.code() != Some(&SqlState::FEATURE_NOT_SUPPORTED) {
                    self.roll_back(connection).await;
                }
                return Err(failure);
            }
            Ok(Ok(written)) => written,
        };
        let is_vain = |(write, rows): &(&Write, &u64)| write.value.is_some() && **rows == 0;
        if let Some((write, _)) = writes.iter().zip(&written.rows).find(is_vain) {
            let key = shown(Some(write));
            self.roll_back(connection).await;
            return Err(WriteError::NoRow { key }.into());
        }
        self.commit(connection, writes).await.map(|()| written)
    }

    async fn commit(&self, mut connection: Connection, writes: &[Write]) -> Result<(), Failure> {
        let unknown = |reason: String| {
            let reason = Arc::from(reason);
            Failure::from(WriteError::Unknown { reason })
        };
        let committed = timeout_at(Instant::now() + COMMIT_WITHIN, connection.commit()).await;
        match committed {
            Ok(Ok(())) => {
                self.idle.lock().push(connection);
                Ok(())
            }
            // A constraint that is checked at the end, say. What ends the session may have come after the commit.
            Ok(Err(error)) if is_plain(&error) => {
                let failure = self.failure(&error, shown(writes.first()), false);
                self.idle.lock().push(connection);
                Err(failure)
            }
            Ok(Err(error)) => Err(unknown(describe(&error))),
            Err(_elapsed) => Err(unknown(format!(
                "no answer within {} ms",
                COMMIT_WITHIN.as_millis()
            ))),
        }
    }

    /// A connection, and whether it had lain idle: one that has died there says nothing of Postgres now.
    async fn connection(&self) -> Result<(Connection, bool), WriteError> {
        let idle = self.idle.lock().pop().filter(|idle| !idle.is_closed());
        if let Some(connection) = idle {
            return Ok((connection, true));
        }
        let client = self.connector.client().await;
        self.up.store(client.is_ok(), Ordering::Relaxed);
        let unavailable = |reason: String| WriteError::Unavailable {
            reason: Arc::from(reason),
        };
        let client = client.map_err(unavailable)?;
        let connection = Connection::new(client).await.map_err(|error| {
            let reason = describe(&error);
            let hint = if is_missing(&error) {
                "; run `cachewarden migrate`"
            } else {
                ""
            };
            unavailable(format!("{reason}{hint}"))
        })?;
        Ok((connection, false))
    }

    /// What an error before the commit means.
    fn failure(&self, error: &tokio_postgres::Error, key: Arc<str>, was_idle: bool) -> Failure {
        let message: Arc<str> = Arc::from(describe(error));
        let Some(code) = error.code().filter(|_| is_plain(error)) else {
            // What has ended this one has mostly ended the others, too.
            self.idle.lock().clear();
            return Failure {
                error: WriteError::Unavailable { reason: message },
                again: was_idle,
            };
        };
        let after_ms = u64::try_from(self.statement_timeout.as_millis()).unwrap_or(u64::MAX);
        let error = match code.code() {
            _ if *code == SqlState::QUERY_CANCELED => WriteError::TimedOut { after_ms },
            // Out of resources, or by now a server that only follows another one.
            of if of.starts_with("53") || *code == SqlState::READ_ONLY_SQL_TRANSACTION => {
                WriteError::Unavailable { reason: message }
            }
            of => WriteError::Refused {
                key,
                message,
                code: Arc::from(of),
            },
        };
        let met = [
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
        ];
        // A plan made before the table was changed is made anew on another connection.
        let outdated = *code == SqlState::FEATURE_NOT_SUPPORTED && was_idle;
        Failure {
            error,
            again: met.contains(code) || outdated,
        }
    }

    /// Ends a transaction that came to nothing; a connection that does not confirm it is dropped.
    async fn roll_back(&self, mut connection: Connection) {
        let end = Instant::now() + ROLLBACK_WITHIN;
        if let Ok(Ok(())) = timeout_at(end, connection.roll_back()).await {
            self.idle.lock().push(connection);
        }
    }
}

/// A key as errors show it.
fn shown(write: Option<&Write>) -> Arc<str> {
    let key = write.map_or(&[][..], |write| &write.key.key);
    Arc::from(String::from_utf8_lossy(&key[..key.len().min(SHOWN_KEY)]))
}

/// Whether the session goes on after an error of Postgres: the transaction is at fault, not the connection.
fn is_plain(error: &tokio_postgres::Error) -> bool {
    let refusal = error.as_db_error();
    refusal.is_some_and(|refusal| refusal.parsed_severity() == Some(Severity::Error))
}

/// Whether it says that the queue is not installed.
fn is_missing(error: &tokio_postgres::Error) -> bool {
    let missing = [SqlState::INVALID_SCHEMA_NAME, SqlState::UNDEFINED_TABLE];
    error.code().is_some_and(|code| missing.contains(code))
}
