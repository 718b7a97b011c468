//! Requests that are built once and patched in place, and replies whose every byte count is known before.
//!
//! All ids have [`ID_DIGITS`] digits and all values [`VALUE_BYTES`] bytes: so a request changes only where its
//! digits are, and a reply is checked by looking at its headers. Both keep the generator far cheaper than what it measures.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The size of every value, as Postgres renders the row and as Redis holds it.
pub const VALUE_BYTES: usize = 256;

/// The lowest id; every id has [`ID_DIGITS`] digits.
pub const FIRST_ID: u32 = 1_000_000;
const ID_DIGITS: usize = 7;

const KEY_PREFIX: &str = "bench:";

/// Spreads consecutive draws over the table as a random order would, but never repeats: a prime that divides no
/// range used here, so that multiplying by it is a permutation.
const STRIDE: u64 = 1_000_003;

/// The key of one row.
pub fn key(id: u32) -> String {
    format!("{KEY_PREFIX}{id}")
}

/// What one connection sends at once, and what must come back.
#[derive(Clone)]
pub struct Template {
    /// Ready to be sent, but for the digits of its ids.
    pub bytes: Vec<u8>,
    /// Where the digits of the ids begin: [`Self::places_an_id`] in a row are the same id's.
    pub ids_at: Vec<usize>,
    /// How often each id stands in the batch.
    pub places_an_id: usize,
    /// The length of the whole reply.
    pub reply_bytes: usize,
    /// What the reply must have, and where.
    pub marks: Vec<(usize, Vec<u8>)>,
    /// How much of the reported work one batch is: requests of a pipeline, or keys of an `MGET`.
    pub units: u64,
}

impl Template {
    /// A pipeline of `depth` `GET`s.
    pub fn get(depth: usize) -> Self {
        let mut template = Self::empty(depth);
        for _ in 0..depth {
            template.bytes.extend(b"*2\r\n$3\r\nGET\r\n");
            template.push_key();
            template.expect_value();
        }
        template
    }

    /// One `MGET` of `keys` keys.
    pub fn mget(keys: usize) -> Self {
        let mut template = Self::empty(keys);
        let words = keys + 1;
        template
            .bytes
            .extend(format!("*{words}\r\n$4\r\nMGET\r\n").bytes());
        template.expect(format!("*{keys}\r\n").as_bytes());
        for _ in 0..keys {
            template.push_key();
            template.expect_value();
        }
        template
    }

    /// What a cold read of `keys` keys asks of Redis, with no daemon and no database: the two scripts, by their hashes, and
    /// values that are made up.
    pub fn lease_and_fill(keys: usize, acquire: &str, end: &str) -> Self {
        const TOKEN: &str = "0123456789abcdef";
        const LIFE_MS: &str = "3600000";
        let value = "v".repeat(VALUE_BYTES);
        let mut template = Self::empty(keys);
        let mut places = vec![Vec::new(); keys];
        // How many keys, the one that names an index of values included, and arguments.
        for (script, named, args) in [
            (acquire, 1 + 2 * keys, 2),
            (end, 2 + 2 * keys, 2 + 2 * keys),
        ] {
            // EVALSHA, the script, the number of its keys: the leases' index, the values, their leases.
            let words = 3 + named + args;
            template.bytes.extend(format!("*{words}\r\n").bytes());
            template.push_words(&["EVALSHA", script, &named.to_string()]);
            template.push_words(&["cachewarden:leases"]);
            for (before, after) in [("", ""), ("{", "}:lease")] {
                for places in &mut places {
                    places.push(template.push_id(before, after));
                }
            }
            if script == acquire {
                template.push_words(&[LIFE_MS, TOKEN]);
            } else {
                template.push_words(&["cachewarden:index:{none}", TOKEN]);
                for _ in 0..keys {
                    template.push_words(&[LIFE_MS, &value]);
                }
                // No index is kept.
                template.push_words(&["0"]);
            }
            template.expect(format!("*{keys}\r\n").as_bytes());
            template.expect(":1\r\n".repeat(keys).as_bytes());
        }
        template.ids_at = places.concat();
        template.places_an_id = template.ids_at.len() / keys;
        template
    }

