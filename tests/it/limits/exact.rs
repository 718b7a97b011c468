//! The script on a real Redis, told what time it is, against counters of whole numbers in Rust, step by step; and against what
//! each algorithm promises.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cachewarden::cli::demo::servers::Redis;
use cachewarden::config::{Algorithm, Config, Limit, OnRedisError};
use cachewarden::rate_limit::{
    Ask, Asked, Claim, Counter, Kind, Request, Rule, Rules, Scripts, Served, Verb, Verdict,
};
use cachewarden::store::Store;
use cachewarden::telemetry::Metrics;
use fastrand::Rng;

use super::super::support::DEADLINE;
use super::super::support::daemon::config_without_postgres;
use super::super::support::resp::Value;
use super::super::support::servers::redis;
use super::super::support::world::raw;

/// Takes the time of each request from behind the arguments.
const CLOCK: &str = "
    local told = 0
    local function clock()
      told = told + 1
      return tonumber(ARGV[#ARGV - ARGV[1] + told])
    end
";

/// Sequences in all, and requests of each.
const SEQUENCES: u64 = 10_000;
const STEPS: usize = 24;

/// A moment of the year 2026, in microseconds.
const NOW: u64 = 1_780_000_000_000_000;

/// What was let through: when, how much, and by which name.
type Log = Vec<(u64, u64, Option<Bytes>)>;

/// One sequence: what is asked, when, and what has to come of it.
struct Life {
    rng: Rng,
    now: u64,
    limits: Vec<Limit>,
    counters: Vec<Counter>,
    logs: Vec<Log>,
    /// Whether something was given back or declared anew, so that the log says too much.
    gave_back: bool,
    requests: Vec<Request>,
    times: Vec<String>,
    wanted: Vec<Served>,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let count = if seed.is_multiple_of(4) {
            rng.usize(2..=3)
        } else {
            1
        };
        let limits: Vec<Limit> = (0..count)
            .map(|place| limit(&mut rng, place, seed))
            .collect();
        let kinds = limits.iter().map(kind);
        Self {
            now: NOW + rng.u64(0..1_000_000_000_000),
            counters: kinds.map(Counter::new).collect(),
            logs: vec![Vec::new(); count],
            limits,
            rng,
            gave_back: false,
            requests: Vec::new(),
            times: Vec::new(),
            wanted: Vec::new(),
        }
    }

    /// Writes the whole of it down.
    fn live(mut self, seed: u64) -> Self {
        let metrics = Metrics::new();
        let mut rules = Rules::of(&self.limits, &metrics);
        // Some give nothing back, and nothing changes: their logs can be held against what is promised.
        let gives_back = (seed / 4).is_multiple_of(2);
        while self.requests.len() < STEPS {
            match self.rng.u8(..40) {
                0 if gives_back => {
                    self.declare_anew(seed);
                    rules = Rules::of(&self.limits, &metrics);
                }
                1 if gives_back => self.set_the_clock_back(),
                _ => {}
            }
            let verdicts = self.step(&rules, gives_back, seed);
            let retry = verdicts.iter().find(|verdict| !verdict.fits);
            match retry.and_then(|verdict| verdict.retry_after) {
                Some(retry) if self.rng.bool() && verdicts.len() == 1 => self.retry(retry),
                _ => self.now += self.pause(),
            }
        }
        self
    }

    /// Another rate, window and burst; the same algorithm.
    fn declare_anew(&mut self, seed: u64) {
        let place = self.rng.usize(..self.limits.len());
        self.limits[place] = limit(&mut self.rng, place, seed);
        self.gave_back = true;
    }

    fn set_the_clock_back(&mut self) {
        let span = span(&self.limits[0]);
        self.now -= self.rng.u64(0..=2 * span);
        self.gave_back = true;
    }

    /// Refused: a microsecond before its time is over it still is, and then no more.
    fn retry(&mut self, retry: Duration) {
        let last = self.requests.last().unwrap();
        if !last.verb.decides() {
            return;
        }
        let asked = |verb: Verb| Request {
            verb,
            ..last.clone()
        };
        let (peek, take) = (asked(Verb::Peek), asked(Verb::Take));
        let retry = u64::try_from(retry.as_micros()).unwrap();
        self.now += retry - 1;
        let early = self.ask(peek);
        assert!(!early[0].fits, "before its time is over");
        self.now += 1;
        let then = self.ask(take);
        assert!(then[0].fits, "after {retry} us");
    }

    fn step(&mut self, rules: &Rules, gives_back: bool, seed: u64) -> Vec<Verdict> {
        let subject = Bytes::from(format!("subject {seed}"));
        let place = self.rng.usize(..self.limits.len());
        let one = self.limits[place].clone();
        let in_flight = self
            .limits
            .iter()
            .any(|limit| kind(limit) == Kind::InFlight);
        let cost = match self.rng.u8(..10) {
            _ if in_flight => 1,
            0 => self.limits[place].limit,
            1 => self.limits[place].limit + 1,
            2..4 => self.rng.u64(1..=self.limits[place].limit),
            _ => self.rng.u64(1..=3),
        };
        let id = Bytes::from(self.rng.u8(..12).to_string());
        let name = Bytes::from(one.name.clone());
        let amount = self.rng.u64(1..=one.limit);
        let give_back = |verb, amount, id| {
            rules
                .give_back(verb, &name, subject.clone(), amount, id)
                .unwrap()
        };
        let request = match self.rng.u8(..20) {
            0..3 if gives_back && kind(&one) == Kind::InFlight => {
                give_back(Verb::Release, 1, Some(id))
            }
            0..2 if gives_back => give_back(Verb::Refund, amount, None),
            2 if gives_back => give_back(Verb::Reset, 1, None),
            roll => {
                let names: Vec<&str> = self.limits.iter().map(|limit| &*limit.name).collect();
                let asked = Asked {
                    limits: Bytes::from(names.join(",")),
                    subject: subject.clone(),
                    cost,
                    id: in_flight.then_some(id),
                    ask: if roll < 6 { Ask::Peek } else { Ask::Take },
                };
                rules.check(asked).unwrap()
            }
        };
        self.ask(request)
    }

    /// Notes a request, and what has to be answered.
    fn ask(&mut self, request: Request) -> Vec<Verdict> {
        let claim = Claim {
            now: self.now,
            cost: request.cost,
            id: request.id.as_ref(),
        };
        let mut verdicts = Vec::new();
        let wanted = if request.verb.decides() {
            verdicts = self.check(&request, claim);
            Served::Verdicts(verdicts.clone())
        } else {
            self.gave_back = true;
            Served::Given(self.give_back(&request, claim))
        };
        self.requests.push(request);
        self.times.push(self.now.to_string());
        self.wanted.push(wanted);
        verdicts
    }

    fn place(&self, rule: &Rule) -> usize {
        let mut limits = self.limits.iter();
        limits
            .position(|limit| limit.name == rule.policy.name)
            .unwrap()
    }

    fn check(&mut self, request: &Request, claim: Claim<'_>) -> Vec<Verdict> {
        let mut seen = Vec::new();
        for rule in &request.rules {
            let place = self.place(rule);
            let counter = self.counters[place].at(self.now, &rule.numbers);
            let fits = counter.fits(claim, &rule.numbers);
            seen.push((Arc::clone(rule), place, counter, fits));
        }
        let refused = seen.iter().any(|(rule, _, _, fits)| !rule.shadow && !fits);
        let takes = request.verb == Verb::Take && !refused;
        let verdict = |(rule, place, mut counter, fits): (Arc<Rule>, usize, Counter, bool)| {
            if takes && fits {
                counter.take(claim, &rule.numbers);
                self.logs[place].push((claim.now, claim.cost, claim.id.cloned()));
                self.counters[place] = counter.clone();
            }
            counter.verdict(claim, &rule.numbers, fits)
        };
        seen.into_iter().map(verdict).collect()
    }

    fn give_back(&mut self, request: &Request, claim: Claim<'_>) -> u64 {
        let rule = Arc::clone(&request.rules[0]);
        let place = self.place(&rule);
        let counter = &mut self.counters[place];
        if request.verb == Verb::Reset {
            // What Redis still keeps, it may be over: it is removed, and that is told.
            let was = std::mem::replace(counter, Counter::new(rule.numbers.kind));
            return u64::from(was != *counter && was != Counter::InFlight { deadlines: vec![] });
        }
        let mut current = counter.at(self.now, &rule.numbers);
        let given = match request.verb {
            Verb::Refund => current.refund(claim, &rule.numbers),
            _ => u64::from(current.release(claim.id.unwrap())),
        };
        if request.verb == Verb::Refund && given > 0 {
            *counter = current;
        } else if request.verb == Verb::Release {
            // What is over stays in Redis until the next one is let in.
            let _was_it = counter.release(claim.id.unwrap());
        }
        given
    }

    /// How long until the next request: nothing, next to nothing, as long as a unit takes, to the end of a window and about it,
    /// several windows.
    fn pause(&mut self) -> u64 {
        let place = self.rng.usize(..self.limits.len());
        let limit = &self.limits[place];
        let span = span(limit);
        let left = span - self.now % span;
        match self.rng.u8(..10) {
            0..3 => 0,
            3 => 1,
            4 => span / limit.limit,
            5 => self.rng.u64(0..=2 * span / limit.limit),
            6 => left,
            7 => left - 1,
            8 => self.rng.u64(0..=span),
            _ => self.rng.u64(0..=3 * span),
        }
    }

    /// What the algorithms promise, whatever they count by.
    fn keeps_its_promises(&self) {
        if self.gave_back {
            return;
        }
        for (limit, log) in self.limits.iter().zip(&self.logs) {
            match limit.algorithm {
                _ if limit.shadow => {}
                Algorithm::FixedWindow { .. } => fixed_promise(limit, log),
                Algorithm::SlidingWindow { .. } => sliding_promise(limit, log),
                Algorithm::TokenBucket { burst, .. } => bucket_promise(limit, burst, log),
                Algorithm::Concurrency { .. } => in_flight_promise(limit, log),
            }
        }
    }
}

fn limit(rng: &mut Rng, place: usize, seed: u64) -> Limit {
    // Windows of whole and of crooked length, so that what a unit takes is rarely whole; up to a year.
    let micros = match rng.u8(..4) {
        0 => 1_000 * rng.u64(1..100),
        1 => rng.u64(1_000..100_000),
        2 => 1_000_000 * rng.u64(1..4_000),
        _ => rng.u64(1_000_000..=31_536_000_000_000),
    };
    let window = Duration::from_micros(micros);
    let limit = match rng.u8(..8) {
        0..6 => rng.u64(1..=12),
        6 => rng.u64(1..=1_000),
        _ => rng.u64(1..=1_000_000_000),
    };
    let algorithm = match (seed + place as u64) % 4 {
        0 => Algorithm::FixedWindow { window },
        1 => Algorithm::SlidingWindow { window },
        2 => Algorithm::TokenBucket {
            window,
            burst: rng.u64(1..=limit),
        },
        _ => Algorithm::Concurrency { lease: window },
    };
    Limit {
        name: format!("l{place}"),
        limit: match algorithm {
            Algorithm::Concurrency { .. } => limit.min(12),
            _ => limit,
        },
        algorithm,
        on_redis_error: OnRedisError::Allow,
        shadow: rng.u8(..8) == 0,
    }
}

fn kind(limit: &Limit) -> Kind {
    match limit.algorithm {
        Algorithm::FixedWindow { .. } => Kind::Fixed,
        Algorithm::SlidingWindow { .. } => Kind::Sliding,
        Algorithm::TokenBucket { .. } => Kind::Bucket,
        Algorithm::Concurrency { .. } => Kind::InFlight,
    }
}

fn span(limit: &Limit) -> u64 {
    let span = match limit.algorithm {
        Algorithm::Concurrency { lease } => lease,
        _ => limit.window().unwrap(),
    };
    u64::try_from(span.as_micros()).unwrap()
}

fn sum<'a>(log: impl Iterator<Item = &'a (u64, u64, Option<Bytes>)>) -> u128 {
    log.map(|(_, cost, _)| u128::from(*cost)).sum()
}

