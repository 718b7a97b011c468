//! What is changed, past the daemon and through it.

use super::super::steps::{Act, Chapter, Found, Want, detail, reading, step, until};
use super::COURSE_42;
use Act::{Ask, Sql};
use Found::{Hit, Miss};

const COURSES: Want =
    Want::Rows("SELECT id, slug, title, price_cents FROM courses ORDER BY id LIMIT 50");
const V2_COURSE_44: Want = Want::Row(
    "SELECT id, slug, title, level, json_build_object('cents', price_cents, 'currency', 'EUR') AS price \
     FROM courses WHERE id = 44",
);

pub(super) const WRITING: &[Chapter] = &[
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
        title: "What is written through the cache is in Postgres when it is answered, or nowhere",
        steps: &[
            detail(reading(Miss, &["GET", "v2:courses:44"], V2_COURSE_44)),
            detail(reading(Miss, &["GET", "courses:list:all"], COURSES)),
            step(
                Ask(&[
                    "SET",
                    "courses:44",
                    "{\"title\": \"Redis, told anew\", \"price_cents\": 4400}",
                ]),
                Want::Text("OK"),
            ),
            detail(reading(
                Miss,
                &["GET", "courses:44"],
                Want::Row(
                    "SELECT id, slug, 'Redis, told anew' AS title, 4400 AS price_cents, published FROM courses WHERE id = 44",
                ),
            )),
            // What else shows the course: a key by its name, before the answer; a pattern soon after it.
            detail(reading(Miss, &["GET", "v2:courses:44"], V2_COURSE_44)),
            detail(until(step(Ask(&["GET", "courses:list:all"]), COURSES))),
            step(
                Ask(&[
                    "SET",
                    "courses:44",
                    "{\"title\": \"Redis for nothing\", \"price_cents\": -1}",
                ]),
                Want::Error("ERR postgres refused the write of 'courses:44'"),
            ),
            detail(step(
                Sql("SELECT title FROM courses WHERE id = 44"),
                Want::Text("Redis, told anew"),
            )),
            // An evening class is cancelled.
            step(Ask(&["DEL", "events:7"]), Want::Int(1)),
            detail(step(Ask(&["GET", "events:7"]), Want::Nil)),
            detail(step(
                Sql("SELECT count(*) FROM events WHERE id = 7"),
                Want::Text("0"),
            )),
        ],
    },
    Chapter {
        title: "What is written behind is answered and read at once, and in Postgres a moment later",
        steps: &[
            step(
                Ask(&["SET", "progress:7:42", "{\"minute\":17}"]),
                Want::Text("OK"),
            ),
            step(
                Ask(&["GET", "progress:7:42"]),
                Want::Text("{\"minute\":17}"),
            ),
            detail(until(step(
                Sql("SELECT minute FROM progress WHERE user_id = 7 AND course_id = 42"),
                Want::Text("17"),
            ))),
            detail(step(Ask(&["DEL", "progress:7:42"]), Want::Int(1))),
            detail(step(Ask(&["GET", "progress:7:42"]), Want::Nil)),
            // One that Postgres refuses is told to nobody who waits: it is tried again, and then put aside with the reason.
            detail(step(
                Ask(&["SET", "progress:7:42", "{\"minute\":-1}"]),
                Want::Text("OK"),
            )),
            detail(until(step(
                Sql("SELECT key, value, sqlstate FROM cachewarden.dead_writes"),
                Want::Text("progress:7:42|{\"minute\":-1}|23514"),
            ))),
            detail(until(step(Ask(&["GET", "progress:7:42"]), Want::Nil))),
        ],
    },
];
