//! Every metric's name, kind and help in one table, and the counters behind them.
//!
//! One registry a daemon, not one a process: tests run several daemons side by side.

use super::audited::Audited;
use super::journaled::Journaled;
use super::limited::{LimitMetrics, Limited};
use super::locked::Locked;
use super::timings::{Stopwatch, Timings};
use super::warmed::Warmed;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric as Registrable, Registry};
use std::sync::atomic::AtomicU64;

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name as it is exposed, `_total` included.
    pub name: &'static str,
    /// What it counts, and in what.
    pub help: &'static str,
}

macro_rules! table {
    ($($place:ident: $name:literal, $help:literal;)*) => {
        /// Every metric this version has.
        pub const METRICS: &[Metric] = &[$(Metric { name: $name, help: $help }),*];
        struct Names;
        #[allow(non_upper_case_globals, reason = "the names of the fields they belong to")]
        impl Names { $(const $place: Metric = Metric { name: $name, help: $help };)* }
    };
}

table! {
    reads: "cachewarden_reads_total", "Keys read through the daemon, by where the answer came from";
    read_seconds: "cachewarden_read_seconds", "Time until a read is answered; of one read of those that are looked up together";
    loads: "cachewarden_loads_total", "Keys loaded, by result";
    load_seconds: "cachewarden_load_seconds", "Time that a load takes, of all keys of a cache that are loaded together";
    load_batch_keys: "cachewarden_load_batch_keys", "Keys of a cache that are loaded together";
    fills: "cachewarden_fills_total", "Loaded values filled into Redis, or refused because their lease was gone";
    flights_joined: "cachewarden_flights_joined_total", "Reads that joined a load already under way";
    invalidations: "cachewarden_invalidations_total", "Invalidations, by source and kind";
    doubted_hits: "cachewarden_doubted_hits_total", "Hits that an announced sweep was about to remove: invalidated and loaded anew";
    sweeps_pending: "cachewarden_sweeps_pending", "Patterns that wait for a sweep, or are being swept";
    sweep_passes: "cachewarden_sweep_passes_total", "Passes through all keys of Redis, by result";
    swept_keys: "cachewarden_swept_keys_total", "Keys removed by sweeps";
    indexed_sweeps: "cachewarden_indexed_sweeps_total", "Patterns that an index of keys was asked for: swept by it, or by a pass because it was not whole";
    indexes_built: "cachewarden_indexes_built_total", "Indexes of keys that a pass has built";
    subscriber_deaf: "cachewarden_subscriber_deaf_seconds_total", "Time in which published invalidations could not be heard";
    invalidation_seconds: "cachewarden_invalidation_seconds", "Time from a change to its acknowledged invalidation, by where it was told";
    outbox_rows: "cachewarden_outbox_rows", "Changes queued in the database, claimed ones included";
    outbox_lag: "cachewarden_outbox_lag_seconds", "Time for which the oldest of them has been waiting";
    outbox_whole_rows: "cachewarden_outbox_whole_rows_total", "Queued changes that were taken as invalidations of everything under their prefixes";
    watch_flaws: "cachewarden_watch_flaws", "What is wrong with the triggers of the watched tables, or stands against them, as of the last look";
    journal_rows: "cachewarden_journal_rows", "Writes that were acknowledged and are not in Postgres yet";
    journal_lag: "cachewarden_journal_lag_seconds", "Time for which the oldest of them has been waiting, as the daemon sees it that saves them";
    journal_writes: "cachewarden_journal_writes_total", "Writes of the journal by what became of them, as this daemon has found: saved, superseded by a newer one of their key, repeated because they were saved before, dead";
    dead_writes: "cachewarden_dead_writes", "Writes that were acknowledged and cannot be saved, put aside for people to look at, as the daemon sees it that saves";
    dead_rows: "cachewarden_dead_rows", "Changes put aside because they name what cannot be invalidated, for people to look at";
    doorbell_up: "cachewarden_doorbell_up", "1 while the database is proven to ring when something is queued; 0 while not, when the queue is polled, or without `notify`";
    doorbell_rings: "cachewarden_doorbell_rings_total", "Times that the database rang, our own tries included";
    doorbell_queue: "cachewarden_doorbell_queue_ratio", "The part of the server's queue of notifications that is taken, as of the last try: when it is full, commits that ring fail";
    redis_met: "cachewarden_redis_met_total", "Times that a Redis was met anew, by what was found in it";
    barrier_up: "cachewarden_barrier_up", "1 while watched caches are read from the database, until it is caught up with";
    proof_age: "cachewarden_proof_age_seconds", "Time since watched caches were last proven to be fresh";
    notes_waiting: "cachewarden_notes_waiting", "Keys and patterns that were invalidated and are not noted in the database yet";
    messages_refused: "cachewarden_messages_refused_total", "Published messages that were refused as a whole or in part, by reason";
    audit_checked: "cachewarden_audit_checked_total", "Cached values that the auditor has compared with the database";
    audit_inconsistent: "cachewarden_audit_inconsistent_total", "Of them, values that were wrong though a watched table should have invalidated them";
    audit_drift: "cachewarden_audit_drift_total", "Of them, values that were wrong where no watched table tells";
    audit_undecided: "cachewarden_audit_undecided_total", "Cached values that the auditor could not judge";
    audit_consistency: "cachewarden_audit_consistency_ratio", "1 less the part of the compared values that was inconsistent";
    locks_held: "cachewarden_locks_held", "Locks acquired through this daemon that are held, as far as it knows";
    lock_waiters: "cachewarden_lock_waiters", "Requests that wait for locks in this daemon";
    lock_wait_seconds: "cachewarden_lock_wait_seconds", "Time for which locks were waited for, by whether they were acquired";
    limit_decisions: "cachewarden_limit_decisions_total", "Requests that limits have decided on, each of a request's limits by itself; `unasked` while Redis was away";
    limits_remembered: "cachewarden_limits_remembered", "Refusals that are remembered, and answered without Redis until their time is over";
    limit_refusals_known: "cachewarden_limit_refusals_known_total", "Requests that were refused from memory, without Redis";
    warm_runs: "cachewarden_warm_runs_total", "Runs that this daemon has made to warm a cache, by result";
    actor_restarts: "cachewarden_actor_restarts_total", "Restarts of actors";
    actor_mailbox_depth: "cachewarden_actor_mailbox_depth", "Requests that an actor has taken and not answered yet";
    connections: "cachewarden_connections", "Client connections open now";
    connections_refused: "cachewarden_connections_refused_total", "Client connections refused or cut, by reason";
    protocol_errors: "cachewarden_protocol_errors_total", "Client connections closed because of a broken frame";
    redis_up: "cachewarden_redis_up", "1 while Redis answers, else 0";
    postgres_up: "cachewarden_postgres_up", "1 while Postgres answers, else 0";
    breaker_open: "cachewarden_breaker_open", "1 while nothing is sent to the target because it was found away";
    tracking_up: "cachewarden_tracking_up", "1 while Redis tells what changes, so that L1 may answer; 0 while not, or if no cache uses L1";
    l1_bytes: "cachewarden_l1_bytes", "Memory that the entries of L1 take";
    build_info: "cachewarden_build_info", "Always 1; the version is the label";
}