/// No more than the limit in any aligned window.
fn fixed_promise(limit: &Limit, log: &Log) {
    let mut windows = HashMap::<u64, u64>::new();
    for (at, cost, _) in log {
        *windows.entry(at / span(limit)).or_default() += cost;
    }
    assert!(windows.values().all(|count| *count <= limit.limit));
}

/// In a window that ends `into` the present aligned one no more than limit + before * into / span.
fn sliding_promise(limit: &Limit, log: &Log) {
    let span = span(limit);
    for (end, ..) in log {
        let into = end % span;
        let start = end - into;
        let within = log.iter().filter(|(at, ..)| at <= end && at + span > *end);
        let before = log
            .iter()
            .filter(|(at, ..)| *at < start && at + span >= start);
        let span = u128::from(span);
        let most = span * u128::from(limit.limit) + sum(before) * u128::from(into);
        assert!(sum(within) * span <= most);
    }
}

/// In any stretch of time no more than the burst, and what came in meanwhile.
fn bucket_promise(limit: &Limit, burst: u64, log: &Log) {
    let span = u128::from(span(limit));
    for (first, (from, ..)) in log.iter().enumerate() {
        for (last, (to, ..)) in log.iter().enumerate().skip(first) {
            let came_in = u128::from(to - from) * u128::from(limit.limit);
            let most = u128::from(burst) * span + came_in;
            assert!(sum(log[first..=last].iter()) * span <= most);
        }
    }
}

