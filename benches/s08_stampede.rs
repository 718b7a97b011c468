//! S8: ten thousand ask at once for one key that is nowhere but in Postgres.
//!
//! Work: 10,000 tasks call `Warden::get` inside this process, on a runtime with a thread a core; time from the first
//! spawn to the last answer. A new key each round. The same on two daemons that share a Redis, and over 10,000 sockets
//! to the built binary. Postgres itself counts the statements (`pg_stat_statements`).

use std::path::Path;
use std::time::Instant;

use cachewarden::Warden;
use cachewarden::cli::demo::servers::free_port;
use cachewarden::config::Config;
use serde_json::value::RawValue;
use tokio::runtime::Runtime;

use crate::support::load::Until;
use crate::support::process::Daemon;
use crate::support::request::{Draw, FIRST_ID, Template, key};
use crate::support::rounds::Spread;
use crate::support::table::{Limits, Report, Row, Side, Unit};
use crate::support::world::Backends;
use crate::support::{Bench, BenchError};

const WAITERS: usize = 10_000;
const ROWS: u32 = 1_000;

/// The first rounds find cold code, connections that are still to be opened and statements to be prepared.
const WARM_ROUNDS: usize = 2;

/// Rounds inside this process for each one asked for: with 20 ms each, a single thing the machine does otherwise shows.
const SHORT_ROUNDS: usize = 5;

/// What the declared query looks like in Postgres, whatever is put around it.
const COUNT: &str = "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query LIKE '%payload FROM bench%'";

pub fn run(bench: &Bench) -> Result<Report, BenchError> {
    let settings = [("shared_preload_libraries", "pg_stat_statements")];
    let backends = Backends::open(ROWS, &settings)?;
    backends.sql("CREATE EXTENSION pg_stat_statements")?;
    let mut stampede = Stampede {
        rounds: bench.rounds,
        next_id: FIRST_ID,
        backends,
    };
    let mut report = Report::default();
    for (daemons, work) in [
        (1, "one cold key, 10,000 tasks"),
        (2, "the same on two daemons, one Redis"),
    ] {
        let found = stampede.inside(daemons)?;
        report.rows.push(found.statements_row(work));
        if daemons == 1 {
            report.rows.push(found.time_row(work));
        } else {
            report.notes.push(format!(
                "S8, {work}: {:.2} µs a waiter",
                found.micros.median
            ));
        }
    }
    report.notes.push(stampede.over_sockets(bench)?);
    Ok(report)
}

struct Stampede {
    backends: Backends,
    rounds: usize,
    /// Each round has a key that nobody has asked for.
    next_id: u32,
}

/// What some rounds showed.
struct Found {
    /// Microseconds a waiter.
    micros: Spread,
    /// Statements a round.
    statements: Spread,
}