/// Labels of a counter per cache and something else.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CacheState {
    pub cache: String,
    pub state: &'static str,
}

/// Labels of a counter per cache and result.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CacheResult {
    pub cache: String,
    pub result: &'static str,
}

/// Labels of the invalidations.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct SourceKind {
    pub source: &'static str,
    pub kind: &'static str,
}

/// One label named `reason`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Reason {
    pub reason: &'static str,
}

/// One label named `result`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct PassResult {
    pub result: &'static str,
}

/// One label named `target`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Target {
    pub target: &'static str,
}

/// One label named `actor`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ActorName {
    pub actor: String,
}

/// All metrics of one daemon. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub reads: Family<CacheState, Counter>,
    pub loads: Family<CacheResult, Counter>,
    pub fills: Family<CacheResult, Counter>,
    pub flights_joined: Counter,
    pub invalidations: Family<SourceKind, Counter>,
    pub doubted_hits: Counter,
    pub sweeps_pending: Gauge,
    pub sweep_passes: Family<PassResult, Counter>,
    pub swept_keys: Counter,
    pub indexed_sweeps: Family<PassResult, Counter>,
    pub indexes_built: Counter,
    pub subscriber_deaf: Counter<f64, AtomicU64>,
    pub outbox_rows: Gauge,
    pub outbox_lag: Gauge<f64, AtomicU64>,
    pub outbox_whole_rows: Counter,
    pub watch_flaws: Gauge,
    pub dead_rows: Gauge,
    pub doorbell_up: Gauge,
    pub doorbell_rings: Counter,
    pub doorbell_queue: Gauge<f64, AtomicU64>,
    pub redis_met: Family<PassResult, Counter>,
    pub barrier_up: Gauge,
    pub proof_age: Gauge<f64, AtomicU64>,
    pub notes_waiting: Gauge,
    pub messages_refused: Family<Reason, Counter>,
    pub audit: Audited,
    pub journal: Journaled,
    pub locks: Locked,
    pub limits: Limited,
    pub warm: Warmed,
    pub actor_restarts: Family<ActorName, Counter>,
    pub actor_mailbox_depth: Family<ActorName, Gauge>,
    pub timings: Timings,
    pub connections: Gauge,
    pub connections_refused: Family<Reason, Counter>,
    pub protocol_errors: Counter,
    pub redis_up: Gauge,
    pub postgres_up: Gauge,
    pub breaker_open: Family<Target, Gauge>,
    pub tracking_up: Gauge,
    pub l1_bytes: Gauge,
}

