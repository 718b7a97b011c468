//! What programs share that is no cache: plain keys, locks and limits.

use super::super::steps::{Act, Chapter, Found, Want, detail, reading, step};
use Act::{Ask, AskRedis, Sql};
use Found::Miss;

/// Who acquires locks brings tokens along, so that the commands can be copied; without them one is made up.
const ANN: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const BOB: &str = "bbbbbbbb-0000-4000-8000-000000000002";
/// The daemon's own locks, of its journal and its warmups, take numbers, too: the last one is known to the database only.
const A_FENCE: Want = Want::Between(1, i64::MAX);
/// Two windows of ten minutes: after them, what was counted in the first counts for nothing.
const WINDOWS_MS: Want = Want::Between(1, 1_200_000);
/// Nothing was taken from the limit `api`.
pub(super) const API_UNTOUCHED: Want = Want::Each(&[
    Want::Int(1),
    Want::Int(5),
    Want::Int(5),
    Want::Int(0),
    Want::Int(0),
    Want::Text(""),
]);

pub(super) const LOGIN_REFUSED: Want = Want::Each(&[
    Want::Int(0),
    Want::Int(2),
    Want::Int(0),
    WINDOWS_MS,
    WINDOWS_MS,
    Want::Text("login"),
]);

pub(super) const SHARING: &[Chapter] = &[
    Chapter {
        title: "A session has no row: plain keys go to Redis as they are, and none stays without an expiry",
        steps: &[
            step(
                Ask(&["SET", "sess:7f3a", "{\"user\": 7}"]),
                Want::Text("OK"),
            ),
            // Seven days, to the second.
            step(Ask(&["TTL", "sess:7f3a"]), Want::Between(604_500, 604_800)),
            detail(step(Ask(&["INCR", "sess:7f3a:pages"]), Want::Int(1))),
            detail(step(
                Ask(&["TTL", "sess:7f3a:pages"]),
                Want::Between(604_500, 604_800),
            )),
            detail(step(
                Ask(&["SET", "sess:7f3b", "{\"user\": 8}", "EX", "60"]),
                Want::Text("OK"),
            )),
            detail(step(Ask(&["TTL", "sess:7f3b"]), Want::Between(1, 60))),
            detail(step(
                Ask(&["CACHE.INVALIDATE", "sess:*"]),
                Want::Error("BADPATTERN"),
            )),
            detail(step(
                AskRedis(&["GET", "sess:7f3a"]),
                Want::Text("{\"user\": 7}"),
            )),
        ],
    },
    Chapter {
        title: "A lock is held by one, and has a number, its fence: Postgres refuses whoever has lost it",
        steps: &[
            step(
                Ask(&["LOCK.ACQUIRE", "reports", "60000", "TOKEN", ANN]),
                Want::Each(&[Want::Text(ANN), A_FENCE]),
            ),
            detail(step(
                Ask(&["LOCK.ACQUIRE", "reports", "60000", "TOKEN", BOB]),
                Want::Nil,
            )),
            detail(step(
                Ask(&["LOCK.INFO", "reports"]),
                Want::Fields(&[("held", Want::Int(1)), ("fence", A_FENCE)]),
            )),
            step(Ask(&["LOCK.RELEASE", "reports", ANN]), Want::Int(1)),
            step(
                Ask(&["LOCK.ACQUIRE", "reports", "60000", "TOKEN", BOB]),
                Want::Each(&[Want::Text(BOB), A_FENCE]),
            ),
            step(
                Sql(
                    "BEGIN; SELECT cachewarden.fence('reports', last_value) FROM cachewarden.fence_tokens; UPDATE courses SET level = 'revised' WHERE id = 50; COMMIT",
                ),
                Want::Nothing,
            ),
            // Whoever had the lock before, and has slept since.
            step(
                Sql(
                    "BEGIN; SELECT cachewarden.fence('reports', last_value - 1) FROM cachewarden.fence_tokens; UPDATE courses SET level = 'late' WHERE id = 50; COMMIT",
                ),
                Want::Error("the lock of 'reports' was acquired again since"),
            ),
            detail(reading(
                Miss,
                &["GET", "v2:courses:50"],
                Want::Row(
                    "SELECT id, slug, title, 'revised' AS level, json_build_object('cents', price_cents, 'currency', 'EUR') AS price \
                     FROM courses WHERE id = 50",
                ),
            )),
            detail(step(Ask(&["LOCK.RELEASE", "reports", BOB]), Want::Int(1))),
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
            detail(step(
                Ask(&["RATE.CHECK", "api,login", "mallory"]),
                LOGIN_REFUSED,
            )),
            detail(step(Ask(&["RATE.PEEK", "api", "mallory"]), API_UNTOUCHED)),
            detail(step(Ask(&["RATE.RESET", "login", "mallory"]), Want::Int(1))),
            detail(step(
                Ask(&["RATE.PEEK", "login", "mallory"]),
                Want::Each(&[
                    Want::Int(1),
                    Want::Int(2),
                    Want::Int(2),
                    Want::Int(0),
                    Want::Int(0),
                    Want::Text(""),
                ]),
            )),
        ],
    },
];
