//! S14: warming a million rows, against what one would do by hand: `psql COPY` into `redis-cli --pipe`.
//!
//! A second row tells what a reader notices of a warmup at the pace that is not declared otherwise, and that gives way to him.
//!
//! Both end with the same values in an empty Redis, each with an expiry. By hand nothing is under a lease: a row that changes
//! meanwhile is left outdated. Ours goes through the daemon's own command, at no limit of its pace.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cachewarden::cli::demo::servers::free_port;

use crate::support::filled::Neighbour;
use crate::support::process::Daemon;
use crate::support::request::{FIRST_ID, key};
use crate::support::rounds::{Spread, quantile};
use crate::support::table::{Limits, Report, Row, Side, Unit, rate};
use crate::support::watched::migrate;
use crate::support::world::{Backends, ask, flush};
use crate::support::{Bench, BenchError};

const ROWS: u32 = 1_000_000;
/// Each side takes seconds: more rounds than these say nothing more.
const MAX_ROUNDS: usize = 3;

/// What follows the declaration of the cache, and a pace.
const WARM: &str = "
    [caches.bench.warm]
    keys = \"SELECT id FROM bench\"
    on_start = false
";
/// Keys that are warmed beside a reader, for about as long as he is watched who is alone.
const BESIDE: &str = " LIMIT 50000";
const AT_ONCE: &str = "    rate = 10000000\n";
/// How long a reader is watched who is alone.
const ALONE: Duration = Duration::from_secs(10);

pub fn run(bench: &Bench) -> Result<Report, BenchError> {
    let backends = Backends::open(ROWS, &[])?;
    let config =
        backends.write_config_with("cachewarden.toml", free_port()?, &[WARM, AT_ONCE].concat())?;
    migrate(&config)?;
    let daemon = Daemon::start(&backends.folder, &config)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let before = resident_mib(daemon.pid());
    let mut most = before;
    for _ in 0..bench.rounds.min(MAX_ROUNDS) {
        flush(backends.redis.port())?;
        theirs.push(by_hand(&backends)?);
        check(&backends)?;
        flush(backends.redis.port())?;
        ours.push(warm(&config, &[])?);
        check(&backends)?;
        most = most.max(resident_mib(daemon.pid()));
    }
    let a_second = |times: &[Duration]| {
        Spread::of(
            times
                .iter()
                .map(|time| f64::from(ROWS) / time.as_secs_f64()),
        )
    };
    let ratios = ours.iter().zip(&theirs);
    let ratios = ratios.map(|(ours, theirs)| theirs.as_secs_f64() / ours.as_secs_f64());
    let mut report = Report::default();
    report.rows.push(Row {
        target: "S14",
        work: format!("1,000,000 rows warmed ({most} MiB resident after, {before} before)"),
        against: "psql COPY | redis-cli --pipe".to_owned(),
        figure: Spread::of(ratios),
        unit: Unit::Times,
        ours: Side {
            rate: rate(a_second(&ours).median),
            cpu: String::new(),
        },
        theirs: Side {
            rate: rate(a_second(&theirs).median),
            cpu: String::new(),
        },
        limits: Limits::at_least(0.5, 1.0),
    });
    drop(daemon);
    report.rows.push(beside_a_reader(bench, &backends)?);
    Ok(report)
}

/// A reader's 99th percentile while keys are loaded once more, beside the same when nothing else goes on.
fn beside_a_reader(bench: &Bench, backends: &Backends) -> Result<Row, BenchError> {
    let port = free_port()?;
    let some = WARM.replace("FROM bench", &["FROM bench", BESIDE].concat());
    let config = backends.write_config_with("paced.toml", port, &some)?;
    let _daemon = Daemon::start(&backends.folder, &config)?;
    let (mut warmed, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds.min(MAX_ROUNDS) {
        let reader = Neighbour::of(port, key(FIRST_ID))?;
        std::thread::park_timeout(ALONE);
        alone.push(quantile(reader.stop()?, 0.99));
        let reader = Neighbour::of(port, key(FIRST_ID))?;
        warm(&config, &["--force"])?;
        warmed.push(quantile(reader.stop()?, 0.99));
    }
    let side = |millis: &[f64]| Side {
        rate: format!("{:.2} ms", Spread::of(millis.iter().copied()).median),
        cpu: String::new(),
    };
    Ok(Row {
        target: "S14",
        work: "a reader's 99th percentile during a warmup".to_owned(),
        against: "the same reader alone".to_owned(),
        figure: Spread::of_ratio(&warmed, &alone),
        unit: Unit::Times,
        ours: side(&warmed),
        theirs: side(&alone),
        limits: Limits::at_most(1.5, 1.2),
    })
}

/// As a script would: a line of the protocol a row, made by Postgres.
fn by_hand(backends: &Backends) -> Result<Duration, BenchError> {
    let copy = format!(
        "COPY (SELECT 'SET bench:' || id || ' ''' || row_to_json(t)::text || ''' PX 600000'
               FROM (SELECT id, payload FROM bench WHERE id >= {FIRST_ID}) t) TO STDOUT"
    );
    let begun = Instant::now();
    let mut psql = backends.postgres.psql("postgres");
    let mut psql = psql
        .args(["-qAtc", &copy])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(BenchError::io("start psql"))?;
    let piped = psql.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let cli = Command::new("redis-cli")
        .arg("-s")
        .arg(backends.redis.socket())
        .arg("--pipe")
        .stdin(piped)
        .stdout(Stdio::null())
        .status()
        .map_err(BenchError::io("start redis-cli"))?;
    let psql = psql.wait();
    let psql = psql.map_err(BenchError::io("end psql"))?;
    match cli.success() && psql.success() {
        true => Ok(begun.elapsed()),
        false => Err(BenchError::Helper {
            program: "redis-cli",
            message: format!("{cli}; psql: {psql}"),
        }),
    }
}

fn warm(config: &Path, more: &[&str]) -> Result<Duration, BenchError> {
    let begun = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_cachewarden"))
        .args(["warm", "--json", "--config"])
        .arg(config)
        .args(more)
        .output()
        .map_err(BenchError::io("start cachewarden warm"))?;
    let took = begun.elapsed();
    if output.status.success() {
        return Ok(took);
    }
    Err(BenchError::Helper {
        program: "cachewarden warm",
        message: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// The memory that a process holds, as the kernel counts it.
fn resident_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// All of it is there.
fn check(backends: &Backends) -> Result<(), BenchError> {
    let port = backends.redis.port();
    let keys = ask(port, "INFO keyspace")?;
    let there = keys
        .split("keys=")
        .nth(1)
        .and_then(|rest| rest.split(',').next())
        .and_then(|keys| keys.parse::<u32>().ok())
        .unwrap_or(0);
    match there >= ROWS {
        true => Ok(()),
        false => Err(BenchError::Reply {
            port,
            reply: keys,
            expected: format!("{ROWS} keys"),
        }),
    }
}
