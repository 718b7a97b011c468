//! The scripts against a model of them, over time that the test makes: only the owner releases and renews, what has expired is
//! never revived, fences rise, who has waited longest is next. And each safeguard taken away is found missing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cachewarden::cli::demo::servers::Redis;
use cachewarden::config::Config;
use cachewarden::lock::{Extended, Extension, Fence, Kind, Letting, Locks, Scripts, Take, Taken};
use cachewarden::store::Store;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestError, TestRunner};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::expected::{KINDS, MOST_ASKERS, Model};
use super::name;
use crate::support::DEADLINE;
use crate::support::daemon::config_without_postgres;
use crate::support::eventually::eventually;
use crate::support::resp::{Client, Value};
use crate::support::servers::redis;
use crate::support::world::raw;

const SEQUENCES: u32 = 10_000;
/// Within so many each missing safeguard is found.
const SEQUENCES_TO_FIND: u32 = 1000;
const STEPS: usize = 40;
const TOKENS: u8 = 4;
const DAEMONS: u8 = 2;

#[derive(Clone, Copy, Debug)]
enum Step {
    Take {
        daemon: u8,
        token: u8,
        kind: u8,
        ttl: u64,
        waited: u64,
        waits: bool,
        is_behind: bool,
        next: Option<u64>,
    },
    Extend {
        token: u8,
        ttl: u64,
    },
    /// Mints a fence for what a token took last: it may be late with it.
    Mint {
        token: u8,
    },
    /// Confirms with what was minted for a token last.
    Confirm {
        token: u8,
        ttl: u64,
    },
    Release {
        daemon: u8,
        token: u8,
        /// By its latest asker, or one before; none: by the token's word.
        by: Option<u8>,
    },
    Force,
    Leave {
        daemon: u8,
    },
    Pass {
        ms: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // One asks more often than the others, and so again.
    let token = prop_oneof![1 => Just(0), 1 => 0..TOKENS];
    let daemon = 0..DAEMONS;
    let ttl = 1..400_u64;
    let take = (
        daemon.clone(),
        token.clone(),
        prop_oneof![4 => Just(0_u8), 2 => Just(1), 1 => Just(2), 1 => Just(3)],
        ttl.clone(),
        0..200_u64,
        any::<bool>(),
        prop::bool::weighted(0.1),
        prop::option::of(0..200_u64),
    )
        .prop_map(
            |(daemon, token, kind, ttl, waited, waits, is_behind, next)| Step::Take {
                daemon,
                token,
                kind,
                ttl,
                waited,
                waits,
                is_behind,
                next,
            },
        );
    let step = prop_oneof![
        8 => take,
        2 => (token.clone(), ttl.clone()).prop_map(|(token, ttl)| Step::Extend { token, ttl }),
        3 => token.clone().prop_map(|token| Step::Mint { token }),
        3 => (token.clone(), ttl).prop_map(|(token, ttl)| Step::Confirm { token, ttl }),
        6 => (daemon.clone(), token, prop::option::weighted(0.8, 0..3_u8))
            .prop_map(|(daemon, token, by)| Step::Release { daemon, token, by }),
        1 => Just(Step::Force),
        1 => daemon.prop_map(|daemon| Step::Leave { daemon }),
        6 => prop_oneof![1..100_u64, 100..600_u64, 2400..2600_u64].prop_map(|ms| Step::Pass { ms }),
    ];
    prop::collection::vec(step, 1..STEPS)
}

/// A Redis with a clock of ours, and the daemons of a fleet.
struct Stage {
    runtime: Runtime,
    raw: Client,
    daemons: Vec<Locks>,
    played: u32,
    _redis: Redis,
}

impl Stage {
    /// `from` is replaced by `to` in every script.
    fn set(from: &str, to: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let redis = redis();
        let edit = |text: &str| {
            let (_time, rest) = text.split_once("local HEAD").unwrap();
            let most = format!("MOST_ASKERS = {MOST_ASKERS}");
            let rest = rest.replace("MOST_ASKERS = 16", &most).replace(from, to);
            format!("local now = tonumber(redis.call('GET', 'clock'))\nlocal HEAD{rest}")
        };
        let scripts = Arc::new(Scripts::edited(edit));
        let config = config_without_postgres(&redis.redis_url(), "");
        let config = Config::from_toml(&config).unwrap();
        let store = Store::siblings(&config.redis, 1).unwrap().remove(0);
        let locks = |_| Locks::new(store.clone(), Arc::clone(&scripts), Uuid::new_v4());
        let daemons = (0..DAEMONS).map(locks).collect();
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
            daemons,
            played: 0,
            _redis: redis,
        }
    }

