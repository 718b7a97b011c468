//! What the demo shows, in the order of the tour.

mod reading;
mod sharing;
mod trouble;
mod writing;

use super::steps::{Chapter, Want};

/// Everything.
pub(super) fn all() -> impl Iterator<Item = &'static Chapter> {
    [
        reading::READING,
        writing::WRITING,
        sharing::SHARING,
        trouble::TROUBLE,
    ]
    .into_iter()
    .flatten()
}

/// The shape of `courses:{id}`; two answers to compare with.
const COURSE_42: Want =
    Want::Row("SELECT id, slug, title, price_cents, published FROM courses WHERE id = 42");
const COURSE_43: Want =
    Want::Row("SELECT id, slug, title, price_cents, published FROM courses WHERE id = 43");
