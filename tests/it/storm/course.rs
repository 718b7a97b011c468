//! The course of a storm: calm, a fault, recovery, and calm again.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use cachewarden::cache::Scripts;
use fastrand::Rng;
use parking_lot::Mutex;
use tokio::sync::RwLock;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::acknowledged;
use super::faults::{FAULTS, Fault, Side};
use super::history::History;
use super::load::{self, Field, Way};
use super::pace::Pace;
use super::tally::{Amiss, Tally};
use super::tell::{self, TELLERS};
use super::world::{self, Audited, World};
use super::writers::{self, WRITERS};
use crate::support::DEADLINE;
use crate::support::eventually::eventually;
use crate::support::world::raw;
use crate::sweeps::fill;

/// Most of what was read through daemons in calm weather was in the cache.
const HIT_RATE: f64 = 0.8;
/// Calm is promised this long after the last fault.
const RECOVERY: Duration = Duration::from_secs(5);
/// Readers of each daemon, and straight from Redis.
const READERS: usize = 8;
const STRAIGHT_READERS: usize = 2;
/// The queue loses all it is told, in the writer's own transaction: on a watched table anybody may have triggers, and one that
/// fires behind ours takes back what ours has queued. Nothing of it is ever seen.
const LOSE: &str = "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN
        DELETE FROM cachewarden.outbox WHERE id IN (SELECT id FROM cachewarden.outbox FOR UPDATE SKIP LOCKED);
        RETURN NULL;
    END';
    CREATE TRIGGER lose AFTER UPDATE ON items FOR EACH STATEMENT EXECUTE FUNCTION lose();
    CREATE TRIGGER lose AFTER UPDATE ON lists FOR EACH STATEMENT EXECUTE FUNCTION lose()";

/// What is done, and what is switched off.
pub struct Plan {
    pub seed: u64,
    /// Happen one after the other.
    pub faults: Vec<Fault>,
    /// Then others are drawn from these, until it has lasted so long.
    pub drawn: Vec<Fault>,
    pub lasts: Duration,
    /// The shortest and the longest that one fault lasts.
    pub shortest_fault: Duration,
    pub longest_fault: Duration,
    /// Changes made before each fault, and after the last.
    pub calm_writes: u64,
    /// Those of daemons in this process; else they are processes of their own, and can be killed.
    pub scripts: Option<fn() -> Scripts>,
    /// Else every row of the queue is lost, and all looks well.
    pub is_queue_kept: bool,
    /// Daemons keep values in their own memory, too.
    pub is_l1: bool,
    /// Keys of other programs in the same Redis: every sweep has to pass them.
    pub others: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 0,
            faults: Vec::new(),
            drawn: FAULTS.to_vec(),
            lasts: Duration::ZERO,
            // Over before anybody has noticed.
            shortest_fault: Duration::from_millis(100),
            // Longer than the bound: who is silent then is found out.
            longest_fault: Duration::from_secs(2),
            calm_writes: 100,
            scripts: None,
            is_queue_kept: true,
            is_l1: false,
            others: 0,
        }
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    pub tally: Tally,
    pub pace: Pace,
    pub faults: u32,
    /// Changes that were published, and acknowledged.
    pub told: u64,
    /// Changes made in calm weather, and how long it was calm.
    pub calm_writes: u64,
    pub calm: Duration,
    /// From the end of a fault until it was calm.
    pub longest_recovery: Duration,
    /// How late this machine was with a plain timer.
    pub late: Duration,
    /// What the daemons' own auditors found meanwhile.
    pub audited: Audited,
    /// What Redis holds or a daemon answers when all is over, and is not what the database says.
    pub wrong_at_rest: Vec<String>,
}

impl Outcome {
    /// No read broke a promise, nothing is wrong at rest, and no auditor has found anything.
    pub fn is_true(&self) -> bool {
        self.tally.stale() == 0 && self.audited.inconsistent == 0 && self.wrong_at_rest.is_empty()
    }

