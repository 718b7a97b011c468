//! What goes on when a server does not.

use super::super::steps::{Act, Chapter, Found, Want, reading, step, until};
use super::sharing::LOGIN_REFUSED;
use super::{COURSE_42, COURSE_43};
use Act::{Ask, AskRedis, Break};
use Found::Hit;

pub(super) const TROUBLE: &[Chapter] = &[
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
            until(step(
                Ask(&["CACHE.GET", "courses:43"]),
                Want::Fields(&[("state", Want::Text("hit"))]),
            )),
            step(AskRedis(&["GET", "courses:43"]), COURSE_43),
        ],
    },
];
