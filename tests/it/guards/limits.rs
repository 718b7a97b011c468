//! Eight clients each of three daemons want a hundred a window. One of the daemons has a time of day of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cachewarden::cli::demo::servers::{Folder, Redis};
use fastrand::Rng;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Link, asked, seed};
use crate::clocks::Clock;
use crate::support::DEADLINE;
use crate::support::daemon::Spawned;
use crate::support::eventually::eventually;
use crate::support::resp::Value;
use crate::support::servers::redis;
use crate::support::world::figure;

const LIMIT: u64 = 100;
const WINDOW_US: u64 = 500_000;
const LIMITS: &str = r#"
    redis.timeout = "100ms"
    [limits.api]
    algorithm = "fixed_window"
    limit = 100
    window = "500ms"
    on_redis_error = "deny"
"#;
const DAEMONS: usize = 3;
const CLIENTS: usize = 8;
/// Windows that pass between two faults, and after the last.
const CALM: usize = 4;
/// Faults of the usual length.
const FAULTS: u64 = 5;
const FROZEN: Duration = Duration::from_millis(300);
const OFFSET_S: i64 = 5;
/// Of what is declared, so much is given out where nothing is amiss.
const USEFUL_PERCENT: u64 = 95;

/// Microseconds by the clock that Redis has, too.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_micros()).unwrap()
}

/// The end of the window of a decision that was made between these two moments, with so many ms of it left, or one less.
fn window(sent: u64, got: u64, left_ms: u64) -> Option<u64> {
    let (first, last) = (sent + left_ms * 1000 - 1000, got + left_ms * 1000);
    let end = last / WINDOW_US * WINDOW_US;
    // Only one is possible, unless the answer was on its way for as long as a window.
    (end >= first && end < first + WINDOW_US).then_some(end)
}

#[derive(Default)]
struct Field {
    /// What was let through, by the end of its window.
    granted: Mutex<BTreeMap<u64, u64>>,
    by_daemon: [AtomicU64; DAEMONS],
    unclear: AtomicU64,
    refused: AtomicU64,
    errors: AtomicU64,
    over: AtomicBool,
}

impl Field {
    async fn windows(&self, more: usize) {
        let wanted = self.granted.lock().len() + more;
        eventually(2 * DEADLINE, async || match self.granted.lock().len() {
            seen if seen >= wanted => Ok(()),
            seen => Err((seen, wanted)),
        })
        .await;
    }
}