    /// And it is worth it: most reads are hits, writers are not held up, and auditors have looked.
    pub fn is_of_use(&self) -> bool {
        self.tally.hit_rate() >= HIT_RATE
            && self.pace.is_free()
            && self.audited.checked > 0
            && self.told > 0
    }

    /// In calm weather.
    pub fn writes_a_second(&self) -> f64 {
        self.calm_writes as f64 / self.calm.as_secs_f64()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tally, .. } = self;
        let (watched, unwatched) = self.pace.medians();
        write!(
            f,
            "{} reads in {:.1?} of calm, hit rate {:.1} % ({} in memory), {:.0} writes/s of {watched:.1?} \
             and {unwatched:.1?} unwatched, {} published, worst staleness {:.0?}, refused {:?}; \
             {} faults, {} reads meanwhile, {} refused, worst silent staleness {:.0?}, {} marked, {} of them outdated beyond the bound; \
             {} outdated beyond the bound, {} outdated and acknowledged; longest recovery {:.0?}; \
             machine late by {:.0?}; audited {}, {} of them inconsistent; {} wrong at rest",
            tally.reads,
            self.calm,
            100.0 * tally.hit_rate(),
            tally.memory,
            self.writes_a_second(),
            self.told,
            tally.worst,
            tally.errors,
            self.faults,
            tally.rough_reads,
            tally.rough_errors,
            tally.rough_worst,
            tally.marked,
            tally.said,
            tally.late,
            tally.revived,
            self.longest_recovery,
            self.late,
            self.audited.checked,
            self.audited.inconsistent,
            self.wrong_at_rest.len(),
        )
    }
}

/// Runs a plan.
pub async fn storm(plan: Plan) -> Outcome {
    let mut world = World::start(plan.scripts, plan.is_l1).await;
    if !plan.is_queue_kept {
        world.session().await.batch_execute(LOSE).await.unwrap();
    }
    fill(&mut raw(&world.redis).await, "others:", plan.others).await;
    world.recovered().await;
    let field = Arc::new(Field {
        history: History::new(),
        daemons: Mutex::new(world.addresses()),
        redis: world.redis.socket(),
        postgres: world.database.clone(),
        is_l1: plan.is_l1,
        weather: 0.into(),
        amiss: Mutex::new(Amiss {
            faults: String::new(),
            is_earlier: false,
        }),
        broken: 0.into(),
        reads: 0.into(),
        writes: 0.into(),
        over: false.into(),
        telling: RwLock::default(),
    });
    let mut random = Rng::with_seed(plan.seed);
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        writers.spawn(writers::write(Arc::clone(&field), number, random.fork()));
    }
    let mut tellers = JoinSet::new();
    for number in 0..TELLERS {
        tellers.spawn(tell::tell(Arc::clone(&field), number, random.fork()));
    }
    let mut readers = JoinSet::new();
    let ways = [
        (Way::Daemon(0), READERS),
        (Way::Daemon(1), READERS),
        (Way::Straight, STRAIGHT_READERS),
    ];
    for (way, count) in ways {
        for _ in 0..count {
            readers.spawn(load::read(Arc::clone(&field), way, random.fork()));
        }
    }
    let acknowledging = tokio::spawn(acknowledged::watch(Arc::clone(&field)));
    let over = Arc::clone(&field);
    let late = tokio::spawn(world::late(move || over.over.load(SeqCst)));

    let mut outcome = Outcome::default();
    outcome.pass(plan, random, &field, &mut world).await;
    field.over.store(true, SeqCst);
    let paces = writers.join_all().await;
    outcome.pace = paces.into_iter().fold(Pace::default(), Pace::plus);
    outcome.told = tellers.join_all().await.into_iter().sum();
    let tallies = readers.join_all().await;
    outcome.tally = tallies.into_iter().fold(Tally::default(), Tally::plus);
    acknowledging.await.unwrap();
    outcome.late = late.await.unwrap();
    outcome.audited = world.audited().await;
    outcome.wrong_at_rest = world.wrong_at_rest(&field.history).await;
    world.stop().await;
    outcome
}

