//! What the demo shows, as data: the tour walks it and checks it, the invitation prints it.

use std::fmt;

use super::servers::ServerError;
use super::shop::Shop;

/// A few steps that show one thing.
pub(super) struct Chapter {
    pub(super) title: &'static str,
    pub(super) steps: &'static [Step],
}

/// Something to do, and what must come of it.
pub(super) struct Step {
    pub(super) act: Act,
    pub(super) want: Want,
    /// Whether the value must have been in Redis before the step.
    pub(super) found: Option<Found>,
}

pub(super) enum Act {
    /// A command for the daemon.
    Ask(&'static [&'static str]),
    /// The same, again and again until the answer is as wanted: for what heals by itself.
    AskUntil(&'static [&'static str]),
    /// A command for Redis itself, past the daemon.
    AskRedis(&'static [&'static str]),
    /// A statement for Postgres, past the daemon.
    Sql(&'static str),
    /// Something is done to a server.
    Break(&'static str, fn(&mut Shop) -> Result<(), ServerError>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Hit,
    Miss,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
        })
    }
}

/// What an answer must be. SQL is asked of Postgres itself, after the answer: that is the truth.
#[derive(Debug)]
pub(super) enum Want {
    /// The one row of this query, as JSON.
    Row(&'static str),
    /// All rows of this query, as a JSON array.
    Rows(&'static str),
    /// The one value of this query, as JSON.
    Scalar(&'static str),
    /// What the same command gave the last time.
    AsBefore,
    /// This very text.
    Text(&'static str),
    /// This very number.
    Int(i64),
    /// A number from the first to the last.
    Between(i64, i64),
    Nil,
    /// An error that begins with this; of SQL, too.
    Error(&'static str),
    /// A list of answers, each as wanted.
    Each(&'static [Want]),
    /// A map that has (at least) these.
    Fields(&'static [(&'static str, Want)]),
    /// Nothing is answered.
    Nothing,
}

use Act::{Ask, AskRedis, AskUntil, Break, Sql};
use Found::{Hit, Miss};

/// The shape of `courses:{id}`; two answers to compare with.
const COURSE_42: Want =
    Want::Row("SELECT id, slug, title, price_cents, published FROM courses WHERE id = 42");
const COURSE_43: Want =
    Want::Row("SELECT id, slug, title, price_cents, published FROM courses WHERE id = 43");

const fn step(act: Act, want: Want) -> Step {
    Step {
        act,
        want,
        found: None,
    }
}

const fn reading(found: Found, words: &'static [&'static str], want: Want) -> Step {
    Step {
        act: Ask(words),
        want,
        found: Some(found),
    }
}

/// Who acquires locks brings tokens along, so that the commands can be copied; without them one is made up.
const ANN: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const BOB: &str = "bbbbbbbb-0000-4000-8000-000000000002";
/// Two windows of ten minutes: after them, what was counted in the first counts for nothing.
const WINDOWS_MS: Want = Want::Between(1, 1_200_000);
const LOGIN_REFUSED: Want = Want::Each(&[
    Want::Int(0),
    Want::Int(2),
    Want::Int(0),
    WINDOWS_MS,
    WINDOWS_MS,
    Want::Text("login"),
]);

/// Everything, in the order of the tour.
pub(super) const CHAPTERS: &[Chapter] = &[
    Chapter {
        title: "A row is read from Postgres once, then from Redis",
        steps: &[
            reading(Miss, &["GET", "courses:42"], COURSE_42),
            reading(Hit, &["GET", "courses:42"], COURSE_42),
            // Ten minutes, less up to a tenth: not everything expires at once.
            step(Ask(&["TTL", "courses:42"]), Want::Between(530, 600)),
            // Plain bytes under the plain key: any program may read them.
            step(AskRedis(&["GET", "courses:42"]), COURSE_42),
        ],
    },
    Chapter {
        title: "CACHE.GET tells where the answer came from",
        steps: &[
            reading(
                Miss,
                &["CACHE.GET", "user:7"],
                Want::Fields(&[
                    (
                        "value",
                        Want::Row("SELECT id, name, email, joined_on FROM users WHERE id = 7"),
                    ),
                    ("state", Want::Text("miss")),
                ]),
            ),
            reading(
                Hit,
                &["CACHE.GET", "user:7"],
                Want::Fields(&[
                    ("state", Want::Text("hit")),
                    ("ttl_ms", Want::Between(260_000, 300_000)),
                ]),
            ),
        ],
    },
    Chapter {
        title: "Lists, pages, counts, and a new shape beside the old one",
        steps: &[
            reading(
                Miss,
                &["GET", "courses:slug:sql-42"],
                Want::Row(
                    "SELECT id, slug, title, price_cents, published FROM courses WHERE slug = 'sql-42'",
                ),
            ),
            reading(
                Miss,
                &["GET", "products:list:mug"],
                Want::Rows(
                    "SELECT id, name, price_cents FROM products WHERE kind = 'mug' ORDER BY id LIMIT 50",
                ),
            ),
            reading(
                Miss,
                &["GET", "users:page:2:limit:3"],
                Want::Rows("SELECT id, name FROM users ORDER BY id LIMIT 3 OFFSET 3"),
            ),
            reading(
                Miss,
                &["GET", "orders:list:7920:page:1"],
                Want::Rows(
                    "SELECT id, status, placed_at FROM orders WHERE user_id = 7920 ORDER BY id DESC LIMIT 20",
                ),
            ),
            // Nothing bought is an empty list, not a missing row.
            reading(Miss, &["GET", "user:20:purchases"], Want::Text("[]")),
            reading(
                Miss,
                &["GET", "courses:count"],
                Want::Scalar("SELECT count(*) FROM courses"),
            ),
            reading(
                Miss,
                &["GET", "v2:courses:42"],
                Want::Row(
                    "SELECT id, slug, title, level, json_build_object('cents', price_cents, 'currency', 'EUR') AS price \
                     FROM courses WHERE id = 42",
                ),
            ),
        ],
    },
    Chapter {
        title: "Many keys at once: hits from Redis, all misses of a cache in one query",
        steps: &[step(
            Ask(&[
                "MGET",
                "courses:42",
                "courses:43",
                "courses:987654321",
                "products:3",
            ]),
            Want::Each(&[
                COURSE_42,
                COURSE_43,
                Want::Nil,
                Want::Row("SELECT id, kind, name, price_cents, stock FROM products WHERE id = 3"),
            ]),
        )],
    },
    Chapter {
        title: "A row that does not exist is remembered, so that nobody can flood Postgres with it",
        steps: &[
            step(Ask(&["GET", "courses:99999999"]), Want::Nil),
            step(AskRedis(&["GET", "courses:99999999"]), Want::Text("null")),
            step(Ask(&["EXISTS", "courses:99999999"]), Want::Int(0)),
        ],
    },
    Chapter {
        title: "Bad input never reaches Postgres, and is told apart from missing data",
        steps: &[
            // One row, one spelling: another one would escape its invalidation.
            step(Ask(&["GET", "courses:007"]), Want::Error("BADKEY")),
            step(
                Ask(&["GET", "users:page:1:limit:5000"]),
                Want::Error("BADKEY"),
            ),
            step(
                Ask(&["GET", "nothing:here"]),
                Want::Error("ERR no cache is declared"),
            ),
            step(Ask(&["SET", "courses:42", "{}"]), Want::Error("READONLY")),
        ],
    },
    Chapter {
        title: "A change is seen when the key is invalidated",
        steps: &[
            step(
                Sql("UPDATE courses SET price_cents = price_cents + 100 WHERE id = 42"),
                Want::Nothing,
            ),
            reading(Hit, &["GET", "courses:42"], Want::AsBefore),
            step(Ask(&["CACHE.INVALIDATE", "courses:42"]), Want::Int(1)),
            reading(Miss, &["GET", "courses:42"], COURSE_42),
        ],
    },
    Chapter {
        title: "A lock is held by one, and has a number, its fence: Postgres refuses whoever has lost it",
        steps: &[
            step(
                Ask(&["LOCK.ACQUIRE", "reports", "60000", "TOKEN", ANN]),
                Want::Each(&[Want::Text(ANN), Want::Int(1)]),
            ),
            step(
                Ask(&["LOCK.ACQUIRE", "reports", "60000", "TOKEN", BOB]),
                Want::Nil,
            ),
            step(
                Ask(&["LOCK.INFO", "reports"]),
                Want::Fields(&[("held", Want::Int(1)), ("fence", Want::Int(1))]),
            ),
            step(Ask(&["LOCK.RELEASE", "reports", ANN]), Want::Int(1)),
            step(
                Ask(&["LOCK.ACQUIRE", "reports", "60000", "TOKEN", BOB]),
                Want::Each(&[Want::Text(BOB), Want::Int(2)]),
            ),
            step(
                Sql(
                    "BEGIN; SELECT cachewarden.fence('reports', 2); UPDATE courses SET level = 'revised' WHERE id = 50; COMMIT",
                ),
                Want::Nothing,
            ),
            // Whoever had the lock before, and has slept since.
            step(
                Sql(
                    "BEGIN; SELECT cachewarden.fence('reports', 1); UPDATE courses SET level = 'late' WHERE id = 50; COMMIT",
                ),
                Want::Error("the lock of 'reports' was acquired again since"),
            ),
            reading(
                Miss,
                &["GET", "v2:courses:50"],
                Want::Row(
                    "SELECT id, slug, title, 'revised' AS level, json_build_object('cents', price_cents, 'currency', 'EUR') AS price \
                     FROM courses WHERE id = 50",
                ),
            ),
            step(Ask(&["LOCK.RELEASE", "reports", BOB]), Want::Int(1)),
        ],
    },
    Chapter {
        title: "A limit: allowed or not, of how many, how many are left, in how many milliseconds to ask again, and all is forgotten",
        steps: &[
            step(
                Ask(&["RATE.CHECK", "login", "mallory"]),
                Want::Each(&[
                    Want::Int(1),
                    Want::Int(2),
                    Want::Int(1),
                    Want::Int(0),
                    WINDOWS_MS,
                    Want::Text(""),
                ]),
            ),
            step(
                Ask(&["RATE.CHECK", "login", "mallory"]),
                Want::Each(&[
                    Want::Int(1),
                    Want::Int(2),
                    Want::Int(0),
                    Want::Int(0),
                    WINDOWS_MS,
                    Want::Text(""),
                ]),
            ),
            step(Ask(&["RATE.CHECK", "login", "mallory"]), LOGIN_REFUSED),
            // Several limits: all let it through, or none takes anything.
            step(Ask(&["RATE.CHECK", "api,login", "mallory"]), LOGIN_REFUSED),
            step(
                Ask(&["RATE.PEEK", "api", "mallory"]),
                Want::Each(&[
                    Want::Int(1),
                    Want::Int(5),
                    Want::Int(5),
                    Want::Int(0),
                    Want::Int(0),
                    Want::Text(""),
                ]),
            ),
            step(Ask(&["RATE.RESET", "login", "mallory"]), Want::Int(1)),
            step(
                Ask(&["RATE.PEEK", "login", "mallory"]),
                Want::Each(&[
                    Want::Int(1),
                    Want::Int(2),
                    Want::Int(2),
                    Want::Int(0),
                    Want::Int(0),
                    Want::Text(""),
                ]),
            ),
        ],
    },
    Chapter {
        title: "Postgres hangs: hits go on",
        steps: &[
            step(
                Break("freeze Postgres", |shop| shop.postgres.freeze().map(drop)),
                Want::Nothing,
            ),
            reading(Hit, &["GET", "courses:42"], Want::AsBefore),
            step(
                Break("thaw Postgres", |shop| shop.postgres.thaw()),
                Want::Nothing,
            ),
        ],
    },
    Chapter {
        title: "Redis dies: Postgres answers, limits do what they say; Redis is back, empty: caching resumes by itself",
        steps: &[
            step(Break("kill Redis", |shop| shop.redis.kill()), Want::Nothing),
            step(Ask(&["GET", "courses:42"]), COURSE_42),
            step(Ask(&["GET", "courses:43"]), COURSE_43),
            // Each limit says what it does without Redis.
            step(
                Ask(&["RATE.CHECK", "api", "ann"]),
                Want::Each(&[
                    Want::Int(1),
                    Want::Int(5),
                    Want::Int(5),
                    Want::Int(0),
                    Want::Int(0),
                    Want::Text(""),
                ]),
            ),
            step(Ask(&["RATE.CHECK", "login", "ann"]), LOGIN_REFUSED),
            step(
                Ask(&["LOCK.ACQUIRE", "reports", "60000"]),
                Want::Error("UNAVAILABLE"),
            ),
            step(
                Break("start Redis", |shop| shop.redis.start_again()),
                Want::Nothing,
            ),
            step(
                AskUntil(&["CACHE.GET", "courses:43"]),
                Want::Fields(&[("state", Want::Text("hit"))]),
            ),
            step(AskRedis(&["GET", "courses:43"]), COURSE_43),
        ],
    },
];
