//! The scripts of writing behind against a model of them: what is acknowledged stands in the journal and is pending in the same
//! step, the newest is what its key says until it is saved, no fill covers it, and nothing is lost by who completes late or twice.

mod expected;
mod play;
mod seen;
mod steps;

use std::cell::RefCell;

use bytes::Bytes;
use cachewarden::cache::leases::{self, Leases};
use cachewarden::cache::{Scripts, Space, Spaces};
use cachewarden::cli::demo::servers::Redis;
use cachewarden::config::Config;
use cachewarden::journal::Journal;
use cachewarden::store::Store;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use tokio::runtime::Runtime;

use super::CACHES;
use crate::support::DEADLINE;
use crate::support::daemon::config;
use crate::support::eventually::eventually;
use crate::support::resp::Client;
use crate::support::servers::redis;
use crate::support::world::raw;
use expected::Row;
use play::Play;
use steps::{NO_LIMIT, Step, steps};

const SEQUENCES: u32 = 2_000;
/// Where all of it lies.
const INDEX: &str = "cachewarden:leases";
const JOURNAL: &str = "cachewarden:journal";

fn name(key: usize) -> String {
    format!("accounts:{key}")
}

fn key_of(key: usize) -> Bytes {
    Bytes::from(name(key))
}

fn text_of(row: Row) -> Bytes {
    row.map_or_else(Bytes::new, |version| Bytes::from(version.to_string()))
}

/// As a value in Redis.
fn value_of(row: Row) -> Bytes {
    match row {
        Some(_) => text_of(row),
        None => Bytes::from_static(leases::MISSING),
    }
}

fn op_of(row: Row) -> &'static str {
    match row {
        Some(_) => "set",
        None => "delete",
    }
}

/// A Redis, and what goes there.
struct Stage {
    runtime: Runtime,
    raw: Client,
    leases: Leases,
    journal: Journal,
    space: Space,
    _redis: Redis,
}

impl Stage {
    fn set() -> Self {
        let runtime = Runtime::new().unwrap();
        let redis = redis();
        let config = config(
            "postgres://nobody@127.0.0.1:1/x",
            &redis.redis_url(),
            CACHES,
        );
        let config = Config::from_toml(&config).unwrap();
        let store = Store::siblings(&config.redis, 1).unwrap().remove(0);
        let spaces = Spaces::of(&config.caches, &config.namespaces);
        let mut space = spaces.iter().next().unwrap().clone();
        space.windows.keeps_invalidated = true;
        runtime.spawn(store.clone().keep());
        let raw = runtime.block_on(async {
            eventually(DEADLINE, async || match store.is_up() {
                true => Ok(()),
                false => Err("away"),
            })
            .await;
            raw(&redis).await
        });
        Self {
            runtime,
            raw,
            leases: Leases::new(store.clone(), Scripts::default().into()),
            journal: Journal::new(store),
            space,
            _redis: redis,
        }
    }

    fn play(&mut self, steps: &[Step]) -> Result<(), TestCaseError> {
        let (leases, journal) = (&self.leases, &self.journal);
        let mut play = Play::new(leases, journal, &self.space, &mut self.raw);
        self.runtime.block_on(async {
            play.begin_anew().await;
            for step in steps {
                play.act(step).await?;
                play.compare(step).await?;
                play.model.check();
            }
            play.expiries().await
        })
    }
}

#[test]
fn a_page_holds_no_more_bytes_than_it_may_but_for_one_write_that_is_larger_alone() {
    let stage = Stage::set();
    let mebibytes = |n: usize| Bytes::from(vec![b'1'; n << 20]);
    let sizes = [1, 2, 2, 5, 1, 5, 4];
    let pages: [&[usize]; 6] = [&[1, 2], &[2], &[5], &[1], &[5], &[4]];
    stage.runtime.block_on(async {
        let key = key_of(1);
        for size in sizes {
            let value = mebibytes(size);
            let write = (&key, b"account".as_slice(), Some(&value));
            let accepted = stage.leases.accept_writes([write].into_iter(), NO_LIMIT);
            assert!(accepted.await.unwrap());
        }
        let mut last = None;
        for sizes in pages {
            let page = stage.journal.read(last, sizes.len() + 10).await.unwrap();
            let seen = page.entries.iter().map(|entry| entry.value.len() >> 20);
            assert_eq!(seen.collect::<Vec<_>>(), sizes);
            last = page.entries.last().map(|entry| entry.place);
        }
    });
}

#[test]
fn the_scripts_do_what_the_model_says() {
    let stage = RefCell::new(Stage::set());
    let config = ProptestConfig {
        cases: SEQUENCES,
        failure_persistence: None,
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new(config);
    let played = runner.run(&steps(), |steps| stage.borrow_mut().play(&steps));
    if let Err(error) = played {
        panic!("{error}");
    }
}
