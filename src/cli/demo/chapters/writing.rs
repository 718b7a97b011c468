//! What is changed, past the daemon and through it.

use super::super::steps::{Act, Chapter, Found, Want, reading, step};
use super::COURSE_42;
use Act::{Ask, Sql};
use Found::{Hit, Miss};

pub(super) const WRITING: &[Chapter] = &[Chapter {
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
}];
