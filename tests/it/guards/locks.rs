//! Thirty-two clients of four daemons want sixteen locks. Some stand still for longer than their lock lasts, and write all the same.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use fastrand::Rng;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_postgres::Client as Session;
use tokio_postgres::error::SqlState;

use super::record::{Acquired, overtaken, unordered};
use super::world::{DAEMONS, FAULTS, Fault, World};
use super::{Link, asked, seed};
use crate::support::DEADLINE;
use crate::support::eventually::eventually;
use crate::support::resp::Value;
use crate::support::world::keys_with_life;

const CLIENTS: usize = 32;
const LOCKS: [&str; 16] = [
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p",
];
const TTL_MS: u64 = 500;
const TTL: &str = "500";
const WAIT: &str = "2000";
/// Most sections are short; some are nearly as long as their lock's life.
const SHORTEST_MS: f64 = 50.0;
const LONGEST_MS: f64 = 400.0;
/// One in so many clients stands still for up to twice the life of its lock.
const PAUSES: u32 = 40;
/// In the control, which is short, one in so many.
const CONTROL_PAUSES: u32 = 10;
/// Acquisitions made while nothing is amiss, before each fault and after the last.
const CALM: usize = 40;
/// What `cachewarden.fence` says to who came before.
const REFUSED: &str = "55W01";
/// With the machine to itself.
const ACQUISITIONS_A_SECOND: f64 = 50.0;

/// What clients share.
struct Field {
    daemons: Mutex<[SocketAddr; DAEMONS]>,
    acquired: Mutex<BTreeMap<&'static str, Vec<Acquired>>>,
    by_client: Mutex<[u64; CLIENTS]>,
    is_fenced: bool,
    over: AtomicBool,
}

impl Field {
    fn pauses(&self) -> u32 {
        if self.is_fenced {
            PAUSES
        } else {
            CONTROL_PAUSES
        }
    }

    fn count(&self) -> usize {
        self.acquired.lock().values().map(Vec::len).sum()
    }
}

/// What came of it.
#[derive(Debug, Default)]
struct Outcome {
    acquisitions: usize,
    writes: usize,
    refused: usize,
    unordered: usize,
    overtaken: usize,
    faults: usize,
    /// Acquisitions in calm, and how long that was.
    calm: (usize, Duration),
    fewest_of_a_client: u64,
    never_expire: Vec<String>,
}

impl Outcome {
    fn is_true(&self) -> bool {
        self.unordered == 0 && self.overtaken == 0 && self.never_expire.is_empty()
    }

    fn rate(&self) -> f64 {
        self.calm.0 as f64 / self.calm.1.as_secs_f64()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} acquisitions, {:.0}/s in calm, at least {} a client; {} faults; {} writes, {} refused; {} fences out of order, \
             {} writes behind newer ones; {} keys for ever",
            self.acquisitions,
            self.rate(),
            self.fewest_of_a_client,
            self.faults,
            self.writes,
            self.refused,
            self.unordered,
            self.overtaken,
            self.never_expire.len(),
        )
    }
}

/// Writes once under the fence; whether it was let.
async fn write(field: &Field, session: &Session, lock: &str, fence: i64) -> bool {
    let insert = format!("INSERT INTO guard (lock, fence) VALUES ('{lock}', {fence})");
    // Statements that are sent together are one transaction.
    let statements = match field.is_fenced {
        true => format!("SELECT cachewarden.fence('{lock}', {fence}); {insert}"),
        false => insert,
    };
    let Err(error) = session.batch_execute(&statements).await else {
        return true;
    };
    let is_refusal = error.code() == Some(&SqlState::from_code(REFUSED));
    assert!(is_refusal, "{error:?}");
    false
}

/// One client; how many of its writes were refused.
async fn work(field: Arc<Field>, client: usize, session: Session, mut random: Rng) -> usize {
    let mut link = Link(None);
    let mut refused = 0;
    while !field.over.load(SeqCst) {
        let lock = LOCKS[random.usize(..LOCKS.len())];
        let is_kept = random.u8(..3) == 0;
        let mut words = vec!["LOCK.ACQUIRE", lock, TTL, "WAIT", WAIT];
        words.extend(is_kept.then_some("SESSION"));
        let address = field.daemons.lock()[client % DAEMONS];
        let sent = Instant::now();
        let Ok(Value::Array(parts)) = link.ask(address, &words).await else {
            sleep(Duration::from_millis(random.u64(5..50))).await;
            continue;
        };
        let answered = Instant::now();
        let [token, Value::Int(fence)] = parts.as_slice() else {
            panic!("{parts:?}")
        };
        let acquired = Acquired {
            sent,
            answered,
            fence: *fence,
        };
        field
            .acquired
            .lock()
            .entry(lock)
            .or_default()
            .push(acquired);
        field.by_client.lock()[client] += 1;
        let token = token.text();
        refused += usize::from(!write(&field, &session, lock, *fence).await);
        let lasts = SHORTEST_MS + (LONGEST_MS - SHORTEST_MS) * random.f64().powi(3);
        sleep(Duration::from_secs_f64(lasts / 1000.0)).await;
        if random.u32(..field.pauses()) == 0 {
            sleep(Duration::from_millis(random.u64(TTL_MS..2 * TTL_MS))).await;
        } else if !is_kept && random.bool() {
            let extend = ["LOCK.EXTEND", lock, token, TTL];
            let _whatever_it_says = link.ask(address, &extend).await;
        }
        // Whether it is still ours or not: that is what the fence is for.
        refused += usize::from(!write(&field, &session, lock, *fence).await);
        let _ends_by_itself = link.ask(address, &["LOCK.RELEASE", lock, token]).await;
    }
    refused
}