impl Stampede {
    /// Tasks in this process, dealt out to so many daemons.
    fn inside(&mut self, daemons: usize) -> Result<Found, BenchError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(BenchError::io("make a runtime"))?;
        let mut wardens = Vec::new();
        for number in 0..daemons {
            let name = format!("inside-{number}.toml");
            let config = self.backends.write_config(&name, free_port()?)?;
            wardens.push(start(&runtime, &config)?);
        }
        let (mut micros, mut statements) = (Vec::new(), Vec::new());
        for round in 0..WARM_ROUNDS + SHORT_ROUNDS * self.rounds {
            let key = key(self.new_id());
            let before = self.statements()?;
            let taken = runtime.block_on(everybody_asks(&wardens, &key))?;
            if round >= WARM_ROUNDS {
                micros.push(taken);
                statements.push(self.statements()? - before);
            }
        }
        for warden in &wardens {
            runtime.block_on(warden.stop());
        }
        Found::of(micros, statements)
    }

    /// Connections to the built binary: a cold key, then the same one as a hit, so that the difference shows.
    fn over_sockets(&mut self, bench: &Bench) -> Result<String, BenchError> {
        let port = free_port()?;
        let config = self.backends.write_config("sockets.toml", port)?;
        let _daemon = Daemon::start(&self.backends.folder, &config)?;
        let mut clients = bench.connect(port, WAITERS, &Template::get(1))?;
        let (mut cold, mut hit, mut statements) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..WARM_ROUNDS + self.rounds {
            let draw = Draw::One(self.new_id());
            let before = self.statements()?;
            let first = bench.run(&mut clients, &draw, Until::Once)?;
            let asked = self.statements()? - before;
            let again = bench.run(&mut clients, &draw, Until::Once)?;
            if round >= WARM_ROUNDS {
                cold.push(1e6 / first.rate());
                hit.push(1e6 / again.rate());
                statements.push(asked);
            }
        }
        let hit = Spread::of(hit).median;
        let found = Found::of(cold, statements)?;
        Ok(format!(
            "S8 over 10,000 sockets: {:.0} statement(s) a round, {:.1} µs a waiter ({:.1}–{:.1}), generator included; \
             {hit:.1} µs when the key is there already",
            found.statements.max, found.micros.median, found.micros.min, found.micros.max
        ))
    }

    fn new_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    fn statements(&self) -> Result<f64, BenchError> {
        let count = self.backends.sql(COUNT)?;
        count.parse().map_err(|_no_number| BenchError::Helper {
            program: "psql",
            message: format!("`{count}` is no count of statements"),
        })
    }
}

impl Found {
    fn of(micros: Vec<f64>, statements: Vec<f64>) -> Result<Self, BenchError> {
        let found = Self {
            micros: Spread::of(micros),
            statements: Spread::of(statements),
        };
        // Cold keys were answered, so somebody asked Postgres: a count of none means that the counter does not see us.
        if found.statements.min < 1.0 {
            return Err(BenchError::Helper {
                program: "pg_stat_statements",
                message: "it has not counted the loads".to_owned(),
            });
        }
        Ok(found)
    }

    fn statements_row(&self, work: &str) -> Row {
        // One round with two is one too many.
        let figure = Spread {
            median: self.statements.max,
            ..self.statements
        };
        row(
            format!("{work}: statements"),
            figure,
            Unit::Count,
            Limits::at_most(1.0, 1.0),
        )
    }

    fn time_row(&self, work: &str) -> Row {
        row(
            format!("{work}: time a waiter"),
            self.micros,
            Unit::Micros,
            Limits::at_most(2.0, 0.6),
        )
    }
}

fn row(work: String, figure: Spread, unit: Unit, limits: Limits) -> Row {
    Row {
        target: "S8",
        work,
        against: String::new(),
        figure,
        unit,
        ours: Side::default(),
        theirs: Side::default(),
        limits,
    }
}

fn start(runtime: &Runtime, config: &Path) -> Result<Warden, BenchError> {
    let config = Config::load(config)?;
    Ok(runtime.block_on(Warden::start(config))?)
}

/// Microseconds a waiter, from the first spawn to the last answer.
async fn everybody_asks(wardens: &[Warden], key: &str) -> Result<f64, BenchError> {
    let start = Instant::now();
    let mut waiting = Vec::with_capacity(WAITERS);
    for (_, warden) in (0..WAITERS).zip(wardens.iter().cycle()) {
        let (warden, key) = (warden.clone(), key.to_owned());
        waiting.push(tokio::spawn(async move {
            warden.get::<Box<RawValue>>(&key).await
        }));
    }
    let mut missing = 0;
    for waiter in waiting {
        let found = waiter.await.map_err(|panicked| BenchError::Io {
            action: "run a task".to_owned(),
            source: panicked.into(),
        })??;
        missing += usize::from(found.is_none());
    }
    let taken = start.elapsed();
    if missing > 0 {
        return Err(BenchError::Helper {
            program: "Warden::get",
            message: format!("{missing} of {WAITERS} tasks were told that there is no `{key}`"),
        });
    }
    Ok(taken.as_secs_f64() * 1e6 / WAITERS as f64)
}
