//! What is read: rows, lists, many keys at once, what does not exist, what is no key.

use super::super::steps::{Act, Chapter, Found, Want, detail, reading, step, until};
use super::{COURSE_42, COURSE_43};
use Act::{Ask, AskRedis, Sql};
use Found::{Hit, Miss};

const MUGS: Want = Want::Rows(
    "SELECT id, name, price_cents FROM products WHERE kind = 'mug' ORDER BY id LIMIT 50",
);

pub(super) const READING: &[Chapter] = &[
    Chapter {
        title: "A row is read from Postgres once, then from Redis",
        steps: &[
            reading(Miss, &["GET", "courses:42"], COURSE_42),
            reading(Hit, &["GET", "courses:42"], COURSE_42),
            // Ten minutes, less up to a tenth: not everything expires at once.
            detail(step(Ask(&["TTL", "courses:42"]), Want::Between(530, 600))),
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
        title: "What everybody asks for first is loaded at the start, or when a command says so",
        steps: &[
            detail(until(step(
                Ask(&["CACHE.WARMING"]),
                Want::Fields(&[(
                    "product_list",
                    Want::Fields(&[
                        ("running", Want::Int(0)),
                        ("last_cause", Want::Text("start")),
                        ("loaded", Want::Int(4)),
                        ("failed", Want::Int(0)),
                    ]),
                )]),
            ))),
            reading(Hit, &["GET", "products:list:mug"], MUGS),
            detail(step(
                Sql("UPDATE products SET price_cents = 700 WHERE id = 7"),
                Want::Nothing,
            )),
            step(
                Ask(&["CACHE.WARM", "FORCE", "product_list"]),
                Want::Fields(&[(
                    "product_list",
                    Want::Fields(&[("loaded", Want::Int(4)), ("failed", Want::Int(0))]),
                )]),
            ),
            detail(reading(Hit, &["GET", "products:list:mug"], MUGS)),
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
            detail(reading(
                Miss,
                &["GET", "users:page:2:limit:3"],
                Want::Rows("SELECT id, name FROM users ORDER BY id LIMIT 3 OFFSET 3"),
            )),
            detail(reading(
                Miss,
                &["GET", "orders:list:7920:page:1"],
                Want::Rows(
                    "SELECT id, status, placed_at FROM orders WHERE user_id = 7920 ORDER BY id DESC LIMIT 20",
                ),
            )),
            // Nothing bought is an empty list, not a missing row.
            detail(reading(
                Miss,
                &["GET", "user:20:purchases"],
                Want::Text("[]"),
            )),
            detail(reading(
                Miss,
                &["GET", "courses:count"],
                Want::Scalar("SELECT count(*) FROM courses"),
            )),
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
            detail(step(Ask(&["EXISTS", "courses:99999999"]), Want::Int(0))),
        ],
    },
    Chapter {
        title: "Bad input never reaches Postgres, and is told apart from missing data",
        steps: &[
            // One row, one spelling: another one would escape its invalidation.
            step(Ask(&["GET", "courses:007"]), Want::Error("BADKEY")),
            detail(step(
                Ask(&["GET", "users:page:1:limit:5000"]),
                Want::Error("BADKEY"),
            )),
            detail(step(
                Ask(&["GET", "nothing:here"]),
                Want::Error("ERR no cache is declared"),
            )),
            detail(step(Ask(&["SET", "user:7", "{}"]), Want::Error("READONLY"))),
        ],
    },
];