async fn storm(seed: u64, faults: &[Fault], is_fenced: bool) -> Outcome {
    let mut world = World::start().await;
    let field = Arc::new(Field {
        daemons: Mutex::new(world.addresses()),
        acquired: Mutex::default(),
        by_client: Mutex::new([0; CLIENTS]),
        is_fenced,
        over: AtomicBool::new(false),
    });
    let mut random = Rng::with_seed(seed);
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let session = world.watched.database.client().await;
        clients.spawn(work(Arc::clone(&field), client, session, random.fork()));
    }
    let mut outcome = Outcome::default();
    outcome.calm(&field).await;
    for fault in faults {
        let lasts = Duration::from_millis(random.u64(1000..2000));
        let tell = |addresses| *field.daemons.lock() = addresses;
        let before = Instant::now();
        world
            .suffer(*fault, random.usize(..DAEMONS), lasts, tell)
            .await;
        outcome.faults += 1;
        let acquired = outcome.calm(&field).await;
        let took = before.elapsed();
        super::tell(&format!(
            "{fault:?} and calm again in {took:.1?}, {acquired} acquisitions"
        ));
    }
    field.over.store(true, SeqCst);
    outcome.refused = clients.join_all().await.into_iter().sum();
    outcome.look(&field, &world).await;
    outcome
}

impl Outcome {
    /// Waits until locks are had again, and for so many; how many there were in all.
    async fn calm(&mut self, field: &Field) -> usize {
        let until = async |wanted: usize| {
            eventually(3 * DEADLINE, async || match field.count() {
                seen if seen >= wanted => Ok(seen),
                seen => Err((seen, wanted)),
            })
            .await
        };
        let before = until(field.count() + CALM / 3).await;
        let begun = Instant::now();
        let after = until(before + CALM).await;
        self.calm.0 += after - before;
        self.calm.1 += begun.elapsed();
        after
    }

    async fn look(&mut self, field: &Field, world: &World) {
        let rows = "SELECT lock, fence FROM guard ORDER BY place";
        let rows = world.watched.client.query(rows, &[]).await.unwrap();
        let writes: Vec<(String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let acquired = field.acquired.lock().clone();
        self.acquisitions = field.count();
        self.fewest_of_a_client = field.by_client.lock().into_iter().min().unwrap_or(0);
        self.unordered = acquired.values().map(|one| unordered(one)).sum();
        self.overtaken = overtaken(&writes);
        self.writes = writes.len();
        let keys = keys_with_life(&mut world.raw().await).await;
        let for_ever = keys.into_iter().filter(|(_, life)| *life == -1);
        self.never_expire = for_ever.map(|(key, _)| key).collect();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_fences_rise_and_no_older_holder_writes_behind_a_newer_one() {
    let seed = seed();
    let rounds = asked("GUARDS_ROUNDS");
    let mut faults = FAULTS.repeat(rounds.map_or(1, |rounds| usize::try_from(rounds).unwrap()));
    Rng::with_seed(seed).shuffle(&mut faults);
    let outcome = storm(seed, &faults, true).await;
    println!("guards: {outcome}");
    assert!(outcome.is_true(), "{outcome:#?}");
    assert!(
        outcome.refused > 0 && outcome.fewest_of_a_client > 0,
        "{outcome:#?}"
    );
    // Who asks for a long one has the machine to themselves.
    let is_quick = outcome.rate() >= ACQUISITIONS_A_SECOND;
    assert!(is_quick || rounds.is_none(), "{outcome:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_fences_older_holders_write_behind_newer_ones_and_that_is_found() {
    let outcome = storm(0, &[Fault::RedisEmptied, Fault::RedisFailedOver], false).await;
    println!("guards: without fences: {outcome}");
    assert!(outcome.overtaken > 0, "{outcome:#?}");
}
