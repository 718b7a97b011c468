//! Reading single values: durations, sizes, percentages, schedules; and what was read, by key.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use super::schema::Kind;

/// A value with its place in the text, quotes included.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub value: T,
    pub span: Range<usize>,
}

/// A value that is what its [`Kind`] asks for.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Texts(Vec<Located<String>>),
    Flag(bool),
    /// Counts, and sizes in bytes.
    Number(i64),
    Ratio(f64),
    Duration(Duration),
    Table(Checked),
    Tables(Vec<Checked>),
    Columns(Vec<(Located<String>, Located<String>)>),
    Named(Vec<Named>),
}

/// A section under a name of the user's choice.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub name: Located<String>,
    pub table: Checked,
}

/// A section of which every value that is there is as its schema says.
#[derive(Clone, Debug, Default)]
pub(super) struct Checked {
    /// The section's name in messages, such as `caches.course`.
    pub path: String,
    /// The name of the section where it is opened.
    pub span: Range<usize>,
    /// Keys that are there with a value that was refused, and so are not missing.
    pub refused: Vec<&'static str>,
    pub values: BTreeMap<&'static str, Located<Value>>,
}

impl Checked {
    /// Whether none of `keys` is there, not even with a refused value.
    pub fn is_empty_of(&self, keys: &[&str]) -> bool {
        keys.iter()
            .all(|key| !self.values.contains_key(key) && !self.refused.contains(key))
    }

    pub fn span_of(&self, key: &str) -> Option<Range<usize>> {
        self.values.get(key).map(|located| located.span.clone())
    }

    pub fn text(&self, key: &str) -> Option<Located<&str>> {
        let located = self.values.get(key)?;
        match &located.value {
            Value::Text(text) => Some(Located {
                value: text,
                span: located.span.clone(),
            }),
            _ => None,
        }
    }

    pub fn texts(&self, key: &str) -> Option<&[Located<String>]> {
        match &self.values.get(key)?.value {
            Value::Texts(texts) => Some(texts),
            _ => None,
        }
    }

    pub fn flag(&self, key: &str) -> Option<bool> {
        match self.values.get(key)?.value {
            Value::Flag(flag) => Some(flag),
            _ => None,
        }
    }

