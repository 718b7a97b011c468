//! Parameters of a key: their types and the one spelling each value has.

/// The longest `text` value, in bytes.
const MAX_TEXT_BYTES: usize = 200;

/// The type of a parameter, by Postgres' name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParamType {
    Int,
    BigInt,
    Text,
    Uuid,
    Date,
    Bool,
}

impl ParamType {
    /// Every type, in the order messages list them.
    pub const ALL: [ParamType; 6] = [
        ParamType::Int,
        ParamType::BigInt,
        ParamType::Text,
        ParamType::Uuid,
        ParamType::Date,
        ParamType::Bool,
    ];

    /// The type's name in Postgres, which is also its name in a template.
    pub fn sql_name(self) -> &'static str {
        match self {
            ParamType::Int => "int",
            ParamType::BigInt => "bigint",
            ParamType::Text => "text",
            ParamType::Uuid => "uuid",
            ParamType::Date => "date",
            ParamType::Bool => "bool",
        }
    }

    /// The bytes of its longest value.
    pub fn longest(self) -> usize {
        match self {
            ParamType::Int => "-2147483648".len(),
            ParamType::BigInt => "-9223372036854775808".len(),
            ParamType::Text => MAX_TEXT_BYTES,
            ParamType::Uuid => 36,
            ParamType::Date => "0001-01-01".len(),
            ParamType::Bool => "false".len(),
        }
    }

    pub(super) fn from_sql_name(name: &str) -> Option<ParamType> {
        ParamType::ALL
            .into_iter()
            .find(|kind| kind.sql_name() == name)
    }

    /// Whether `text` is the one spelling of a value of this type. The hot half of
    /// [`ParamType::check`]: it never allocates.
    pub fn accepts(self, text: &[u8]) -> bool {
        match self {
            ParamType::Int => canonical_integer(text).is_some_and(|n| i32::try_from(n).is_ok()),
            ParamType::BigInt => canonical_integer(text).is_some(),
            ParamType::Text => text_fault(text).is_none(),
            ParamType::Uuid => is_canonical_uuid(text),
            ParamType::Date => is_date(text),
            ParamType::Bool => text == b"true" || text == b"false",
        }
    }

    /// Checks that `text` is the one spelling of a value of this type.
    ///
    /// # Errors
    /// Why it is not, to be read after the value: `'007'` + ` is not the one spelling of …`.
    pub fn check(self, text: &[u8]) -> Result<(), String> {
        if self.accepts(text) {
            return Ok(());
        }
        let name = self.sql_name();
        Err(match self {
            ParamType::Int | ParamType::BigInt => integer_fault(name, text),
            ParamType::Text => text_fault(text).unwrap_or("is not a text").to_owned(),
            ParamType::Uuid if is_canonical_uuid(&text.to_ascii_lowercase()) => {
                "is not the one spelling of a uuid (write it in lower case)".to_owned()
            }
            ParamType::Date => "is not a date (write YYYY-MM-DD)".to_owned(),
            ParamType::Bool => "is not a bool (write true or false)".to_owned(),
            ParamType::Uuid => "is not a uuid".to_owned(),
        })
    }

    /// The least and greatest value of an integer type.
    pub(super) fn range(self) -> Option<(i64, i64)> {
        match self {
            ParamType::Int => Some((i64::from(i32::MIN), i64::from(i32::MAX))),
            ParamType::BigInt => Some((i64::MIN, i64::MAX)),
            _ => None,
        }
    }

    /// Whether `byte` can stand in a value of this type.
    pub(super) fn may_hold(self, byte: u8) -> bool {
        match self {
            ParamType::Int | ParamType::BigInt | ParamType::Date => {
                byte.is_ascii_digit() || byte == b'-'
            }
            ParamType::Uuid => matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'),
            ParamType::Bool => b"truefals".contains(&byte),
            ParamType::Text => !matches!(byte, b'{' | b'}' | b':'),
        }
    }
}

/// One typed parameter of a template, with optional bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    pub name: String,
    pub kind: ParamType,
    /// The least value accepted; only for integers.
    pub min: Option<i64>,
    /// The greatest value accepted; only for integers.
    pub max: Option<i64>,
}

impl Param {
    /// Whether `text` is the one spelling of a value within the bounds.
    pub fn accepts(&self, text: &[u8]) -> bool {
        self.kind.accepts(text) && self.within_bounds(text)
    }