/// The counters of one cache, looked up once: the hot path adds to an atomic and nothing else.
#[derive(Clone, Debug)]
pub struct CacheMetrics {
    pub hit: Counter,
    pub hit_l1: Counter,
    pub stale: Counter,
    pub miss: Counter,
    pub missing: Counter,
    pub failed: Counter,
    pub loaded: Counter,
    pub load_failed: Counter,
    pub filled: Counter,
    pub refused: Counter,
    pub read_time: Stopwatch,
}

impl CacheMetrics {
    /// Keys that were asked for, whatever the answer was.
    pub fn reads(&self) -> u64 {
        let answers = [
            &self.hit,
            &self.hit_l1,
            &self.stale,
            &self.miss,
            &self.missing,
            &self.failed,
        ];
        answers.into_iter().map(|answer| answer.get()).sum()
    }
}

impl Metrics {
    /// All counters at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// A client connection was refused or cut.
    pub fn refused_connection(&self, reason: &'static str) {
        let reason = Reason { reason };
        self.connections_refused.get_or_create(&reason).inc();
    }

    /// A pass through all keys has ended.
    pub fn passed(&self, result: &'static str) {
        self.sweep_passes
            .get_or_create(&PassResult { result })
            .inc();
    }

    /// An index was asked for a pattern.
    pub fn asked_index(&self, result: &'static str) {
        let result = PassResult { result };
        self.indexed_sweeps.get_or_create(&result).inc();
    }

    /// A Redis was met anew.
    pub fn met_redis(&self, result: &'static str) {
        self.redis_met.get_or_create(&PassResult { result }).inc();
    }

    /// A published message was refused, as a whole or in part.
    pub fn refused_message(&self, reason: &'static str) {
        self.messages_refused
            .get_or_create(&Reason { reason })
            .inc();
    }

    /// The counters of one cache.
    pub fn cache(&self, name: &str) -> CacheMetrics {
        let read = |state| {
            let labels = CacheState {
                cache: name.to_owned(),
                state,
            };
            self.reads.get_or_create_owned(&labels)
        };
        let result = |family: &Family<CacheResult, Counter>, result| {
            let labels = CacheResult {
                cache: name.to_owned(),
                result,
            };
            family.get_or_create_owned(&labels)
        };
        CacheMetrics {
            hit: read("hit"),
            hit_l1: read("hit-l1"),
            stale: read("stale"),
            miss: read("miss"),
            missing: read("missing"),
            failed: read("failed"),
            loaded: result(&self.loads, "loaded"),
            load_failed: result(&self.loads, "failed"),
            filled: result(&self.fills, "filled"),
            refused: result(&self.fills, "refused"),
            read_time: self.timings.reads_of(name),
        }
    }

