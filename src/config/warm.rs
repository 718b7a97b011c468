//! `[caches.*.warm]`: which keys of a cache are loaded before anybody asks for them, and when.

use super::caches;
use super::query::Query;
use super::reader::Reader;
use super::schedule::Schedule;
use super::value::Checked;
use crate::keyspace::KeyTemplate;
use std::ops::Range;

/// Keys a second, at most. A fifth of what one connection to Postgres was measured to load.
const DEFAULT_RATE: usize = 50_000;

/// `[caches.*.warm]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Warm {
    /// A query with a column for each of the key's parameters; `None`: the cache has no parameters, and one key, or the hottest
    /// keys are all that is warmed.
    pub keys: Option<String>,
    /// Its value in the configuration's text, quotes included.
    pub keys_span: Range<usize>,
    /// `None`: at no time of its own accord.
    pub schedule: Option<Schedule>,
    pub on_start: bool,
    /// Whether it is warmed when a sweep has removed keys of it.
    pub after_invalidation: bool,
    /// Keys a second, at most.
    pub rate: usize,
    /// So many of the keys that are asked for most are remembered in Postgres, and warmed first.
    pub hot: usize,
    /// Whether the daemon calls itself ready only when the first run is done.
    pub ready_after_warm: bool,
}

/// Reads what a cache declares; `None`: nothing, or it is faulty, and that was told.
pub(super) fn warm(
    reader: &mut Reader<'_>,
    cache: &Checked,
    key: Option<&KeyTemplate>,
) -> Option<Warm> {
    let table = cache.table("warm")?;
    let schedule = schedule(reader, table);
    let keys = keys(reader, table, key);
    let on_start = table.flag("on_start").unwrap_or(true);
    let ready_after_warm = table.flag("ready_after_warm").unwrap_or(false);
    if let (true, false, Some(span)) = (
        ready_after_warm,
        on_start,
        table.span_of("ready_after_warm"),
    ) {
        let message = "`ready_after_warm` waits for a run that `on_start = false` does not make";
        reader.fault(span, message, "leave out on_start, or ready_after_warm");
    }
    Some(Warm {
        keys_span: table.span_of("keys").unwrap_or(table.span.clone()),
        keys: keys?,
        schedule,
        on_start,
        after_invalidation: table.flag("after_invalidation").unwrap_or(false),
        rate: table.count("rate").unwrap_or(DEFAULT_RATE),
        hot: hot(reader, table, key),
        ready_after_warm,
    })
}

/// Outer `None`: it was told what is wrong.
fn keys(
    reader: &mut Reader<'_>,
    table: &Checked,
    key: Option<&KeyTemplate>,
) -> Option<Option<String>> {
    let params = key?.params();
    let Some(text) = table.text("keys") else {
        if params.is_empty() {
            return Some(None);
        }
        if table.count("hot").is_some_and(|hot| hot > 0) {
            return Some(None);
        }
        if table.is_empty_of(&["keys"]) {
            let names: Vec<&str> = params.iter().map(|param| param.name.as_str()).collect();
            let names = names.join(", ");
            let message = format!("`{}` does not say which keys", table.path);
            let help = format!("write keys = \"SELECT {names} FROM …\"");
            reader.fault(table.span.clone(), message, help);
        }
        return None;
    };
    if params.is_empty() {
        let message = "the cache has no parameters, and so one key: there are none to choose from";
        reader.fault(text.span, message, "leave out `keys`");
        return None;
    }
    match Query::parse(text.value, &[]) {
        Ok(query) => Some(Some(query.text)),
        Err(errors) => {
            caches::query_faults(reader, &text, errors);
            None
        }
    }
}

/// How many hot keys are warmed first.
fn hot(reader: &mut Reader<'_>, table: &Checked, key: Option<&KeyTemplate>) -> usize {
    let hot = table.count("hot").unwrap_or(0);
    let has_one_key = key.is_some_and(|key| key.params().is_empty());
    if let (true, true, Some(span)) = (has_one_key, hot > 0, table.span_of("hot")) {
        let message = "the cache has no parameters, and so one key: none is hotter than others";
        reader.fault(span, message, "leave out `hot`");
    }
    hot
}

fn schedule(reader: &mut Reader<'_>, table: &Checked) -> Option<Schedule> {
    let (schedule, every) = (table.text("schedule"), table.duration("every"));
    let zone = table.text("time_zone");
    match (schedule, every) {
        (Some(schedule), Some(_)) => {
            let message = "both `schedule` and `every` are given";
            reader.fault(schedule.span, message, "leave one of them");
            None
        }
        (Some(schedule), None) => {
            let name = zone.as_ref().map_or("UTC", |zone| zone.value);
            let parsed = Schedule::cron(schedule.value, name);
            // Each by itself was read before; what comes here is a zone that has gone since.
            parsed
                .map_err(|why| reader.fault(schedule.span, why, "name another time zone"))
                .ok()
        }
        (None, every) => {
            if let Some(zone) = zone.filter(|_| table.is_empty_of(&["schedule"])) {
                let message = "`time_zone` has no effect without `schedule`";
                reader.warn(&zone.span, message);
            }
            every.map(Schedule::every)
        }
    }
}