/// No more than the limit in flight at any time.
fn in_flight_promise(limit: &Limit, log: &Log) {
    for (now, ..) in log {
        let live = log
            .iter()
            .filter(|(at, ..)| at <= now && at + span(limit) > *now);
        let ids: std::collections::HashSet<_> = live.map(|(_, _, id)| id).collect();
        assert!(ids.len() as u64 <= limit.limit);
    }
}

/// A connection to this Redis.
async fn connected(redis: &Redis) -> Store {
    let config = Config::from_toml(&config_without_postgres(&redis.redis_url(), "")).unwrap();
    let store = Store::siblings(&config.redis, 1).unwrap().remove(0);
    actix_rt::spawn(store.clone().keep());
    let mut up = store.up();
    let up = tokio::time::timeout(DEADLINE, up.wait_for(|up| *up)).await;
    up.unwrap().unwrap();
    store
}

/// Windows of different lengths that begin together have one counter: the key says no more.
#[actix_rt::test]
async fn a_counter_lives_until_the_longest_window_that_counts_in_it_is_over() {
    let redis = redis();
    let (store, mut raw) = (connected(&redis).await, raw(&redis).await);
    let scripts = Scripts::with_clock(CLOCK);
    let hour = NOW / 3_600_000_000 * 3_600_000_000;
    for seconds in [3600, 60] {
        let (window, metrics) = (Duration::from_secs(seconds), Metrics::new());
        let rule = Rule::fixed(100, window, OnRedisError::Allow, &metrics).unwrap();
        let request = Request::alone(rule, Bytes::from_static(b"ann"), 1).unwrap();
        let (requests, times) = ([&request], [hour.to_string()]);
        scripts.serve(&store, &requests, &times).await.unwrap();
    }
    let key = format!("ratelimit:ann:{}", hour / 1_000_000);
    assert_eq!(raw.command(&["GET", &key]).await, Value::bulk("2"));
    let Value::Int(life_ms) = raw.command(&["PTTL", &key]).await else {
        panic!("PTTL gave no number")
    };
    assert!(life_ms > 60_000, "{life_ms}");
}