    /// The counters of one limit.
    pub fn limit(&self, name: &str) -> LimitMetrics {
        self.limits.of(name)
    }

    /// Whether the two servers were found there.
    pub fn observe_targets(&self, redis_up: bool, postgres_up: bool) {
        self.redis_up.set(i64::from(redis_up));
        self.postgres_up.set(i64::from(postgres_up));
        for (target, up) in [("redis", redis_up), ("postgres", postgres_up)] {
            let open = self.breaker_open.get_or_create(&Target { target });
            open.set(i64::from(!up));
        }
    }

    /// How much L1 holds, and whether it may answer.
    pub fn observe_l1(&self, bytes: usize, tracking_up: bool) {
        self.l1_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.tracking_up.set(i64::from(tracking_up));
    }

    /// How often each actor was restarted so far.
    pub fn observe_restarts(&self, actor: &str, restarts: u64) {
        let name = ActorName {
            actor: actor.to_owned(),
        };
        let counter = self.actor_restarts.get_or_create(&name);
        counter.inc_by(restarts.saturating_sub(counter.get()));
    }

    /// How many requests each actor has taken and not answered yet.
    pub fn observe_mailbox(&self, actor: &str, requests: usize) {
        let name = ActorName {
            actor: actor.to_owned(),
        };
        let depth = self.actor_mailbox_depth.get_or_create(&name);
        depth.set(i64::try_from(requests).unwrap_or(i64::MAX));
    }

    /// Every sample as name with labels, and value; of histograms the sum and the number, without their many buckets.
    pub fn lines(&self) -> Vec<(String, String)> {
        let page = self.render();
        let told = |line: &&str| !line.starts_with('#') && !line.contains("_bucket{");
        let samples = page.lines().filter(told);
        let mut samples: Vec<_> = samples
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        // The labels of a metric come in no order, another one every time.
        let name = |sample: &(String, String)| sample.0.split('{').next().map(str::to_owned);
        for metric in samples.chunk_by_mut(|one, next| name(one) == name(next)) {
            metric.sort();
        }
        samples
    }