    /// Checks spelling and bounds.
    ///
    /// # Errors
    /// Why `text` is refused, to be read after the value.
    pub fn check(&self, text: &[u8]) -> Result<(), String> {
        self.kind.check(text)?;
        if self.within_bounds(text) {
            return Ok(());
        }
        let limits: Vec<String> = [("min", self.min), ("max", self.max)]
            .into_iter()
            .filter_map(|(word, bound)| Some(format!("{word} {}", bound?)))
            .collect();
        Err(format!("is out of bounds ({})", limits.join(", ")))
    }

    fn within_bounds(&self, text: &[u8]) -> bool {
        if self.min.is_none() && self.max.is_none() {
            return true;
        }
        canonical_integer(text).is_some_and(|value| {
            self.min.is_none_or(|min| value >= min) && self.max.is_none_or(|max| value <= max)
        })
    }
}

/// The value of an integer in its one spelling: no sign but `-`, no leading zero, no `-0`.
fn canonical_integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => text.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn integer_fault(name: &str, text: &[u8]) -> String {
    let article = if name == "int" { "an" } else { "a" };
    let unsigned = text
        .strip_prefix(b"-")
        .or_else(|| text.strip_prefix(b"+"))
        .unwrap_or(text);
    if unsigned.is_empty() || !unsigned.iter().all(u8::is_ascii_digit) {
        return format!("is not {article} {name}");
    }
    // All digits, so what is wrong is the size or the spelling.
    let value: Option<i64> = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok());
    match value {
        Some(value) if canonical_integer(text).is_none() => {
            format!("is not the one spelling of {article} {name} (write '{value}')")
        }
        _ => format!("is out of range for {name}"),
    }
}

fn text_fault(text: &[u8]) -> Option<&'static str> {
    if text.is_empty() {
        return Some("is empty, a text has 1 to 200 bytes");
    }
    if text.len() > MAX_TEXT_BYTES {
        return Some("is too long, a text has 1 to 200 bytes");
    }
    // ASCII is by far the usual case and needs no decoding.
    if text
        .iter()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'{' | b'}' | b':'))
    {
        return None;
    }
    let Ok(text) = std::str::from_utf8(text) else {
        return Some("is not valid UTF-8");
    };
    text.chars().find_map(|c| match c {
        '{' | '}' | ':' => Some("holds a brace or `:`, which a text may not"),
        c if c.is_control() => Some("holds a control character, which a text may not"),
        c if c.is_whitespace() => Some("holds a space, which a text may not"),
        _ => None,
    })
}

fn is_canonical_uuid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

fn is_date(text: &[u8]) -> bool {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else {
        return false;
    };
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0u32, |n, digit| {
            digit
                .is_ascii_digit()
                .then(|| n * 10 + u32::from(digit - b'0'))
        })
    };
    let (Some(year), Some(month), Some(day)) = (
        number(&[y1, y2, y3, y4]),
        number(&[m1, m2]),
        number(&[d1, d2]),
    ) else {
        return false;
    };
    year >= 1 && (1..=days_in(year, month)).contains(&day)
}