    fn play(&mut self, steps: &[Step]) -> Result<(), TestCaseError> {
        self.played += 1;
        let lock = name(&self.played.to_string());
        let mut model = Model {
            now: 1_700_000_000_000,
            ..Model::default()
        };
        let (runtime, raw, daemons) = (&self.runtime, &mut self.raw, &self.daemons);
        runtime.block_on(async {
            set_clock(raw, model.now).await;
            for step in steps {
                act(step, &lock, &mut model, raw, daemons).await?;
            }
            let key = format!("cachewarden:lock:{}", self.played);
            let life = raw.command(&["PTTL", &key]).await;
            prop_assert!(life != Value::Int(-1), "it lives for ever");
            Ok(())
        })
    }
}

async fn set_clock(raw: &mut Client, now: u64) {
    raw.command(&["SET", "clock", &now.to_string()]).await;
}

fn token_of(token: u8) -> Uuid {
    Uuid::from_u128(u128::from(token) + 1)
}

async fn act(
    step: &Step,
    lock: &Bytes,
    model: &mut Model,
    raw: &mut Client,
    daemons: &[Locks],
) -> Result<(), TestCaseError> {
    let name = lock.clone();
    match *step {
        Step::Take {
            daemon,
            token,
            kind,
            ttl,
            waited,
            waits,
            is_behind,
            next,
        } => {
            model.askers += 1;
            let take = Take {
                name,
                token: token_of(token),
                asker: model.askers,
                kind: KINDS[kind as usize],
                ttl: Duration::from_millis(ttl),
                waited: Duration::from_millis(waited),
                waits,
                is_behind,
                next: next.map(|ms| (Duration::from_millis(ms), Kind::Exclusive)),
            };
            let took = daemons[daemon as usize]
                .take(std::slice::from_ref(&take))
                .await
                .unwrap();
            let expected = model.take(daemon, token, &take);
            prop_assert_eq!(&took, &[expected], "{:?}", step);
            if let Taken::Yes(fence) = took[0] {
                model.told.entry(token).or_default().push(model.askers);
                if let Fence::Due(birth) = fence {
                    model.taken.insert(token, birth);
                }
            }
        }
        Step::Extend { token, ttl } => {
            let extension = Extension {
                name,
                token: token_of(token),
                ttl: Duration::from_millis(ttl),
                minted: None,
            };
            let extended = daemons[0].extend(&[extension]).await.unwrap();
            prop_assert_eq!(extended, [model.extend(token, ttl, None)], "{:?}", step);
        }
        Step::Mint { token } => {
            model.fences += 1;
            if let Some(asker) = model.taken.get(&token) {
                model.minted.insert(token, (*asker, model.fences));
            }
        }
        Step::Confirm { token, ttl } => {
            let Some(minted) = model.minted.get(&token).copied() else {
                return Ok(());
            };
            let extension = Extension {
                name,
                token: token_of(token),
                ttl: Duration::from_millis(ttl),
                minted: Some(minted),
            };
            let confirmed = daemons[0].extend(&[extension]).await.unwrap();
            let expected = model.extend(token, ttl, Some(minted));
            prop_assert_eq!(&confirmed, &[expected], "{:?}", step);
            let holder = model.holders.get(&token);
            if let (Extended::Yes(Fence::Minted(fence)), Some(holder)) = (confirmed[0], holder)
                && holder.kind == Kind::Exclusive
            {
                prop_assert!(fence >= model.highest, "{} after {}", fence, model.highest);
                model.highest = fence;
            }
        }
        Step::Release { daemon, token, by } => {
            let told = model.told.get(&token).zip(by);
            let asker = told.and_then(|(told, by)| told.iter().rev().nth(by as usize).copied());
            let letting = Letting {
                name,
                token: token_of(token),
                asker,
            };
            let let_go = daemons[daemon as usize].release(&[letting]).await.unwrap();
            prop_assert_eq!(let_go, [model.release(token, asker)], "{:?}", step);
            if let Some(told) = model.told.get_mut(&token) {
                told.retain(|one| Some(*one) != asker);
            }
        }
        Step::Force => {
            let fences = daemons[0].force(lock).await.unwrap();
            model.expire();
            prop_assert_eq!(fences.len(), model.holders.len());
            model.holders.clear();
        }
        Step::Leave { daemon } => {
            daemons[daemon as usize].leave(&[name]).await.unwrap();
            model.marks.remove(&daemon);
        }
        Step::Pass { ms } => {
            model.now += ms;
            set_clock(raw, model.now).await;
        }
    }
    let look = daemons[0].look(std::slice::from_ref(lock)).await.unwrap();
    model.expire();
    prop_assert_eq!(look[0].held, model.holders.len() as u64, "after {:?}", step);
    let others = model.marks.keys().filter(|daemon| **daemon != 0).count();
    prop_assert_eq!(look[0].waiting_daemons, others as u64, "after {:?}", step);
    Ok(())
}