    /// The page in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut registry = Registry::default();
        add(&mut registry, Names::reads, self.reads.clone());
        let timings = self.timings.clone();
        add(&mut registry, Names::read_seconds, timings.read_seconds);
        add(&mut registry, Names::loads, self.loads.clone());
        add(&mut registry, Names::load_seconds, timings.load_seconds);
        add(
            &mut registry,
            Names::load_batch_keys,
            timings.load_batch_keys,
        );
        add(&mut registry, Names::fills, self.fills.clone());
        add(
            &mut registry,
            Names::flights_joined,
            self.flights_joined.clone(),
        );
        add(
            &mut registry,
            Names::invalidations,
            self.invalidations.clone(),
        );
        self.add_sweeping(&mut registry);
        self.add_audit(&mut registry);
        self.add_limits(&mut registry);
        self.add_returning(&mut registry);
        self.add_journal(&mut registry);
        self.add_locks(&mut registry);
        add(&mut registry, Names::warm_runs, self.warm.runs.clone());
        add(
            &mut registry,
            Names::actor_restarts,
            self.actor_restarts.clone(),
        );
        add(
            &mut registry,
            Names::actor_mailbox_depth,
            self.actor_mailbox_depth.clone(),
        );
        add(&mut registry, Names::connections, self.connections.clone());
        add(
            &mut registry,
            Names::connections_refused,
            self.connections_refused.clone(),
        );
        add(
            &mut registry,
            Names::protocol_errors,
            self.protocol_errors.clone(),
        );
        add(&mut registry, Names::redis_up, self.redis_up.clone());
        add(&mut registry, Names::postgres_up, self.postgres_up.clone());
        add(
            &mut registry,
            Names::breaker_open,
            self.breaker_open.clone(),
        );
        add(&mut registry, Names::tracking_up, self.tracking_up.clone());
        add(&mut registry, Names::l1_bytes, self.l1_bytes.clone());
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        let build = Family::<[(&str, &str); 1], Gauge>::default();
        build.get_or_create(&version).set(1);
        add(&mut registry, Names::build_info, build);
        let mut page = String::new();
        // Writing to a String cannot fail.
        let _infallible = prometheus_client::encoding::text::encode(&mut page, &registry);
        page
    }

    fn add_audit(&self, registry: &mut Registry) {
        let audit = self.audit.clone();
        add(registry, Names::audit_checked, audit.checked);
        add(registry, Names::audit_inconsistent, audit.inconsistent);
        add(registry, Names::audit_drift, audit.drift);
        add(registry, Names::audit_undecided, audit.undecided);
        add(registry, Names::audit_consistency, audit.consistency);
    }

    fn add_limits(&self, registry: &mut Registry) {
        let limits = self.limits.clone();
        add(registry, Names::limit_decisions, limits.decisions);
        add(registry, Names::limits_remembered, limits.remembered);
        add(registry, Names::limit_refusals_known, limits.known);
    }

    fn add_journal(&self, registry: &mut Registry) {
        let journal = self.journal.clone();
        add(registry, Names::journal_rows, journal.rows);
        add(registry, Names::journal_lag, journal.lag);
        add(registry, Names::journal_writes, journal.writes);
        add(registry, Names::dead_writes, journal.dead);
    }

    fn add_locks(&self, registry: &mut Registry) {
        let locks = self.locks.clone();
        add(registry, Names::locks_held, locks.held);
        add(registry, Names::lock_waiters, locks.waiters);
        add(registry, Names::lock_wait_seconds, locks.wait_seconds);
    }

    fn add_returning(&self, registry: &mut Registry) {
        add(registry, Names::redis_met, self.redis_met.clone());
        add(registry, Names::barrier_up, self.barrier_up.clone());
        add(registry, Names::proof_age, self.proof_age.clone());
        add(registry, Names::notes_waiting, self.notes_waiting.clone());
    }

    fn add_sweeping(&self, registry: &mut Registry) {
        add(registry, Names::doubted_hits, self.doubted_hits.clone());
        add(registry, Names::sweeps_pending, self.sweeps_pending.clone());
        add(registry, Names::indexed_sweeps, self.indexed_sweeps.clone());
        add(registry, Names::indexes_built, self.indexes_built.clone());
        add(registry, Names::sweep_passes, self.sweep_passes.clone());
        add(registry, Names::swept_keys, self.swept_keys.clone());
        let seconds = self.timings.invalidation_seconds.clone();
        add(registry, Names::invalidation_seconds, seconds);
        add(registry, Names::outbox_rows, self.outbox_rows.clone());
        add(registry, Names::outbox_lag, self.outbox_lag.clone());
        let whole_rows = self.outbox_whole_rows.clone();
        add(registry, Names::outbox_whole_rows, whole_rows);
        add(registry, Names::watch_flaws, self.watch_flaws.clone());
        add(registry, Names::dead_rows, self.dead_rows.clone());
        add(registry, Names::doorbell_up, self.doorbell_up.clone());
        add(registry, Names::doorbell_rings, self.doorbell_rings.clone());
        add(registry, Names::doorbell_queue, self.doorbell_queue.clone());
        add(
            registry,
            Names::subscriber_deaf,
            self.subscriber_deaf.clone(),
        );
        add(
            registry,
            Names::messages_refused,
            self.messages_refused.clone(),
        );
    }
}

fn add(registry: &mut Registry, metric: Metric, this: impl Registrable) {
    // The encoder puts `_total` behind a counter's name and a full stop behind its help by itself.
    let name = metric.name.trim_end_matches("_total");
    registry.register(name, metric.help, this);
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
