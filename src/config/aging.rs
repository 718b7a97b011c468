//! What becomes of values that age, of keys that few ask for, and of those that many do.

use super::reader::Reader;
use super::value::Checked;
use std::time::Duration;

/// The part of `load_timeout` after which the stale value is answered where no `soft_timeout` is declared: before the read's
/// own time is up.
const DEFAULT_SOFT_PART: (u32, u32) = (3, 4);

/// The life of a cache's values, beside their `ttl`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aging {
    /// After `ttl` the old value is answered at once for so long, and refreshed behind it.
    pub stale_while_revalidate: Duration,
    /// After `ttl` the old value is answered for so long when it cannot be loaded.
    pub stale_if_error: Duration,
    /// Whether an invalidated value is answered as well, while Postgres is down.
    pub stale_if_error_after_invalidation: bool,
    /// A load that takes longer has the stale value answered, if there is one.
    pub soft_timeout: Duration,
    /// Whether hot keys are refreshed before they expire.
    pub early_refresh: bool,
    /// A key is cached from its so many-th request on.
    pub admit_after: u32,
    /// Lives of keys that were asked for so often, ascending; below the first it is `ttl`.
    pub ttl_by_hits: Vec<(u32, Duration)>,
}

/// Reads it.
pub(super) fn aging(reader: &mut Reader<'_>, table: &Checked, load_timeout: Duration) -> Aging {
    let (part, of) = DEFAULT_SOFT_PART;
    let aging = Aging {
        stale_while_revalidate: table.duration("stale_while_revalidate").unwrap_or_default(),
        stale_if_error: table.duration("stale_if_error").unwrap_or_default(),
        stale_if_error_after_invalidation: table
            .flag("stale_if_error_after_invalidation")
            .unwrap_or_default(),
        soft_timeout: table
            .duration("soft_timeout")
            .unwrap_or(load_timeout * part / of),
        early_refresh: table.flag("early_refresh").unwrap_or_default(),
        admit_after: table.count("admit_after").map_or(1, small),
        ttl_by_hits: ttl_by_hits(reader, table),
    };
    check_errors(reader, table, &aging, load_timeout);
    aging
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn ttl_by_hits(reader: &mut Reader<'_>, table: &Checked) -> Vec<(u32, Duration)> {
    let mut steps: Vec<(u32, Duration)> = Vec::new();
    for step in table.tables("ttl_by_hits") {
        let (Some(hits), Some(ttl)) = (step.count("hits").map(small), step.duration("ttl")) else {
            // Told already.
            continue;
        };
        if steps.last().is_some_and(|(before, _)| *before >= hits) {
            let message = format!("`hits = {hits}` does not come after the step before it");
            let help = "write the steps by ascending `hits`, each number once";
            let span = step.span_of("hits").unwrap_or_else(|| step.span.clone());
            reader.fault(span, message, help);
        }
        steps.push((hits, ttl));
    }
    steps
}

fn check_errors(reader: &mut Reader<'_>, table: &Checked, aging: &Aging, load_timeout: Duration) {
    let soft = aging.soft_timeout;
    if let Some(span) = table.span_of("soft_timeout") {
        if soft >= load_timeout {
            reader.fault(
                span,
                format!("`soft_timeout` {soft:?} is not below `load_timeout` {load_timeout:?}"),
                "write a soft_timeout below load_timeout",
            );
        } else if aging.stale_if_error.is_zero() {
            let message = "`soft_timeout` has no effect: without `stale_if_error` no stale value is left to be answered";
            reader.warn(&span, message);
        }
    }
    if let Some(span) = table.span_of("stale_if_error_after_invalidation")
        && aging.stale_if_error_after_invalidation
        && aging.stale_if_error.is_zero()
    {
        reader.fault(
            span,
            "`stale_if_error_after_invalidation` without `stale_if_error` says not for how long",
            "add a stale_if_error such as \"1h\"",
        );
    }
}