/// Plays sequences until one differs from the model; what was played then.
fn play(sequences: u32, from: &str, to: &str) -> Result<(), TestError<Vec<Step>>> {
    let stage = std::cell::RefCell::new(Stage::set(from, to));
    let config = ProptestConfig {
        cases: sequences,
        failure_persistence: None,
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new(config);
    runner.run(&steps(), |steps| stage.borrow_mut().play(&steps))
}

#[test]
fn the_scripts_do_what_the_model_says() {
    if let Err(error) = play(SEQUENCES, "", "") {
        panic!("{error}");
    }
}

/// A safeguard of the scripts, and the script without it.
const SAFEGUARDS: [(&str, &str); 20] = [
    // What has expired counts for nothing, and is not revived.
    ("not ends or ends <= now", "not ends"),
    ("tonumber(ends) <= now", "false"),
    // Only the owner lets go; of what several were told, the last of them.
    (
        "local mine = lock.holders[token]\n  if not",
        "local _, mine = next(lock.holders)\n  if not",
    ),
    ("with(mine.askers, asker)", "asker"),
    ("with(mine.askers, asker)", "mine.askers"),
    ("asker ~= '' and without(mine.askers, asker) or ''", "''"),
    ("if other ~= asker then", "if true then"),
    ("    mine.askers = others\n", ""),
    ("or '*'", "or asker"),
    // Who asks again makes no life shorter.
    ("math.max(mine.ends, ends)", "ends"),
    ("birth ~= '' and tonumber(ends) or 0", "0"),
    // A token that holds it is told the same.
    (
        "  if mine then\n    mine.ends",
        "  if false then\n    mine.ends",
    ),
    // A fence stays, and belongs to what it was minted for.
    ("if fence ~= birth then return 0 end", ""),
    ("string.sub(fence, 1, 1) == '~' and birth", "birth"),
    // Who holds it excludes others, as many as there is room.
    ("class(holder.kind) ~= class(kind)", "false"),
    ("lock.held >= room(kind)", "false"),
    // Who waits longer, in another daemon, is next; readers do not wait for readers.
    ("mark.since < since and", "false and"),
    ("other ~= instance and mark", "mark"),
    (
        "mark.since < since and not both_share",
        "mark.since < since",
    ),
    // Who is behind others takes nothing.
    ("if is_behind then return 0 end", ""),
];

#[test]
fn a_script_without_a_safeguard_is_told_from_the_model() {
    for (from, to) in SAFEGUARDS {
        let whole = concat!(
            include_str!("../../../src/lock/scripts/read_locks.lua"),
            include_str!("../../../src/lock/scripts/take_locks.lua"),
            include_str!("../../../src/lock/scripts/extend_locks.lua"),
            include_str!("../../../src/lock/scripts/release_locks.lua"),
        );
        assert!(whole.contains(from), "{from} is in no script");
        let played = play(SEQUENCES_TO_FIND, from, to);
        assert!(
            matches!(played, Err(TestError::Fail(..))),
            "nobody misses `{from}`"
        );
    }
}
