//! Eight clients each of three daemons want a hundred a window. One of the daemons has a time of day of its own.

mod granted;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use cachewarden::cli::demo::servers::Folder;
use fastrand::Rng;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::pair::Pair;
use super::{asked, seed};
use crate::clocks::Clock;
use crate::support::DEADLINE;
use crate::support::daemon::Spawned;
use crate::support::eventually::eventually;
use crate::support::fleet::until_acquainted;
use crate::support::servers::redis;
use crate::support::world::figure;
use granted::{Amiss, Field, Outcome, ask, now};

const LIMIT: u64 = 100;
const WINDOW_US: u64 = 500_000;
const DAEMONS: usize = 3;
const CLIENTS: usize = 8;
/// Windows that pass between two faults, and after the last.
const CALM: usize = 4;
/// For Redis' answers.
const TIMEOUT_MS: u64 = 100;
const OFFSET_S: i64 = 5;
/// Of what is declared, so much is given out where nothing is amiss.
const USEFUL_PERCENT: u64 = 95;

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Redis stands still.
    Frozen,
    /// Killed, and back empty.
    Killed,
    /// The other Redis leads from now on, and knows nothing of the last moments.
    FailedOver,
}

const FAULTS: [Fault; 5] = [
    Fault::Frozen,
    Fault::Frozen,
    Fault::Frozen,
    Fault::Killed,
    Fault::FailedOver,
];

/// What daemons answer while Redis is away, and how long it is.
#[derive(Clone, Copy)]
struct Mode {
    name: &'static str,
    frozen: Duration,
}

const DENY: Mode = Mode {
    name: "deny",
    frozen: Duration::from_millis(300),
};

impl Mode {
    fn is_local(self) -> bool {
        self.name == LOCAL.name
    }
}

/// Long enough for windows in which nobody reaches Redis.
const LOCAL: Mode = Mode {
    name: "local",
    frozen: Duration::from_millis(2000),
};

fn daemon(redis: SocketAddr, mode: Mode, env: Vec<(String, String)>) -> Spawned {
    let name = mode.name;
    Spawned::start_with(
        |address| {
            format!(
                r#"
                redis.url = "redis://{redis}"
                redis.timeout = "{TIMEOUT_MS}ms"
                resp.listen = ["{address}"]
                resp.threads = 2
                [limits.api]
                algorithm = "fixed_window"
                limit = {LIMIT}
                window = "500ms"
                on_redis_error = "{name}"
                "#
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
    async fn start(redis: [SocketAddr; DAEMONS], mode: Mode) -> Self {
        let folder = Folder::new().unwrap();
        let clock = Clock::new(&folder);
        let mut daemons = Vec::new();
        for (number, redis) in redis.into_iter().enumerate() {
            let is_last = number == DAEMONS - 1;
            let env = if is_last { clock.env() } else { Vec::new() };
            let mut daemon = daemon(redis, mode, env);
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
                clients.spawn(ask(field, number, daemon.address(), random));
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

impl Fault {
    /// Breaks Redis, and waits until all is well again.
    async fn happen(self, mode: Mode, redis: &mut Pair, world: &World, field: &Field) -> Amiss {
        let mut behind = Duration::ZERO;
        if let Fault::FailedOver = self {
            redis.follow().await;
            redis.part().await;
            behind = Duration::from_micros(WINDOW_US / 2);
        }
        sleep(behind).await;
        let from = now();
        match self {
            Fault::Frozen => {
                redis.leader().freeze().unwrap();
                sleep(mode.frozen).await;
                redis.leader().thaw().unwrap();
            }
            Fault::Killed => redis.leader().kill().unwrap(),
            Fault::FailedOver => redis.switch(),
        }
        let lost = (!matches!(self, Fault::Frozen)).then(now);
        if let Fault::Killed = self {
            redis.leader().start_again().unwrap();
        }
        let back = now();
        world.until_well(field).await;
        Amiss {
            from,
            back,
            // What was asked before waits no longer.
            well: now() + 1000 * TIMEOUT_MS,
            lost,
        }
    }
}

async fn over(field: &Field, clients: JoinSet<()>, amiss: Vec<Amiss>, is_local: bool) -> Outcome {
    field.end();
    clients.join_all().await;
    Outcome::new(field, amiss, is_local)
}

async fn storm(mode: Mode) -> Outcome {
    let mut random = Rng::with_seed(seed());
    let mut redis = Pair::start(Vec::new()).await;
    let world = World::start([redis.address(); DAEMONS], mode).await;
    if mode.is_local() {
        until_acquainted(&mut redis.raw().await, DAEMONS).await;
    }
    let field = Arc::new(Field::default());
    let clients = world.ask(&field, &mut random);
    let rounds = asked("GUARDS_ROUNDS").unwrap_or(1);
    let mut faults = FAULTS.repeat(usize::try_from(rounds).unwrap());
    random.shuffle(&mut faults);
    let mut amiss = Vec::new();
    for fault in faults {
        field.windows(CALM).await;
        world.clock.set([OFFSET_S, -OFFSET_S, 0][random.usize(..3)]);
        // Anywhere in a window.
        sleep(Duration::from_micros(random.u64(..WINDOW_US))).await;
        let happened = fault.happen(mode, &mut redis, &world, &field).await;
        super::tell(&format!("{fault:?}: {happened:?}"));
        amiss.push(happened);
    }
    field.windows(CALM).await;
    let outcome = over(&field, clients, amiss, mode.is_local()).await;
    super::tell(&format!("{}: {outcome}", mode.name));
    assert_eq!(outcome.broken(), [], "{outcome:#?}");
    let (windows, granted) = outcome.calm();
    let is_useful = granted * 100 >= windows * LIMIT * USEFUL_PERCENT;
    assert!(is_useful && outcome.granted.len() >= 20, "{outcome:#?}");
    outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_no_window_of_any_daemon_lets_more_through_than_the_limit() {
    storm(DENY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn daemons_that_let_their_shares_through_without_redis_stay_within_the_limit_together() {
    let outcome = storm(LOCAL).await;
    let (windows, granted) = outcome.alone();
    let is_useful = windows > 0 && granted * 2 >= windows * LIMIT;
    assert!(is_useful, "{outcome:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn daemons_that_count_in_two_redis_let_too_much_through_and_that_is_found() {
    let (one, other) = (redis(), redis());
    let [one, other] = [&one, &other].map(|redis| SocketAddr::from(([127, 0, 0, 1], redis.port())));
    let world = World::start([one, one, other], DENY).await;
    let field = Arc::new(Field::default());
    let clients = world.ask(&field, &mut Rng::with_seed(0));
    field.windows(CALM).await;
    let outcome = over(&field, clients, Vec::new(), false).await;
    super::tell(&format!("on two Redis: {outcome}"));
    assert!(!outcome.broken().is_empty(), "{outcome:#?}");
}
