//! The two scripts, with types.

use super::requests::{Request, Verb};
use super::rule::Rule;
use super::verdict::Verdict;
use crate::keyspace::names::{INSTANCES, LIMITS_CHANNEL};
use crate::store::{Reply, Script, Store, StoreError};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// The parts of `serve_requests` behind its clock, in their order.
const PARTS: [&str; 8] = [
    include_str!("scripts/divide_product.lua"),
    include_str!("scripts/keep_counts.lua"),
    include_str!("scripts/count_fixed.lua"),
    include_str!("scripts/count_plainly.lua"),
    include_str!("scripts/count_sliding.lua"),
    include_str!("scripts/fill_bucket.lua"),
    include_str!("scripts/count_in_flight.lua"),
    SERVE,
];
const SERVE: &str = include_str!("scripts/serve_requests.lua");
/// The name of the script that is made of them.
const NAME: &str = "serve_requests";
/// Numbers that the script answers for each limit.
const NUMBERS: usize = 4;

/// The scripts of this room.
#[derive(Debug)]
pub struct Scripts {
    serve: Script,
    register: Script,
}

impl Default for Scripts {
    fn default() -> Self {
        Self::with_clock(include_str!("scripts/read_clock.lua"))
    }
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Served {
    /// What each of its limits says.
    Verdicts(Vec<Verdict>),
    /// How much was given back, or 1 if something was there.
    Given(u64),
}

impl Scripts {
    /// The scripts with another clock: for tests, which tell the script what time it is.
    #[doc(hidden)]
    pub fn with_clock(clock: &str) -> Self {
        let parts = std::iter::once(clock).chain(PARTS);
        Self {
            serve: Script::new(NAME, &parts.collect::<String>()),
            register: Script::new(
                "register_instance",
                include_str!("scripts/register_instance.lua"),
            ),
        }
    }

    /// Serves requests in one exchange, in their order; `times` is for the clock of a test.
    ///
    /// # Errors
    /// See [`StoreError`]; what was asked may have been done all the same.
    pub async fn serve(
        &self,
        store: &Store,
        requests: &[&Request],
        times: &[String],
    ) -> Result<Vec<Served>, StoreError> {
        let (keys, mut args) = words(requests);
        args.extend(times.iter().map(|time| Bytes::from(time.clone())));
        let reply = store.run(&self.serve, &keys, &args).await?;
        read(requests, reply).ok_or(StoreError::Unexpected { command: NAME })
    }

    /// Registers a daemon for so long; how many there are.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn register(
        &self,
        store: &Store,
        instance: &str,
        life: Duration,
    ) -> Result<u64, StoreError> {
        let life = life.as_micros().to_string();
        let args = [instance, &life];
        let reply = store.run(&self.register, &[INSTANCES], &args).await?;
        let count = reply.as_integer();
        let count = count.and_then(|count| u64::try_from(count).ok());
        count.ok_or(StoreError::Unexpected {
            command: self.register.name(),
        })
    }
}

/// Keys and arguments, as `serve_requests.lua` says.
fn words(requests: &[&Request]) -> (Vec<Vec<u8>>, Vec<Bytes>) {
    let mut buffer = itoa::Buffer::new();
    let mut number = |number: u64| Bytes::copy_from_slice(buffer.format(number).as_bytes());
    let rules = distinct(requests);
    let (mut keys, mut args) = (Vec::new(), Vec::new());
    args.push(number(requests.len() as u64));
    args.push(Bytes::from_static(LIMITS_CHANNEL.as_bytes()));
    args.push(number(rules.len() as u64));
    for rule in &rules {
        let numbers = rule.numbers;
        args.push(Bytes::from_static(numbers.kind.name().as_bytes()));
        args.push(number(numbers.rate));
        args.push(number(numbers.span_us));
        args.push(number(numbers.capacity));
        args.push(Bytes::from_static(if rule.shadow { b"0" } else { b"1" }));
    }
    for request in requests {
        args.push(Bytes::from_static(request.verb.name().as_bytes()));
        args.push(number(request.cost));
        args.push(match request.verb {
            Verb::Refund | Verb::Reset => forgotten(request),
            _ => request.id.clone().unwrap_or_default(),
        });
        args.push(number(request.rules.len() as u64));
        for rule in &request.rules {
            keys.push(rule.key(&request.subject));
            let place = rules.iter().position(|one| Arc::ptr_eq(one, rule));
            args.push(number(place.map_or(0, |place| place as u64 + 1)));
        }
    }
    (keys, args)
}

/// The limits of all requests, each once. They are few: what is asked at the same time is mostly of the same limits.
fn distinct<'a>(requests: &[&'a Request]) -> Vec<&'a Arc<Rule>> {
    let mut rules: Vec<&Arc<Rule>> = Vec::new();
    for rule in requests.iter().flat_map(|request| &request.rules) {
        if !rules.iter().any(|one| Arc::ptr_eq(one, rule)) {
            rules.push(rule);
        }
    }
    rules
}

/// What other daemons are told to forget: the limit, a zero byte, the subject.
fn forgotten(request: &Request) -> Bytes {
    let limit = request.rules.first().map_or("", |rule| &rule.identity);
    Bytes::from([limit.as_bytes(), b"\0", &request.subject].concat())
}

/// Limit and subject that are to be forgotten.
pub(super) fn read_forgotten(told: &[u8]) -> Option<(&[u8], &[u8])> {
    let zero = memchr::memchr(0, told)?;
    Some((&told[..zero], &told[zero + 1..]))
}

fn read(requests: &[&Request], reply: Reply) -> Option<Vec<Served>> {
    let numbers: Option<Vec<i64>> = reply.into_list()?.iter().map(Reply::as_integer).collect();
    let numbers = numbers?;
    let mut told = numbers.chunks_exact(NUMBERS);
    let mut served = Vec::with_capacity(requests.len());
    for request in requests {
        served.push(if request.verb.decides() {
            let verdicts = request.rules.iter().map(|_| verdict(told.next()?));
            Served::Verdicts(verdicts.collect::<Option<_>>()?)
        } else {
            Served::Given(u64::try_from(*told.next()?.first()?).ok()?)
        });
    }
    told.next().is_none().then_some(served)
}

fn verdict(numbers: &[i64]) -> Option<Verdict> {
    let &[fits, remaining, retry_us, reset_us] = numbers else {
        return None;
    };
    let micros = |us: i64| u64::try_from(us).ok().map(Duration::from_micros);
    Some(Verdict {
        fits: fits == 1,
        remaining: u64::try_from(remaining).ok()?,
        retry_after: micros(retry_us),
        reset_after: micros(reset_us)?,
    })
}
