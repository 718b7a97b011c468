//! The statements of one transaction, prepared once a connection.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt, try_join3};
use futures_util::stream::FuturesOrdered;
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use super::refusal::SaveError;
use super::{DeadWrite, Inner, LateWrite, Saved};
use crate::config::{self, AfterSave, Names};
use crate::keyspace::{KeyTemplate, RoutedKey};
use crate::repository::saving::{Dml, Json, SOURCE};

/// Who may flush is told by the number of this resource.
const RESOURCE: &str = "cachewarden:journal";
/// Ids that one transaction forgets: more than it enters.
const FORGET_AT_ONCE: i64 = 2_000;

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

const FENCE: &str = "SELECT cachewarden.fence($1, $2)";

/// An hour: longer than any Redis that is not a restored backup comes back without.
const ENTER: &str = "\
WITH forgotten AS (
    DELETE FROM cachewarden.written WHERE id = ANY(ARRAY(
        SELECT id FROM cachewarden.written WHERE at < clock_timestamp() - interval '1 hour'
        ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED))
)
INSERT INTO cachewarden.written (id) SELECT unnest($1::text[])::uuid
ON CONFLICT (id) DO NOTHING RETURNING id::text";

const QUEUE: &str = "INSERT INTO cachewarden.outbox (source, keys, patterns) VALUES ($1, $2, $3)";