async fn ask_all_the_time(field: Arc<Field>, daemon: usize, address: SocketAddr, mut random: Rng) {
    let mut link = Link(None);
    while !field.over.load(SeqCst) {
        let sent = now();
        let answer = link.ask(address, &["RATE.CHECK", "api", "ann"]).await;
        let got = now();
        let numbers = match &answer {
            Ok(Value::Array(parts)) => match parts.as_slice() {
                [
                    Value::Int(allowed),
                    _,
                    _,
                    Value::Int(retry),
                    Value::Int(left),
                    ..,
                ] => Some((*allowed == 1, *retry, *left)),
                other => panic!("{other:?}"),
            },
            _ => None,
        };
        match numbers {
            Some((true, _, left)) => {
                field.by_daemon[daemon].fetch_add(1, SeqCst);
                match window(sent, got, u64::try_from(left).unwrap()) {
                    Some(end) => *field.granted.lock().entry(end).or_default() += 1,
                    None => {
                        field.unclear.fetch_add(1, SeqCst);
                    }
                }
            }
            Some((false, retry, _)) => {
                field.refused.fetch_add(1, SeqCst);
                // As a client does that is told to; one in so many does not.
                let is_patient = random.u8(..10) > 0;
                let pause = if is_patient { retry.clamp(1, 500) } else { 5 };
                sleep(Duration::from_millis(u64::try_from(pause).unwrap())).await;
            }
            None => {
                field.errors.fetch_add(1, SeqCst);
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// What was amiss, and from when until when.
#[derive(Clone, Copy, Debug)]
struct Amiss {
    from: u64,
    until: u64,
    lost_everything: bool,
}

#[derive(Debug)]
struct Outcome {
    granted: BTreeMap<u64, u64>,
    unclear: u64,
    refused: u64,
    errors: u64,
    amiss: Vec<Amiss>,
}

impl Outcome {
    /// Windows in which more was let through than may be.
    fn broken(&self) -> Vec<(u64, u64)> {
        let may = |end: u64| {
            let begin = end - WINDOW_US;
            let lost =
                |amiss: &&Amiss| amiss.lost_everything && amiss.from < end && amiss.until >= begin;
            LIMIT * (1 + self.amiss.iter().filter(lost).count() as u64)
        };
        let broken = self
            .granted
            .iter()
            .filter(|(end, count)| **count > may(**end));
        broken.map(|(end, count)| (*end, *count)).collect()
    }

    /// How many windows were whole and undisturbed, and what was let through in them.
    fn calm(&self) -> (u64, u64) {
        let ends: Vec<u64> = self.granted.keys().copied().collect();
        let (mut windows, mut granted) = (0, 0);
        // The first and the last were not asked for from their beginning to their end.
        for end in &ends[1..ends.len() - 1] {
            let is_amiss = |amiss: &Amiss| amiss.from < *end && amiss.until > end - WINDOW_US;
            if !self.amiss.iter().any(is_amiss) {
                windows += 1;
                granted += self.granted[end];
            }
        }
        (windows, granted)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (windows, granted) = self.calm();
        let all: u64 = self.granted.values().sum();
        write!(
            f,
            "{} windows, {all} granted, {} refused, {} unclear, {} errors; {granted} of {} granted in {windows} undisturbed \
             windows; {} faults; {} windows with too much",
            self.granted.len(),
            self.refused,
            self.unclear,
            self.errors,
            windows * LIMIT,
            self.amiss.len(),
            self.broken().len(),
        )
    }
}

fn daemon(redis: &Redis, env: Vec<(String, String)>) -> Spawned {
    let url = redis.redis_url();
    Spawned::start_with(
        |address| {
            format!(
                "redis.url = {url:?}\nresp.listen = [\"{address}\"]\nresp.threads = 2\n{LIMITS}"
            )
        },
        |command| {
            command.envs(env);
        },
    )
}

/// Daemons that ask these, one each; the last has a clock of its own.
struct World {
    daemons: Vec<Spawned>,
    clock: Clock,
    _folder: Folder,
}

impl World {
    async fn start(redis: [&Redis; DAEMONS]) -> Self {
        let folder = Folder::new().unwrap();
        let clock = Clock::new(&folder);
        let mut daemons = Vec::new();
        for (number, redis) in redis.into_iter().enumerate() {
            let is_last = number == DAEMONS - 1;
            let env = if is_last { clock.env() } else { Vec::new() };
            let mut daemon = daemon(redis, env);
            daemon.notice("READY=1").await;
            daemons.push(daemon);
        }
        Self {
            daemons,
            clock,
            _folder: folder,
        }
    }

    fn ask(&self, field: &Arc<Field>, random: &mut Rng) -> JoinSet<()> {
        let mut clients = JoinSet::new();
        for (number, daemon) in self.daemons.iter().enumerate() {
            for _ in 0..CLIENTS {
                let (field, random) = (Arc::clone(field), random.fork());
                clients.spawn(ask_all_the_time(field, number, daemon.address(), random));
            }
        }
        clients
    }

    /// Waits until every daemon reaches Redis, and what each gives out comes from there.
    async fn until_well(&self, field: &Field) {
        for daemon in &self.daemons {
            let mut client = daemon.client().await;
            eventually(DEADLINE, async || {
                match figure(&mut client, "cachewarden_redis_up", "").await {
                    0 => Err("away"),
                    _ => Ok(()),
                }
            })
            .await;
        }
        let before = field.by_daemon.each_ref().map(|one| one.load(SeqCst));
        eventually(DEADLINE, async || {
            let now = field.by_daemon.each_ref().map(|one| one.load(SeqCst));
            let is_well = now.iter().zip(before).all(|(now, before)| *now > before);
            is_well.then_some(()).ok_or((before, now))
        })
        .await;
    }
}

async fn over(field: &Field, clients: JoinSet<()>, amiss: Vec<Amiss>) -> Outcome {
    field.over.store(true, SeqCst);
    clients.join_all().await;
    Outcome {
        granted: field.granted.lock().clone(),
        unclear: field.unclear.load(SeqCst),
        refused: field.refused.load(SeqCst),
        errors: field.errors.load(SeqCst),
        amiss,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_no_window_of_any_daemon_lets_more_through_than_the_limit() {
    let mut random = Rng::with_seed(seed());
    let mut redis = redis();
    let world = World::start([&redis, &redis, &redis]).await;
    let field = Arc::new(Field::default());
    let clients = world.ask(&field, &mut random);
    let mut amiss = Vec::new();
    let faults = FAULTS * asked("GUARDS_ROUNDS").unwrap_or(1);
    // One of them loses everything; a long storm has more of these.
    let kills_at = random.u64(..FAULTS);
    for fault in 0..faults {
        field.windows(CALM).await;
        world.clock.set([OFFSET_S, -OFFSET_S, 0][random.usize(..3)]);
        // Anywhere in a window.
        sleep(Duration::from_micros(random.u64(..WINDOW_US))).await;
        let from = now();
        let lost_everything = fault % FAULTS == kills_at;
        let mut lost_until = from;
        if lost_everything {
            redis.kill().unwrap();
            lost_until = now();
            redis.start_again().unwrap();
        } else {
            redis.freeze().unwrap();
            sleep(FROZEN).await;
            redis.thaw().unwrap();
        }
        world.until_well(&field).await;
        // What was counted before the loss counts in its window only; what was disturbed by it lasts longer.
        amiss.push(Amiss {
            from,
            until: now(),
            lost_everything: false,
        });
        if lost_everything {
            amiss.push(Amiss {
                from,
                until: lost_until,
                lost_everything,
            });
        }
    }
    field.windows(CALM).await;
    let outcome = over(&field, clients, amiss).await;
    println!("guards: {outcome}");
    assert_eq!(outcome.broken(), [], "{outcome:#?}");
    let (windows, granted) = outcome.calm();
    let is_useful = granted * 100 >= windows * LIMIT * USEFUL_PERCENT;
    assert!(is_useful && outcome.granted.len() >= 20, "{outcome:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn daemons_that_count_in_two_redis_let_too_much_through_and_that_is_found() {
    let (one, other) = (redis(), redis());
    let world = World::start([&one, &one, &other]).await;
    let field = Arc::new(Field::default());
    let clients = world.ask(&field, &mut Rng::with_seed(0));
    field.windows(CALM).await;
    let outcome = over(&field, clients, Vec::new()).await;
    println!("guards: on two Redis: {outcome}");
    assert!(!outcome.broken().is_empty(), "{outcome:#?}");
}
