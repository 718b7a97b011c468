//! S16: locks that are acquired and released, 256 callers, each a lock of its own.
//!
//! Beside the scripts of these two commands, given to Redis itself one lock a call by as many callers. That is less than we do: an
//! acquisition also has its fence minted by Postgres, on disk, and confirmed by a third script.

use std::path::Path;

use cachewarden::cli::demo::servers::free_port;

use crate::support::process::Daemon;
use crate::support::rounds::{Measured, medians, take_turns};
use crate::support::table::{Limits, Report, Row, rate};
use crate::support::watched::migrate;
use crate::support::world::Backends;
use crate::support::{Bench, BenchError, Watched};

const CALLERS: usize = 256;
const TTL_MS: &str = "30000";

/// As everybody writes it, without fences, waiting or a list: `SET NX PX`, and a script that deletes what has the token.
const PLAIN_RELEASE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end";

pub fn run(bench: &Bench) -> Result<Report, BenchError> {
    let backends = Backends::open(1, &[])?;
    let port = free_port()?;
    let config = backends.write_config_with("locks.toml", port, "[locks]\n")?;
    migrate(&config)?;
    let daemon = Daemon::start(&backends.folder, Path::new(&config))?;
    let redis = backends.redis.pid().unwrap_or_default();
    let scripts = load(backends.redis.port())?;
    let mut sides = [
        bench.call(backends.redis.port(), each(|n| bare(&scripts, n)))?,
        bench.call(backends.redis.port(), each(|n| plain(&scripts, n)))?,
        bench.call(port, each(ours))?,
    ];
    let watched = |server| Watched {
        server,
        redis: (server != redis).then_some(redis),
        postgres: (server != redis).then(|| backends.postgres.pid()).flatten(),
    };
    let servers = [redis, redis, daemon.pid()];
    let [bare, plain, ours] = take_turns(bench.rounds, |side| {
        bench.measure_calls(&mut sides[side], watched(servers[side]))
    })?;
    let mut report = Report::default();
    report.rows.push(Row::of_rates(
        "S16",
        format!("locks acquired and released, {CALLERS} callers"),
        "the two scripts bare".to_owned(),
        &ours,
        &bare,
        Limits::at_least(0.6, 1.0),
    ));
    report.notes.push(told(&bare, &plain, &ours));
    Ok(report)
}

fn told(bare: &[Measured], plain: &[Measured], ours: &[Measured]) -> String {
    let [bare, plain, ours] = [bare, plain, ours].map(medians);
    format!(
        "S16: bare scripts {} pairs with {:.1} µs of Redis; SET NX PX and a compare-and-delete, which know no fence and no queue, \
         {} with {:.1} µs; we {} with {:.1} µs of our own, {:.1} of Redis and {:.1} of Postgres",
        rate(bare.rate),
        bare.cpu_us,
        rate(plain.rate),
        plain.cpu_us,
        rate(ours.rate),
        ours.cpu_us,
        ours.redis_us,
        ours.postgres_us
    )
}

/// The hashes of the scripts, as Redis names them.
struct Hashes {
    take: String,
    release: String,
    plain_release: String,
}

fn load(port: u16) -> Result<Hashes, BenchError> {
    const PARTS: &str = concat!(
        include_str!("../src/lock/scripts/tell_time.lua"),
        include_str!("../src/lock/scripts/read_locks.lua")
    );
    let mut redis = crate::support::filled::connect(port)?;
    let mut load = |text: &str| {
        let script = redis::Script::new(text);
        let loaded = script.prepare_invoke().load(&mut redis);
        loaded.map_err(crate::support::filled::failed)
    };
    Ok(Hashes {
        take: load(&format!(
            "{PARTS}{}",
            include_str!("../src/lock/scripts/take_locks.lua")
        ))?,
        release: load(&format!(
            "{PARTS}{}",
            include_str!("../src/lock/scripts/release_locks.lua")
        ))?,
        plain_release: load(PLAIN_RELEASE)?,
    })
}

fn each(requests: impl Fn(usize) -> Vec<Vec<u8>>) -> Vec<Vec<Vec<u8>>> {
    (0..CALLERS).map(requests).collect()
}

/// One token a caller: what is released is acquired anew.
fn token(caller: usize) -> String {
    uuid::Uuid::from_u128(caller as u128 + 1).to_string()
}

fn ours(caller: usize) -> Vec<Vec<u8>> {
    let (name, token) = (format!("bench:{caller}"), token(caller));
    vec![
        frame(&["LOCK.ACQUIRE", &name, TTL_MS, "TOKEN", &token]),
        frame(&["LOCK.RELEASE", &name, &token]),
    ]
}

fn bare(scripts: &Hashes, caller: usize) -> Vec<Vec<u8>> {
    let (key, token) = (format!("cachewarden:lock:bare:{caller}"), token(caller));
    let instance = uuid::Uuid::nil().to_string();
    let index = "cachewarden:locks";
    let take = [
        "EVALSHA",
        &scripts.take,
        "2",
        index,
        &key,
        &instance,
        "2500",
    ];
    let lock = [token.as_str(), "1", "x1", TTL_MS, "0", "0", "0", "", ""];
    let release = [
        "EVALSHA",
        &scripts.release,
        "2",
        index,
        &key,
        &instance,
        &token,
        "",
    ];
    vec![frame(&[&take[..], &lock[..]].concat()), frame(&release)]
}

fn plain(scripts: &Hashes, caller: usize) -> Vec<Vec<u8>> {
    let (key, token) = (format!("plain:{caller}"), token(caller));
    vec![
        frame(&["SET", &key, &token, "NX", "PX", TTL_MS]),
        frame(&["EVALSHA", &scripts.plain_release, "1", &key, &token]),
    ]
}

fn frame(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
    }
    bytes
}