const BURY: &str = "\
INSERT INTO cachewarden.dead_writes (id, cache, key, op, value, error, sqlstate, attempts)
VALUES ($1::text::uuid, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING";

const COUNT_DEAD: &str =
    "SELECT count(*) FROM (SELECT FROM cachewarden.dead_writes LIMIT $1) AS dead";

/// What a cache declares of its writes.
pub(super) struct Texts {
    key: KeyTemplate,
    write: Option<config::Write>,
    save: Option<Dml>,
    delete: Option<Dml>,
}

impl Texts {
    pub fn new(cache: &config::Cache) -> Self {
        let write = cache.write.clone();
        let params = cache.key.params();
        let save = write.as_ref().and_then(|write| write.save.as_ref());
        let delete = write.as_ref().and_then(|write| write.delete.as_ref());
        Self {
            key: cache.key.clone(),
            save: save.map(|declared| Dml::saving(&declared.sql, params)),
            delete: delete.map(|declared| Dml::deleting(&declared.sql, params)),
            write,
        }
    }

    pub fn declares(&self, is_save: bool) -> bool {
        self.dml(is_save).is_some()
    }

    pub fn renews(&self) -> bool {
        let write = self.write.as_ref();
        write.is_some_and(|write| write.after_save == AfterSave::Update)
    }

    fn dml(&self, is_save: bool) -> Option<&Dml> {
        match is_save {
            true => self.save.as_ref(),
            false => self.delete.as_ref(),
        }
    }

    /// What a write of `key` makes outdated.
    fn add_names(&self, key: &RoutedKey, names: &mut Names) {
        names
            .keys
            .push(String::from_utf8_lossy(&key.key).into_owned());
        if let Some(write) = &self.write {
            write.add_names(&self.key, key, names);
        }
    }
}

/// Which of the writes are new.
pub(super) struct Opened(HashSet<String>);

impl Opened {
    fn is_new(&self, id: Uuid) -> bool {
        self.0.contains(&id.to_string())
    }
}

/// The connection, with the statements that it knows.
pub(super) struct Connection {
    client: Client,
    prepared: HashMap<String, Statement>,
}

type Ran<'a> = BoxFuture<'a, Result<u64, tokio_postgres::Error>>;

impl Connection {
    pub fn new(client: Client) -> Self {
        Self {
            client,
            prepared: HashMap::new(),
        }
    }

    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Begins the transaction of a term, and enters the writes.
    pub async fn open(
        &mut self,
        fence: i64,
        writes: &[LateWrite],
        lock_wait: Duration,
        patience: Duration,
    ) -> Result<Opened, SaveError> {
        let ids = writes.iter().flat_map(|write| {
            let superseded = write.instead_of.iter();
            superseded.chain([&write.id]).map(Uuid::to_string)
        });
        let ids: Vec<String> = ids.collect();
        let [show, enter] = [
            self.ours(FENCE, patience).await?,
            self.ours(ENTER, patience).await?,
        ];
        let binds: [&(dyn ToSql + Sync); 2] = [&RESOURCE, &fence];
        let entering: [&(dyn ToSql + Sync); 2] = [&ids, &FORGET_AT_ONCE];
        let lock_ms = lock_wait.as_millis();
        let begin = format!("{BEGIN}; SET LOCAL lock_timeout = {lock_ms}");
        // All are sent before one is answered.
        let opening = try_join3(
            self.client.batch_execute(&begin),
            self.client.execute(&show, &binds),
            self.client.query(&enter, &entering),
        );
        let (_, _, rows) = answered(opening, patience).await?;
        let new: Result<_, _> = rows.iter().map(|row| row.try_get(0)).collect();
        new.map(Opened)
            .map_err(|error| SaveError::of_transaction(&error))
    }

    /// Runs the statements of those that are new, and queues what all of them make outdated.
    pub async fn write(
        &mut self,
        writes: &[LateWrite],
        opened: &Opened,
        inner: &Inner,
    ) -> Result<Saved, SaveError> {
        let mut names = Names::default();
        let mut saved = Saved::default();
        let mut ready = Vec::with_capacity(writes.len());
        for (at, write) in writes.iter().enumerate() {
            let texts = inner.texts.get(usize::from(write.key.space.0));
            let dml = texts.and_then(|texts| texts.dml(write.value.is_some()));
            let (Some(texts), Some(dml)) = (texts, dml) else {
                return Err(SaveError::no_statement(at));
            };
            texts.add_names(&write.key, &mut names);
            saved.superseded += write.instead_of.len();
            if opened.is_new(write.id) {
                ready.push((at, self.declared(at, dml, inner.patience).await?));
            } else {
                saved.repeated += 1;
            }
        }
        saved.saved = ready.len();
        self.run(writes, &ready, inner.patience).await?;
        self.queue(names, inner.patience).await?;
        Ok(saved)
    }

    /// All statements are sent before one is answered. The first that fails is at fault; those behind it fail with it.
    async fn run(
        &self,
        writes: &[LateWrite],
        ready: &[(usize, Statement)],
        patience: Duration,
    ) -> Result<(), SaveError> {
        let sent = ready.iter().map(|(at, statement)| -> Ran<'_> {
            let write = &writes[*at];
            async move {
                let json = write.value.as_deref().map(Json);
                let params: Vec<&str> = write.key.params().collect();
                let params = params.iter().map(|param| param as &(dyn ToSql + Sync));
                let json = json.as_ref().map(|json| json as &(dyn ToSql + Sync));
                let binds: Vec<_> = params.chain(json).collect();
                self.client.execute(statement, &binds).await
            }
            .boxed()
        });
        let mut sent: FuturesOrdered<Ran<'_>> = sent.collect();
        for (at, _) in ready {
            let ran = timeout(patience, sent.next())
                .await
                .map_err(|_elapsed| silent(patience))?;
            match ran {
                Some(Ok(0)) if writes[*at].value.is_some() => {
                    return Err(SaveError::no_row(*at, &writes[*at].key.key));
                }
                Some(Err(error)) => return Err(SaveError::of_write(&error, Some(*at))),
                Some(Ok(_)) | None => {}
            }
        }
        Ok(())
    }

    async fn queue(&mut self, names: Names, patience: Duration) -> Result<(), SaveError> {
        let queue = self.ours(QUEUE, patience).await?;
        let distinct = |names: Vec<String>| -> Vec<String> {
            let names: BTreeSet<String> = names.into_iter().collect();
            names.into_iter().collect()
        };
        let (keys, patterns) = (distinct(names.keys), distinct(names.patterns));
        let binds: [&(dyn ToSql + Sync); 3] = [&SOURCE, &keys, &patterns];
        answered(self.client.execute(&queue, &binds), patience).await?;
        Ok(())
    }

    /// What was only to be checked at the end may still be refused now, and nobody says whose fault it is.
    pub async fn commit(&mut self, patience: Duration) -> Result<(), SaveError> {
        let committed = timeout(patience, self.client.batch_execute("COMMIT")).await;
        let committed = committed.map_err(|_elapsed| silent(patience))?;
        committed.map_err(|error| SaveError::of_write(&error, None))
    }

    /// Ends the transaction without a trace; whether that is certain.
    pub async fn roll_back(&mut self, patience: Duration) -> bool {
        let ended = timeout(patience, self.client.batch_execute("ROLLBACK")).await;
        matches!(ended, Ok(Ok(())))
    }

    pub async fn bury(
        &mut self,
        fence: i64,
        dead: &DeadWrite,
        patience: Duration,
    ) -> Result<(), SaveError> {
        let [show, enter, bury] = [
            self.ours(FENCE, patience).await?,
            self.ours(ENTER, patience).await?,
            self.ours(BURY, patience).await?,
        ];
        let id = dead.id.to_string();
        let attempts = i32::try_from(dead.attempts).unwrap_or(i32::MAX);
        let burying = async {
            self.client.batch_execute(BEGIN).await?;
            self.client.execute(&show, &[&RESOURCE, &fence]).await?;
            let entered = vec![id.clone()];
            self.client
                .execute(&enter, &[&entered, &FORGET_AT_ONCE])
                .await?;
            let DeadWrite {
                cache,
                key,
                op,
                value,
                error,
                sqlstate,
                ..
            } = dead;
            let binds: [&(dyn ToSql + Sync); 8] =
                [&id, cache, key, op, value, error, sqlstate, &attempts];
            self.client.execute(&bury, &binds).await?;
            self.client.batch_execute("COMMIT").await
        };
        answered(burying, patience).await
    }

    pub async fn count_dead(&mut self, limit: usize, patience: Duration) -> Result<u64, SaveError> {
        let count = self.ours(COUNT_DEAD, patience).await?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let counting = async {
            let row = self.client.query_one(&count, &[&limit]).await?;
            row.try_get::<_, i64>(0)
        };
        let counted = answered(counting, patience).await?;
        Ok(u64::try_from(counted).unwrap_or(0))
    }

    async fn ours(&mut self, sql: &str, patience: Duration) -> Result<Statement, SaveError> {
        let prepared = self.prepare(sql, &[], patience).await?;
        prepared.map_err(|error| SaveError::of_transaction(&error))
    }

    async fn declared(
        &mut self,
        at: usize,
        dml: &Dml,
        patience: Duration,
    ) -> Result<Statement, SaveError> {
        let prepared = self.prepare(&dml.sql, &dml.types, patience).await?;
        prepared.map_err(|error| SaveError::of_write(&error, Some(at)))
    }

    async fn prepare(
        &mut self,
        sql: &str,
        types: &[Type],
        patience: Duration,
    ) -> Result<Result<Statement, tokio_postgres::Error>, SaveError> {
        if let Some(prepared) = self.prepared.get(sql) {
            return Ok(Ok(prepared.clone()));
        }
        let prepared = timeout(patience, self.client.prepare_typed(sql, types)).await;
        let prepared = prepared.map_err(|_elapsed| silent(patience))?;
        if let Ok(statement) = &prepared {
            self.prepared.insert(sql.to_owned(), statement.clone());
        }
        Ok(prepared)
    }
}

async fn answered<T>(
    answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    patience: Duration,
) -> Result<T, SaveError> {
    let answer = timeout(patience, answer)
        .await
        .map_err(|_elapsed| silent(patience))?;
    answer.map_err(|error| SaveError::of_transaction(&error))
}

fn silent(patience: Duration) -> SaveError {
    SaveError::Away(format!("no answer within {} ms", patience.as_millis()))
}
