//! Taking turns, and what is said of many runs.

use std::ops::Sub;
use std::time::Duration;

use super::BenchError;
use super::load::Sample;

/// One measured run of one side.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Units a second.
    pub rate: f64,
    /// The server's time on a core for one unit, in microseconds.
    pub cpu_us: f64,
    /// The same of the Redis behind it.
    pub redis_us: f64,
    /// The same of the Postgres behind it.
    pub postgres_us: f64,
    /// The same of the load generator.
    pub generator_us: f64,
}

impl Measured {
    /// Of all processes: the cores' time divided by this is the highest rate there can be.
    pub fn whole_us(&self) -> f64 {
        self.cpu_us + self.redis_us + self.postgres_us + self.generator_us
    }
}

/// Times on a core so far, of the parts of a [`Measured`].
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    pub server: Duration,
    pub redis: Duration,
    pub postgres: Duration,
    pub generator: Duration,
}

impl Sub for Cpu {
    type Output = Self;
    fn sub(self, earlier: Self) -> Self {
        Self {
            server: self.server.saturating_sub(earlier.server),
            redis: self.redis.saturating_sub(earlier.redis),
            postgres: self.postgres.saturating_sub(earlier.postgres),
            generator: self.generator.saturating_sub(earlier.generator),
        }
    }
}

impl Measured {
    /// A sample, and the times that everybody was on a core meanwhile.
    pub fn new(sample: Sample, cpu: Cpu) -> Self {
        let a_unit = |time: Duration| time.as_secs_f64() * 1e6 / sample.units as f64;
        Self {
            rate: sample.rate(),
            cpu_us: a_unit(cpu.server),
            redis_us: a_unit(cpu.redis),
            postgres_us: a_unit(cpu.postgres),
            generator_us: a_unit(cpu.generator),
        }
    }
}

/// Runs each side once a round, the first one of a round changing, so that neither always follows the other.
pub fn take_turns<const N: usize>(
    rounds: usize,
    mut run: impl FnMut(usize) -> Result<Measured, BenchError>,
) -> Result<[Vec<Measured>; N], BenchError> {
    let mut runs = std::array::from_fn(|_| Vec::with_capacity(rounds));
    for round in 0..rounds {
        for turn in 0..N {
            let side = (round + turn) % N;
            runs[side].push(run(side)?);
        }
    }
    Ok(runs)
}

/// A choice of settings and its rate.
pub struct Best<T> {
    pub choice: T,
    pub rate: f64,
}

/// Tries each choice twice, and keeps the one with the best run.
pub fn best_of<T: Copy>(
    choices: impl IntoIterator<Item = T>,
    mut run: impl FnMut(T) -> Result<f64, BenchError>,
) -> Result<Best<T>, BenchError> {
    let mut best: Option<Best<T>> = None;
    for choice in choices {
        let rate = run(choice)?.max(run(choice)?);
        if best.as_ref().is_none_or(|best| rate > best.rate) {
            best = Some(Best { choice, rate });
        }
    }
    best.ok_or_else(|| BenchError::Helper {
        program: "bench",
        message: "there was nothing to choose from".to_owned(),
    })
}

/// The middle of some figures and their ends.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of single figures.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Self {
            median: median_of_sorted(&sorted),
            min: sorted.first().copied().unwrap_or(f64::NAN),
            max: sorted.last().copied().unwrap_or(f64::NAN),
        }
    }

    /// Of a ratio: the middle is the ratio of the medians, the ends are those of single rounds.
    pub fn of_ratio(ours: &[f64], theirs: &[f64]) -> Self {
        let rounds = Self::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs));
        Self {
            median: median(ours) / median(theirs),
            ..rounds
        }
    }
}

/// What so large a share of the figures does not exceed.
pub fn quantile(mut figures: Vec<f64>, share: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    let last = figures.len().saturating_sub(1);
    let at = figures.get((last as f64 * share) as usize);
    at.copied().unwrap_or(f64::NAN)
}

/// The middle one, or the mean of the middle two.
pub fn median(figures: &[f64]) -> f64 {
    Spread::of(figures.iter().copied()).median
}

fn median_of_sorted(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
    }
}

/// The rates of some runs.
pub fn rates(runs: &[Measured]) -> Vec<f64> {
    runs.iter().map(|run| run.rate).collect()
}

/// The medians of some runs.
pub fn medians(runs: &[Measured]) -> Measured {
    let median = |field: fn(&Measured) -> f64| Spread::of(runs.iter().map(field)).median;
    Measured {
        rate: median(|run| run.rate),
        cpu_us: median(|run| run.cpu_us),
        redis_us: median(|run| run.redis_us),
        postgres_us: median(|run| run.postgres_us),
        generator_us: median(|run| run.generator_us),
    }
}