    pub fn number(&self, key: &str) -> Option<i64> {
        match self.values.get(key)?.value {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    /// A count or size; its range in the schema holds no negative numbers.
    pub fn count(&self, key: &str) -> Option<usize> {
        self.number(key)
            .and_then(|number| usize::try_from(number).ok())
    }

    pub fn ratio(&self, key: &str) -> Option<f64> {
        match self.values.get(key)?.value {
            Value::Ratio(ratio) => Some(ratio),
            _ => None,
        }
    }

    pub fn duration(&self, key: &str) -> Option<Duration> {
        match self.values.get(key)?.value {
            Value::Duration(duration) => Some(duration),
            _ => None,
        }
    }

    pub fn table(&self, key: &str) -> Option<&Checked> {
        match &self.values.get(key)?.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    pub fn tables(&self, key: &str) -> &[Checked] {
        match self.values.get(key).map(|located| &located.value) {
            Some(Value::Tables(tables)) => tables,
            _ => &[],
        }
    }

    /// Names with texts, each in its place.
    pub fn columns(&self, key: &str) -> &[(Located<String>, Located<String>)] {
        match self.values.get(key).map(|located| &located.value) {
            Some(Value::Columns(columns)) => columns,
            _ => &[],
        }
    }

    pub fn named(&self, key: &str) -> &[Named] {
        match self.values.get(key).map(|located| &located.value) {
            Some(Value::Named(named)) => named,
            _ => &[],
        }
    }
}

impl Kind {
    /// What a value must be, for messages.
    pub fn wants(self) -> String {
        match self {
            Kind::Text => "a text in quotes".into(),
            Kind::Texts => "a list of texts".into(),
            Kind::Flag => "true or false, without quotes".into(),
            Kind::Count { min: i64::MIN, .. } => "a whole number, without quotes".into(),
            Kind::Count { min, max: i64::MAX } => {
                format!("a whole number from {min}, without quotes")
            }
            Kind::Count { min, max } => {
                format!("a whole number from {min} to {max}, without quotes")
            }
            Kind::Duration { min, max, zero } => {
                let zero = if zero { ", or \"0s\"" } else { "" };
                format!("a duration from {} to {}{zero}", show_ms(min), show_ms(max))
            }
            Kind::Size { min, max } => {
                format!("a size from {} to {}", show_bytes(min), show_bytes(max))
            }
            Kind::Percent { max } => format!("a percentage from \"0%\" to \"{max}%\""),
            Kind::Ratio => "a number from 0 to 1, without quotes".into(),
            Kind::Choice(words) => format!("one of {}", quoted(words)),
            Kind::Schedule => {
                "a cron expression with seconds: second minute hour day month weekday".into()
            }
            Kind::TimeZone => "a time zone such as \"UTC\" or \"Europe/Berlin\"".into(),
            Kind::Table(_) | Kind::Columns => "a table".into(),
            Kind::Tables(_) => "a list of tables".into(),
            Kind::Named(_) => "a table of named sections".into(),
        }
    }

    /// Reads a text of a kind that is written as text.
    ///
    /// # Errors
    /// What is wrong with it. The text itself is repeated only where it can't be a secret.
    pub fn read(self, text: &str) -> Result<Value, String> {
        let shown = text.escape_debug();
        match self {
            Kind::Text if text.is_empty() => Err("is empty".into()),
            Kind::Text => Ok(Value::Text(text.to_owned())),
            Kind::Choice(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
            Kind::Choice(_) => Err(format!("can't be `{shown}`")),
            Kind::Duration { min, max, zero } => {
                let ms = duration_ms(text).map_err(|why| format!("is `{shown}`: {why}"))?;
                if (min..=max).contains(&ms) || (zero && ms == 0) {
                    return Ok(Value::Duration(Duration::from_millis(ms)));
                }
                Err(format!("is `{shown}`, which is out of range"))
            }
            Kind::Size { min, max } => {
                let bytes = size_bytes(text).map_err(|why| format!("is `{shown}`: {why}"))?;
                match i64::try_from(bytes) {
                    Ok(number) if (min..=max).contains(&bytes) => Ok(Value::Number(number)),
                    _ => Err(format!("is `{shown}`, which is out of range")),
                }
            }
            Kind::Percent { max } => match text.strip_suffix('%').map(str::parse::<u32>) {
                Some(Ok(percent)) if percent <= max => Ok(Value::Ratio(f64::from(percent) / 100.0)),
                Some(Ok(_)) => Err(format!("is `{shown}`, which is out of range")),
                _ => Err(format!("is `{shown}`: no percentage")),
            },
            Kind::Schedule => check_schedule(text).map(|()| Value::Text(text.to_owned())),
            Kind::TimeZone => match jiff::tz::TimeZone::get(text) {
                Ok(_) => Ok(Value::Text(text.to_owned())),
                Err(_) => Err(format!("can't be `{shown}`: unknown time zone")),
            },
            _ => Err("must not be a text".into()),
        }
    }
}

pub(super) fn quoted(words: &[&str]) -> String {
    words
        .iter()
        .map(|word| format!("\"{word}\""))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Splits `1h30m` into (1, "h"), (30, "m").
fn quantities(text: &str) -> Option<Vec<(u64, &str)>> {
    let mut rest = text;
    let mut out = Vec::new();
    while !rest.is_empty() {
        let unit_at = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (digits, tail) = rest.split_at(unit_at);
        let next = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        // A number too large for u64 is far beyond every range as well.
        let number = if digits.is_empty() {
            return None;
        } else {
            digits.parse().unwrap_or(u64::MAX)
        };
        out.push((number, &tail[..next]));
        rest = &tail[next..];
    }
    (!out.is_empty()).then_some(out)
}

/// Milliseconds of a text such as `500ms` or `1h30m`: larger units first, each at most once.
fn duration_ms(text: &str) -> Result<u64, &'static str> {
    const UNITS: [(&str, u64); 5] = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    let mut total = 0u64;
    let mut units_left = UNITS.as_slice();
    for (number, unit) in quantities(text).ok_or("no duration")? {
        if unit.is_empty() {
            return Err("a duration needs a unit");
        }
        let Some(at) = units_left.iter().position(|(name, _)| *name == unit) else {
            let known = UNITS.iter().any(|(name, _)| *name == unit);
            return Err(if known {
                "larger units come first, each once"
            } else {
                "the units are ms, s, m, h, d"
            });
        };
        total = total.saturating_add(number.saturating_mul(units_left[at].1));
        units_left = &units_left[at + 1..];
    }
    Ok(total)
}

/// Bytes of a text such as `64MiB`.
fn size_bytes(text: &str) -> Result<u64, &'static str> {
    match quantities(text).as_deref() {
        Some([(_, "")]) => Err("a size needs a unit"),
        Some([(number, unit)]) => {
            let factor = match *unit {
                "B" => 1,
                "KiB" => 1 << 10,
                "MiB" => 1 << 20,
                "GiB" => 1 << 30,
                _ => return Err("the units are B, KiB, MiB, GiB"),
            };
            Ok(number.saturating_mul(factor))
        }
        _ => Err("no size"),
    }
}

fn check_schedule(text: &str) -> Result<(), String> {
    parse_cron(text).map(drop)
}

/// A cron expression with seconds that fires.
pub(super) fn parse_cron(text: &str) -> Result<croner::Cron, String> {
    let parser = croner::parser::CronParser::builder()
        .seconds(croner::parser::Seconds::Required)
        .build();
    let shown = text.escape_debug();
    let cron = parser
        .parse(text)
        .map_err(|error| format!("is `{shown}`: {error}"))?;
    // Any start will do: a schedule without a year that fires at all fires within some leap years.
    let start = jiff::civil::date(2024, 1, 1).to_zoned(jiff::tz::TimeZone::UTC);
    match start.map(|start| cron.find_next_occurrence(&start, true)) {
        Ok(Ok(_)) => Ok(cron),
        _ => Err(format!("is `{shown}`, which never fires")),
    }
}

fn show_ms(ms: u64) -> String {
    for (unit, size) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
    ] {
        if ms >= size && ms.is_multiple_of(size) {
            return format!("{}{unit}", ms / size);
        }
    }
    format!("{ms}ms")
}

fn show_bytes(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_and_sizes_are_numbers_with_units() {
        let durations = [
            ("500ms", Some(500)),
            ("0s", Some(0)),
            ("1h30m", Some(5_400_000)),
            ("1d2h3m4s5ms", Some(93_784_005)),
            ("5", None),
            ("", None),
            ("m", None),
            ("-1s", None),
            ("1.5s", None),
            ("30m1h", None),
            ("1s1s", None),
            ("1y", None),
            ("10 m", None),
            ("99999999999999999999d", Some(u64::MAX)),
        ];
        for (text, ms) in durations {
            assert_eq!(duration_ms(text).ok(), ms, "{text}");
        }
        let sizes = [
            ("1048576B", Some(1_048_576)),
            ("1KiB", Some(1024)),
            ("64MiB", Some(67_108_864)),
            ("1GiB", Some(1 << 30)),
            ("64MB", None),
            ("64", None),
            ("1MiB1KiB", None),
            ("", None),
        ];
        for (text, bytes) in sizes {
            assert_eq!(size_bytes(text).ok(), bytes, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_duration_reads_back_as_it_is_shown(ms in 1u64..31_536_000_000) {
            prop_assert_eq!(duration_ms(&show_ms(ms)), Ok(ms));
        }

        #[test]
        fn any_text_is_read_without_panic(text: String) {
            let _ = (duration_ms(&text), size_bytes(&text), check_schedule(&text));
        }
    }
}