#[actix_rt::test]
async fn the_script_answers_what_exact_counters_answer() {
    let redis = redis();
    let store = connected(&redis).await;
    let scripts = Scripts::with_clock(CLOCK);
    let first = fastrand::u64(..1 << 48);
    let (mut refused, mut asked) = (0, 0);
    for seed in first..first + SEQUENCES {
        let life = Life::new(seed).live(seed);
        let requests: Vec<&Request> = life.requests.iter().collect();
        let served = scripts.serve(&store, &requests, &life.times).await;
        let served = served.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        for (place, (found, wanted)) in served.iter().zip(&life.wanted).enumerate() {
            let told = || format!("seed {seed}, step {place}: {:#?}", life.requests[place]);
            assert_eq!(found, wanted, "{}", told());
            if let Served::Verdicts(verdicts) = found {
                asked += verdicts.len();
                refused += verdicts.iter().filter(|verdict| !verdict.fits).count();
            }
        }
        assert_eq!(served.len(), life.wanted.len());
        life.keeps_its_promises();
    }
    // Control: both answers were given, often.
    assert!(
        refused > asked / 20 && refused < asked * 19 / 20,
        "{refused} of {asked}"
    );
    println!("{SEQUENCES} sequences, {asked} verdicts, {refused} of them refusals");
}