impl Outcome {
    async fn pass(&mut self, plan: Plan, mut random: Rng, field: &Field, world: &mut World) {
        let begun = Instant::now();
        let mut planned = VecDeque::from(plan.faults);
        self.calm(field, plan.calm_writes).await;
        loop {
            let mut faults = match planned.pop_front() {
                Some(fault) => vec![fault],
                None if begun.elapsed() < plan.lasts => vec![draw(&plan.drawn, &mut random)],
                None => return,
            };
            // Every second one comes with another.
            if random.bool() {
                let other = |other: &mut Fault| other.side() != faults[0].side();
                let drawn = Some(draw(&plan.drawn, &mut random)).filter(|_| planned.is_empty());
                let with = planned.pop_front_if(other).or(drawn);
                faults.extend(with.filter(|with| with.side() != faults[0].side()));
            }
            let range = plan.longest_fault.saturating_sub(plan.shortest_fault);
            let lasts = plan.shortest_fault + range.mul_f64(random.f64());
            self.break_down(field, &mut faults, lasts, world).await;
            self.calm(field, plan.calm_writes).await;
        }
    }

    /// Lets writers make so many changes, which no machine is too slow for.
    async fn calm(&mut self, field: &Field, writes: u64) {
        let begun = Instant::now();
        let before = field.writes.load(SeqCst);
        eventually(3 * DEADLINE, async || {
            let made = field.writes.load(SeqCst) - before;
            (made >= writes).then_some(()).ok_or(made)
        })
        .await;
        self.calm += begun.elapsed();
        self.calm_writes += field.writes.load(SeqCst) - before;
    }

    async fn break_down(
        &mut self,
        field: &Field,
        faults: &mut [Fault],
        lasts: Duration,
        world: &mut World,
    ) {
        let broken = field.broken.load(SeqCst);
        let is_earlier = faults.contains(&Fault::RedisFromSnapshot);
        // What a daemon has acknowledged and not noted yet when it dies, or stands still, is lost with such a Redis, and that
        // is known. So nothing is published meanwhile, and what was is in the snapshot.
        let is_forgetful = is_earlier && faults.iter().any(|fault| fault.side() == Side::Daemon);
        let silence = match is_forgetful {
            true => Some(field.telling.write().await),
            false => None,
        };
        *field.amiss.lock() = Amiss {
            faults: format!("{faults:?}"),
            is_earlier,
        };
        field.weather.fetch_add(1, SeqCst);
        // A daemon is the last to come back: it is not started before its servers are.
        faults.sort_by_key(|fault| fault.side() == Side::Daemon);
        for fault in faults.iter() {
            fault.begin(world).await;
        }
        *field.daemons.lock() = world.addresses();
        sleep(lasts).await;
        for fault in faults.iter() {
            fault.end(world).await;
        }
        *field.daemons.lock() = world.addresses();
        drop(silence);
        let healed = Instant::now();
        let recovered = timeout(RECOVERY, world.recovered()).await;
        let took = healed.elapsed();
        let broken = field.broken.load(SeqCst) - broken;
        tell(&format!(
            "{faults:?} for {lasts:.0?}, calm after {took:.0?}, {broken} promises broken"
        ));
        if recovered.is_err() {
            tell("not all was well by then, and it counts all the same");
        }
        self.longest_recovery = self.longest_recovery.max(took);
        self.faults += 1;
        field.weather.fetch_add(1, SeqCst);
    }
}

fn draw(from: &[Fault], random: &mut Rng) -> Fault {
    from[random.usize(..from.len())]
}

#[allow(
    clippy::print_stdout,
    reason = "the course of a storm is told as it goes"
)]
fn tell(what: &str) {
    println!("storm: {what}");
}
