//! `cachewarden warm`: has the running daemon warm caches, and shows how far it is.

use super::ask::AskError;
use super::client::Reply;
use super::{ask, check, exit, table};
use crate::config::Config;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::json;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// The daemon gives up waiting for a run first.
const PATIENCE: Duration = Duration::from_secs(70 * 60);
/// How often it is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// It answers this at once.
const LOOK_PATIENCE: Duration = Duration::from_secs(10);

/// Load caches before they are read, through the running daemon. Exits with 1 if one of them could not be warmed
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Load what is fresh, too
    #[arg(long)]
    force: bool,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
    /// The caches, as in [caches.NAME.warm]; without any, all of them
    #[arg(value_name = "CACHE")]
    caches: Vec<OsString>,
}

pub(super) fn run(path: &Path, args: Args) -> u8 {
    let config = match check::offline_or_told(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let mut words = vec![b"CACHE.WARM".to_vec()];
    words.extend(args.force.then(|| b"FORCE".to_vec()));
    words.extend(args.caches.into_iter().map(OsString::into_vec));
    let answer = match asked(&config, words) {
        Ok(answer) => answer,
        Err(error) => {
            exit::tell(&error);
            return error.exit_code();
        }
    };
    let Some(runs) = Warmed::all(&answer) else {
        exit::tell(format_args!(
            "the daemon answered something unexpected: {answer}"
        ));
        return exit::FAILED;
    };
    show(&runs, args.json);
    match runs.iter().any(|run| run.error.is_some()) {
        true => exit::FAILED,
        false => 0,
    }
}

/// Asks, and shows meanwhile how far it is.
fn asked(config: &Config, words: Vec<Vec<u8>>) -> Result<Reply, AskError> {
    let (tell, told) = channel();
    std::thread::scope(|scope| {
        scope.spawn(move || tell.send(ask::ask_within(PATIENCE, config, &words)));
        let mut bars = Bars::default();
        loop {
            match told.recv_timeout(LOOK_EVERY) {
                Ok(answer) => {
                    bars.clear();
                    return answer;
                }
                Err(RecvTimeoutError::Disconnected) => return Err(AskError::AnyPort), // never: it tells before it ends
                Err(RecvTimeoutError::Timeout) => {
                    let look = [b"CACHE.WARMING".to_vec()];
                    // A bar that does not move is no reason to give up.
                    if let Ok(reply) = ask::ask_within(LOOK_PATIENCE, config, &look) {
                        bars.show(&reply);
                    }
                }
            }
        }
    })
}

/// Drawn on stderr, and only if that is a terminal.
#[derive(Default)]
struct Bars {
    all: MultiProgress,
    by_cache: BTreeMap<String, ProgressBar>,
}

impl Bars {
    fn show(&mut self, reply: &Reply) {
        let Some(caches) = map(reply) else { return };
        for (cache, report) in caches {
            let Some(report) = map(report) else { continue };
            let number = |name: &str| match report.get(name) {
                Some(Reply::Int(number)) => u64::try_from(*number).unwrap_or(0),
                _ => 0,
            };
            if number("running") == 0 {
                if let Some(bar) = self.by_cache.get(cache) {
                    bar.finish();
                }
                continue;
            }
            let all = &self.all;
            let bar = self
                .by_cache
                .entry(cache.to_owned())
                .or_insert_with(|| all.add(bar(cache)));
            let done = number("loaded") + number("skipped") + number("failed");
            bar.set_length(number("keys").max(done));
            bar.set_position(done);
        }
    }

    fn clear(&self) {
        self.by_cache
            .values()
            .for_each(ProgressBar::finish_and_clear);
    }
}

fn bar(cache: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{prefix:20} {bar:40} {human_pos}/{human_len} keys, {eta} left",
    );
    let bar = ProgressBar::new(0).with_prefix(cache.to_owned());
    match style {
        Ok(style) => bar.with_style(style),
        Err(_broken) => bar,
    }
}

/// What came of one cache.
struct Warmed {
    cache: String,
    loaded: i64,
    skipped: i64,
    failed: i64,
    took_ms: i64,
    error: Option<String>,
}

impl Warmed {
    fn all(answer: &Reply) -> Option<Vec<Self>> {
        let caches = map(answer)?.into_iter();
        let caches = caches.map(|(cache, outcome)| Self::of(cache, &map(outcome)?));
        caches.collect()
    }

    fn of(cache: &str, outcome: &BTreeMap<&str, &Reply>) -> Option<Self> {
        let number = |name: &str| match outcome.get(name) {
            Some(Reply::Int(number)) => Some(*number),
            _ => None,
        };
        Some(Self {
            cache: cache.to_owned(),
            loaded: number("loaded")?,
            skipped: number("skipped")?,
            failed: number("failed")?,
            took_ms: number("took_ms")?,
            error: match outcome.get("error")? {
                Reply::Text(error) => Some(error.clone()),
                _ => None,
            },
        })
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "cache": self.cache,
            "loaded": self.loaded,
            "skipped": self.skipped,
            "failed": self.failed,
            "took_ms": self.took_ms,
            "error": self.error,
        })
    }
}

/// A map as RESP2 sends it: names and values in turn.
fn map(reply: &Reply) -> Option<BTreeMap<&str, &Reply>> {
    let Reply::List(items) = reply else {
        return None;
    };
    let pairs = items.chunks_exact(2).map(|pair| match pair {
        [Reply::Text(name), value] => Some((name.as_str(), value)),
        _ => None,
    });
    pairs.collect()
}

fn show(runs: &[Warmed], as_json: bool) {
    if as_json {
        let runs: Vec<_> = runs.iter().map(Warmed::json).collect();
        return println!("{}", json!({ "caches": runs }));
    }
    if runs.is_empty() {
        return exit::tell("no cache has a [caches.NAME.warm] section: there is nothing to warm");
    }
    let head = ["cache", "loaded", "skipped", "failed", "ms"].map(str::to_owned);
    let row = |run: &Warmed| {
        let numbers = [run.loaded, run.skipped, run.failed, run.took_ms];
        let [loaded, skipped, failed, ms] = numbers.map(|number| number.to_string());
        [run.cache.clone(), loaded, skipped, failed, ms]
    };
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(runs.iter().map(row)).collect();
    print!("{}", table::table(&rows));
    for run in runs {
        if let Some(error) = &run.error {
            exit::tell(format_args!("{}: {error}", run.cache));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Reply {
        Reply::Text(text.to_owned())
    }

    #[test]
    fn what_the_daemon_answers_becomes_a_row() {
        let outcome = [
            ("loaded", Reply::Int(3)),
            ("failed", Reply::Int(1)),
            ("skipped", Reply::Int(2)),
            ("took_ms", Reply::Int(7)),
            ("error", Reply::Nil),
        ];
        let outcome = outcome
            .into_iter()
            .flat_map(|(name, value)| [text(name), value]);
        let answer = Reply::List(vec![text("course"), Reply::List(outcome.collect())]);
        let runs = Warmed::all(&answer).expect("an answer");
        assert_eq!(runs.len(), 1);
        let told = runs[0].json().to_string();
        for part in [
            "\"cache\":\"course\"",
            "\"loaded\":3",
            "\"skipped\":2",
            "\"error\":null",
        ] {
            assert!(told.contains(part), "{told}");
        }
        assert!(Warmed::all(&Reply::Int(1)).is_none());
        assert!(Warmed::all(&Reply::List(vec![text("course"), Reply::Int(1)])).is_none());
    }
}
