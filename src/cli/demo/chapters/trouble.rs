//! What goes on when a server does not.

use super::super::steps::{Act, Chapter, Found, Want, reading, step, until};
use super::sharing::{API_UNTOUCHED, LOGIN_REFUSED};
use super::{COURSE_42, COURSE_43};
use Act::{Ask, AskRedis, Break, Sql};
use Found::Hit;

/// What is left of a product's life in Redis decides what it is worth: an hour is there for trouble, and in the first ten minutes
/// of that hour it is answered at once.
const OLD: Act = AskRedis(&["PEXPIRE", "products:3", "3300000"]);
const VERY_OLD: Act = AskRedis(&["PEXPIRE", "products:3", "1800000"]);

pub(super) const TROUBLE: &[Chapter] = &[
    Chapter {
        title: "An old value is answered at once, and loaded anew behind that",
        steps: &[
            step(
                Ask(&["GET", "products:3"]),
                Want::Row("SELECT id, kind, name, price_cents, stock FROM products WHERE id = 3"),
            ),
            step(
                Sql("UPDATE products SET stock = stock - 1 WHERE id = 3"),
                Want::Nothing,
            ),
            step(OLD, Want::Int(1)),
            step(
                Ask(&["CACHE.GET", "products:3"]),
                Want::Fields(&[
                    ("state", Want::Text("stale")),
                    (
                        "value",
                        Want::Row(
                            "SELECT id, kind, name, price_cents, stock + 1 AS stock FROM products WHERE id = 3",
                        ),
                    ),
                ]),
            ),
            until(step(
                Ask(&["CACHE.GET", "products:3"]),
                Want::Fields(&[
                    ("state", Want::Text("hit")),
                    (
                        "value",
                        Want::Row(
                            "SELECT id, kind, name, price_cents, stock FROM products WHERE id = 3",
                        ),
                    ),
                ]),
            )),
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
        title: "Postgres is stopped: an old value rather than an error, and what is written behind waits",
        steps: &[
            step(
                Ask(&["GET", "products:3"]),
                Want::Row("SELECT id, kind, name, price_cents, stock FROM products WHERE id = 3"),
            ),
            step(VERY_OLD, Want::Int(1)),
            step(
                Break("stop Postgres", |shop| shop.postgres.stop()),
                Want::Nothing,
            ),
            step(Ask(&["GET", "products:3"]), Want::AsBefore),
            step(
                Ask(&["CACHE.GET", "products:3"]),
                Want::Fields(&[("state", Want::Text("stale"))]),
            ),
            // There is no old value of this one.
            step(Ask(&["GET", "products:4"]), Want::Error("LOADFAIL")),
            step(
                Ask(&["SET", "progress:7:43", "{\"minute\":5}"]),
                Want::Text("OK"),
            ),
            step(Ask(&["GET", "progress:7:43"]), Want::Text("{\"minute\":5}")),
            until(step(
                AskRedis(&["XLEN", "cachewarden:journal"]),
                Want::Int(1),
            )),
            step(
                Break("start Postgres", |shop| shop.postgres.start_again()),
                Want::Nothing,
            ),
            until(step(
                Sql("SELECT minute FROM progress WHERE user_id = 7 AND course_id = 43"),
                Want::Text("5"),
            )),
            until(step(
                Ask(&["GET", "products:4"]),
                Want::Row("SELECT id, kind, name, price_cents, stock FROM products WHERE id = 4"),
            )),
            until(step(
                Ask(&["CACHE.GET", "products:3"]),
                Want::Fields(&[("state", Want::Text("hit"))]),
            )),
        ],
    },
    Chapter {
        title: "Redis dies: Postgres answers, limits do what they say; Redis is back with what it had: caching resumes by itself",
        steps: &[
            step(Break("kill Redis", |shop| shop.redis.kill()), Want::Nothing),
            step(Ask(&["GET", "courses:42"]), COURSE_42),
            step(Ask(&["GET", "courses:43"]), COURSE_43),
            // Each limit says what it does without Redis.
            step(Ask(&["RATE.CHECK", "api", "ann"]), API_UNTOUCHED),
            step(Ask(&["RATE.CHECK", "login", "ann"]), LOGIN_REFUSED),
            step(
                Ask(&["LOCK.ACQUIRE", "reports", "60000"]),
                Want::Error("UNAVAILABLE"),
            ),
            // Nothing is acknowledged that nobody keeps.
            step(
                Ask(&["SET", "progress:7:43", "{\"minute\":6}"]),
                Want::Error("UNAVAILABLE"),
            ),
            step(
                Break("start Redis", |shop| shop.redis.start_again()),
                Want::Nothing,
            ),
            until(step(
                Ask(&["CACHE.GET", "courses:43"]),
                Want::Fields(&[("state", Want::Text("hit"))]),
            )),
            step(AskRedis(&["GET", "courses:43"]), COURSE_43),
            step(Ask(&["GET", "sess:7f3a"]), Want::Text("{\"user\": 7}")),
        ],
    },
];