/// Days of a month in the proleptic Gregorian calendar, which Postgres uses for every year.
/// Zero for a month that does not exist.
fn days_in(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_in_its_one_spelling_is_accepted_and_any_other_is_told_why() {
        use ParamType::*;
        let fine: &[(ParamType, &[&str])] = &[
            (Int, &["0", "-1", "2147483647", "-2147483648"]),
            (
                BigInt,
                &["0", "7", "9223372036854775807", "-9223372036854775808"],
            ),
            (Text, &["a", "🦀", "it's;--", "*?[]\\", "a/b", "null"]),
            (Uuid, &["00000000-0000-4000-8000-00000000000f"]),
            (
                Date,
                &["0001-01-01", "2024-02-29", "2000-02-29", "9999-12-31"],
            ),
            (Bool, &["true", "false"]),
        ];
        for (kind, texts) in fine {
            for text in *texts {
                assert_eq!(kind.check(text.as_bytes()), Ok(()), "{kind:?} {text}");
            }
        }
        let long = "x".repeat(201);
        let refused: &[(ParamType, &[u8], &str)] = &[
            (BigInt, b"abc", "is not a bigint"),
            (BigInt, b"", "is not a bigint"),
            (BigInt, b"-", "is not a bigint"),
            (BigInt, b"1e3", "is not a bigint"),
            (BigInt, b" 7", "is not a bigint"),
            (BigInt, b"+-7", "is not a bigint"),
            (
                BigInt,
                b"007",
                "is not the one spelling of a bigint (write '7')",
            ),
            (
                BigInt,
                b"+7",
                "is not the one spelling of a bigint (write '7')",
            ),
            (Int, b"-0", "is not the one spelling of an int (write '0')"),
            (
                BigInt,
                b"00",
                "is not the one spelling of a bigint (write '0')",
            ),
            (BigInt, b"9223372036854775808", "is out of range for bigint"),
            (
                BigInt,
                b"99999999999999999999",
                "is out of range for bigint",
            ),
            (Int, b"2147483648", "is out of range for int"),
            (Text, b"", "is empty"),
            (Text, long.as_bytes(), "is too long"),
            (Text, b"\xff", "is not valid UTF-8"),
            (Text, b"a b", "holds a space"),
            (Text, "a\u{a0}b".as_bytes(), "holds a space"),
            (Text, b"a\0", "holds a control character"),
            (Text, "a\u{85}".as_bytes(), "holds a control character"),
            (Text, b"a:b", "holds a brace or `:`"),
            (Text, b"{a", "holds a brace or `:`"),
            (
                Uuid,
                b"00000000-0000-4000-8000-00000000000F",
                "write it in lower case",
            ),
            (
                Uuid,
                b"{00000000-0000-4000-8000-00000000000}",
                "is not a uuid",
            ),
            (Uuid, b"00000000000040008000000000000000", "is not a uuid"),
            (Date, b"2023-02-29", "is not a date"),
            (Date, b"1900-02-29", "is not a date"),
            (Date, b"0000-01-01", "is not a date"),
            (Date, b"2023-13-01", "is not a date"),
            (Date, b"2023-1-01", "is not a date"),
            (Date, b"10000-01-01", "is not a date"),
            (Date, b"2023-04-31", "is not a date"),
            (Bool, b"TRUE", "is not a bool"),
            (Bool, b"t", "is not a bool"),
        ];
        for (kind, text, why) in refused {
            let got = kind.check(text).unwrap_err();
            assert!(got.contains(why), "{kind:?} {}: {got}", text.escape_ascii());
        }
    }

    #[test]
    fn bounds_are_inclusive() {
        let limit = Param {
            name: "limit".into(),
            kind: ParamType::Int,
            min: Some(1),
            max: Some(100),
        };
        for (text, fine) in [("0", false), ("1", true), ("100", true), ("101", false)] {
            assert_eq!(limit.accepts(text.as_bytes()), fine, "{text}");
            assert_eq!(limit.check(text.as_bytes()).is_ok(), fine, "{text}");
        }
        assert_eq!(
            limit.check(b"0").unwrap_err(),
            "is out of bounds (min 1, max 100)"
        );
    }

    proptest! {
        #[test]
        fn of_all_texts_that_mean_a_number_only_one_is_accepted(
            text in r"[+ -]{0,2}0{0,3}[0-9]{0,20}"
        ) {
            // What Postgres would read, told by Rust's own parser.
            let value: Option<i64> = text.trim().parse().ok();
            let canonical = value.map(|value| value.to_string());
            prop_assert_eq!(
                ParamType::BigInt.accepts(text.as_bytes()),
                canonical.as_deref() == Some(text.as_str())
            );
        }

        #[test]
        fn every_bigint_is_accepted_as_it_prints(value: i64) {
            prop_assert!(ParamType::BigInt.accepts(value.to_string().as_bytes()));
            prop_assert_eq!(
                ParamType::Int.accepts(value.to_string().as_bytes()),
                i32::try_from(value).is_ok()
            );
        }

        #[test]
        fn a_uuid_has_one_spelling(value: u128) {
            let uuid = uuid::Uuid::from_u128(value);
            let text = uuid.hyphenated().to_string();
            prop_assert!(ParamType::Uuid.accepts(text.as_bytes()));
            for other in [text.to_uppercase(), uuid.simple().to_string(), uuid.braced().to_string(),
                uuid.urn().to_string()] {
                prop_assert!(other == text || !ParamType::Uuid.accepts(other.as_bytes()));
            }
        }

        #[test]
        fn a_date_is_accepted_when_the_calendar_has_it(year in 1i16..=9999, month in 0i8..=13, day in 0i8..=32) {
            let text = format!("{year:04}-{month:02}-{day:02}");
            prop_assert_eq!(
                ParamType::Date.accepts(text.as_bytes()),
                jiff::civil::Date::new(year, month, day).is_ok()
            );
        }

        #[test]
        fn check_and_accepts_agree_on_any_bytes(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            for kind in ParamType::ALL {
                prop_assert_eq!(kind.accepts(&text), kind.check(&text).is_ok());
            }
        }
    }
}