    /// One `PING`.
    pub fn ping() -> Self {
        let mut template = Self::empty(1);
        template.bytes.extend(b"*1\r\n$4\r\nPING\r\n");
        template.expect(b"+PONG\r\n");
        template
    }

    fn empty(units: usize) -> Self {
        Self {
            bytes: Vec::new(),
            ids_at: Vec::new(),
            places_an_id: 1,
            reply_bytes: 0,
            marks: Vec::new(),
            units: units as u64,
        }
    }

    fn push_key(&mut self) {
        let at = self.push_id("", "");
        self.ids_at.push(at);
    }

    /// A key between `before` and `after`; gives where its id begins.
    fn push_id(&mut self, before: &str, after: &str) -> usize {
        let length = before.len() + KEY_PREFIX.len() + ID_DIGITS + after.len();
        self.bytes
            .extend(format!("${length}\r\n{before}{KEY_PREFIX}").bytes());
        let at = self.bytes.len();
        self.bytes.extend([b'0'; ID_DIGITS]);
        self.bytes.extend(format!("{after}\r\n").bytes());
        at
    }

    fn push_words(&mut self, words: &[&str]) {
        for word in words {
            self.bytes
                .extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
        }
    }

    fn expect(&mut self, mark: &[u8]) {
        self.marks.push((self.reply_bytes, mark.to_vec()));
        self.reply_bytes += mark.len();
    }

    fn expect_value(&mut self) {
        self.expect(format!("${VALUE_BYTES}\r\n").as_bytes());
        self.reply_bytes += VALUE_BYTES + b"\r\n".len();
    }

    /// Puts the next ids in place; `false` when there are not enough left.
    pub fn fill(&mut self, ids: &mut Ids) -> bool {
        for places in self.ids_at.chunks(self.places_an_id) {
            let Some(id) = ids.next() else {
                return false;
            };
            for at in places {
                let mut left = id;
                for digit in self.bytes[*at..at + ID_DIGITS].iter_mut().rev() {
                    // A digit fits a byte.
                    *digit = b'0' + (left % 10) as u8;
                    left /= 10;
                }
            }
        }
        true
    }
}

/// Which rows one connection asks for.
pub enum Ids {
    /// Any of a range, drawn at random; the seed makes every run ask for the same.
    Any {
        /// This connection's own generator.
        random: fastrand::Rng,
        /// From which ids.
        of: Range<u32>,
    },
    /// Each of a range once, over all connections.
    Each {
        /// How many were drawn so far.
        drawn: Arc<AtomicU32>,
        /// From which ids.
        of: Range<u32>,
    },
    /// Always the same.
    One(u32),
}

impl Ids {
    fn next(&mut self) -> Option<u32> {
        match self {
            Self::Any { random, of } => Some(random.u32(of.clone())),
            Self::Each { drawn, of } => {
                let size = of.end - of.start;
                let place = drawn.fetch_add(1, Ordering::Relaxed);
                // Below `size`, so it fits again.
                (place < size)
                    .then(|| of.start + (u64::from(place) * STRIDE % u64::from(size)) as u32)
            }
            Self::One(id) => Some(*id),
        }
    }
}

/// How the ids of a run are drawn.
#[derive(Clone)]
pub enum Draw {
    /// See [`Ids::Any`].
    Any(Range<u32>),
    /// See [`Ids::Each`].
    Each(Range<u32>),
    /// See [`Ids::One`].
    One(u32),
}

impl Draw {
    /// One generator a connection.
    pub fn split(&self, connections: usize) -> Vec<Ids> {
        let drawn = Arc::new(AtomicU32::new(0));
        (0..connections)
            .map(|connection| match self {
                Self::Any(of) => Ids::Any {
                    random: fastrand::Rng::with_seed(connection as u64),
                    of: of.clone(),
                },
                Self::Each(of) => Ids::Each {
                    drawn: Arc::clone(&drawn),
                    of: of.clone(),
                },
                Self::One(id) => Ids::One(*id),
            })
            .collect()
    }
}
