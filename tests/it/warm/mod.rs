//! Caches that are loaded before anybody reads them: all of it, once in a fleet, whatever happens on the way, and never with
//! what is outdated.

mod bad_keys;
mod courtesy;
mod door;
mod faults;
mod fleet;
mod hot;
mod panics;
mod race;
mod ready;
mod runs;

use cachewarden::cli::demo::servers::Redis;
use cachewarden::warmup::Outcome;

use super::support::DEADLINE;
use super::support::daemon::{InProcess, config};
use super::support::eventually::eventually;
use super::support::resp::{Client, Value};
use super::support::servers::redis;
use super::support::watched::Watched;
use super::support::world::{figure, raw};

const COURSES: &str = "
    CREATE TABLE courses (id bigint PRIMARY KEY, title text NOT NULL);
    INSERT INTO courses SELECT n, 'course ' || n FROM generate_series(1, 100) n";

/// A cache of courses; `warm` is what its section says.
fn course(warm: &str) -> String {
    format!(
        r#"
        [caches.course]
        key = "courses:{{id:bigint}}"
        query = "SELECT title FROM courses WHERE id = :id"
        shape = "scalar"
        ttl = "1h"
        ttl_jitter = "0%"
        params = {{ id = {{ min = 1 }} }}
        [caches.course.warm]
        keys = "SELECT id FROM courses"
        {warm}
        "#
    )
}

/// Asked for by nobody but a test.
const ON_COMMAND: &str = "on_start = false";

/// A database in which all that is needed is installed, a Redis, and what the daemons are started with.
struct World {
    watched: Watched,
    redis: Redis,
    sections: String,
}

impl World {
    async fn start(sql: &str, sections: &str) -> Self {
        Self {
            watched: Watched::start(sql, sections).await,
            redis: redis(),
            sections: sections.to_owned(),
        }
    }

    fn config(&self) -> String {
        let url = self.redis.redis_url();
        config(self.watched.database.url(), &url, &self.sections)
    }

    async fn daemon(&self) -> InProcess {
        InProcess::start(&self.config()).await
    }

    async fn raw(&self) -> Client {
        raw(&self.redis).await
    }
}

/// What a warmup of all caches came to, by cache: loaded, skipped, failed.
async fn warm(daemon: &InProcess, force: bool) -> Vec<(String, (u64, u64, u64))> {
    let outcomes = daemon.warden.warm(&[], force).await.unwrap();
    let counts = |(cache, outcome): (String, Outcome)| {
        assert_eq!(outcome.error, None, "{cache}");
        (cache, (outcome.loaded, outcome.skipped, outcome.failed))
    };
    outcomes.into_iter().map(counts).collect()
}

/// The same of the only cache there is.
async fn warm_one(daemon: &InProcess, force: bool) -> (u64, u64, u64) {
    let outcomes = warm(daemon, force).await;
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    outcomes[0].1
}

/// How many keys of courses Redis holds.
async fn cached(raw: &mut Client) -> usize {
    match raw.command(&["KEYS", "courses:*"]).await {
        Value::Array(keys) => keys.len(),
        other => panic!("{other:?}"),
    }
}

async fn until_cached(raw: &mut Client, wanted: usize) {
    eventually(3 * DEADLINE, async || match cached(raw).await {
        seen if seen == wanted => Ok(()),
        seen => Err(seen),
    })
    .await;
}

async fn runs(client: &mut Client) -> u64 {
    figure(client, "cachewarden_warm_runs_total", "done").await
}

async fn until_run_once(client: &mut Client) {
    eventually(DEADLINE, async || match runs(client).await {
        1 => Ok(()),
        seen => Err(seen),
    })
    .await;
}
