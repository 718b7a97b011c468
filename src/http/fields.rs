//! What a decision looks like in the headers of a response.
//!
//! `RateLimit` and `RateLimit-Policy` are those of draft-ietf-httpapi-ratelimit-headers (10 and 11), lists of structured
//! fields (RFC 9651); `X-RateLimit-*` are what was there before.

use crate::rate_limit::Decision;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use std::time::Duration;

/// The largest integer of a structured field: 15 digits.
const MAX_INTEGER: u64 = 999_999_999_999_999;

/// A decision, in the words of HTTP: whole seconds, rounded up, so that nobody comes too early.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    limit: u64,
    remaining: u64,
    reset_s: u64,
    /// None if it was let through, or never will be.
    pub retry_after_s: Option<u64>,
    policy: String,
    state: String,
}

impl Fields {
    pub fn of(decision: &Decision) -> Self {
        let retry_after = decision.retry_after.filter(|_| !decision.allowed);
        let mut fields = Self {
            limit: decision.policy.limit,
            remaining: decision.remaining,
            reset_s: seconds(decision.reset_after),
            // Zero would say *at once*, to somebody who was refused.
            retry_after_s: retry_after.map(|after| seconds(after).max(1)),
            policy: policy(decision),
            state: String::new(),
        };
        fields.state = state(decision, &fields);
        fields
    }

    /// Puts them beside what is there. A middleware further in has been told of another limit, closer to the handler: its
    /// word stays, and the lists have room for both.
    pub fn put(&self, headers: &mut HeaderMap) {
        let numbers = [
            ("x-ratelimit-limit", Some(self.limit)),
            ("x-ratelimit-remaining", Some(self.remaining)),
            ("x-ratelimit-reset", Some(self.reset_s)),
            (RETRY_AFTER.as_str(), self.retry_after_s),
        ];
        for (name, number) in numbers {
            if let Some(number) = number.filter(|_| !headers.contains_key(name)) {
                headers.insert(HeaderName::from_static(name), HeaderValue::from(number));
            }
        }
        for (name, text) in [
            ("ratelimit-policy", &self.policy),
            ("ratelimit", &self.state),
        ] {
            // The names of limits are letters, digits and `_`: they need no escapes in a structured field, nor in a header.
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.append(HeaderName::from_static(name), value);
            }
        }
    }
}

/// `"api";q=100;w=60`
fn policy(decision: &Decision) -> String {
    let policy = &decision.policy;
    let quota = policy.limit.min(MAX_INTEGER);
    match policy.window {
        // Half seconds cannot be told; rounded up they promise less than is given.
        Some(window) => format!(
            "\"{}\";q={quota};w={}",
            policy.name,
            seconds(window).clamp(1, MAX_INTEGER)
        ),
        None => format!("\"{}\";q={quota};qu=\"concurrent-requests\"", policy.name),
    }
}

/// `"api";r=42;t=17`. `t` is the time in which no more than `r` is let through: of a refusal, the same as `Retry-After`,
/// as the draft asks; none for requests in flight that go on, for those may end at any time.
fn state(decision: &Decision, fields: &Fields) -> String {
    let remaining = decision.remaining.min(MAX_INTEGER);
    let mut state = format!("\"{}\";r={remaining}", decision.policy.name);
    let reset_s = decision.policy.window.map(|_| fields.reset_s);
    if let Some(time_s) = fields.retry_after_s.or(reset_s) {
        state.push_str(&format!(";t={}", time_s.min(MAX_INTEGER)));
    }
    state
}

/// Rounded up.
pub(super) fn seconds(time: Duration) -> u64 {
    time.as_secs()
        .saturating_add(u64::from(time.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate_limit::Policy;
    use sfv::{BareItem, List, ListEntry, Parser};
    use std::sync::Arc;

    fn decision(allowed: bool, window_ms: Option<u64>, retry_ms: Option<u64>) -> Decision {
        Decision {
            allowed,
            policy: Arc::new(Policy {
                name: "api".into(),
                limit: 100,
                window: window_ms.map(Duration::from_millis),
            }),
            remaining: if allowed { 42 } else { 0 },
            retry_after: retry_ms.map(Duration::from_millis),
            reset_after: Duration::from_millis(16_001),
            id: None,
        }
    }

    fn told(decision: &Decision) -> HeaderMap {
        let mut headers = HeaderMap::new();
        Fields::of(decision).put(&mut headers);
        headers
    }

    fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        headers
            .get(name)
            .map(|value| value.to_str().expect("ASCII"))
    }

    /// A list of structured fields as somebody else reads it: of each item its name and parameters.
    fn read(text: &str) -> Vec<(String, Vec<(String, BareItem)>)> {
        let list: List = Parser::new(text).parse().expect("a list");
        let items = list.into_iter().map(|entry| match entry {
            ListEntry::Item(item) => {
                let name = item.bare_item.as_string().expect("a string").as_str();
                let parameters = item.params.iter();
                let parameters =
                    parameters.map(|(key, value)| (key.as_str().into(), value.clone()));
                (name.into(), parameters.collect())
            }
            ListEntry::InnerList(list) => panic!("{list:?}"),
        });
        items.collect()
    }

    fn api(parameters: &[(&str, u64)]) -> Vec<(String, Vec<(String, BareItem)>)> {
        let integer = |value: u64| i64::try_from(value).expect("small").try_into();
        let parameters = parameters.iter().map(|(key, value)| {
            let value: sfv::Integer = integer(*value).expect("15 digits");
            ((*key).to_owned(), BareItem::Integer(value))
        });
        vec![("api".to_owned(), parameters.collect())]
    }

    #[test]
    fn what_was_let_through_is_told_how_much_is_left() {
        let headers = told(&decision(true, Some(60_000), Some(0)));
        let expected = [
            ("x-ratelimit-limit", Some("100")),
            ("x-ratelimit-remaining", Some("42")),
            ("x-ratelimit-reset", Some("17")),
            ("ratelimit-policy", Some("\"api\";q=100;w=60")),
            ("ratelimit", Some("\"api\";r=42;t=17")),
            ("retry-after", None),
        ];
        for (name, value) in expected {
            assert_eq!(text(&headers, name), value, "{name}");
        }
        assert_eq!(headers.len(), 5);
    }

    #[test]
    fn lists_are_structured_fields_as_others_read_them() {
        type Case = (bool, Option<u64>, Option<u64>, Vec<(&'static str, u64)>);
        let cases: [Case; 5] = [
            (true, Some(60_000), Some(0), vec![("r", 42), ("t", 17)]),
            (false, Some(60_000), Some(2_500), vec![("r", 0), ("t", 3)]),
            (false, Some(60_000), None, vec![("r", 0), ("t", 17)]),
            (true, None, Some(0), vec![("r", 42)]),
            (false, None, Some(9_000), vec![("r", 0), ("t", 9)]),
        ];
        for (allowed, window_ms, retry_ms, state) in cases {
            let headers = told(&decision(allowed, window_ms, retry_ms));
            let seen = read(text(&headers, "ratelimit").expect("there"));
            assert_eq!(seen, api(&state), "{allowed} {window_ms:?} {retry_ms:?}");
        }
        for (window_ms, window_s) in [(1, 1), (500, 1), (1_000, 1), (1_001, 2), (60_000, 60)] {
            let headers = told(&decision(true, Some(window_ms), Some(0)));
            let seen = read(text(&headers, "ratelimit-policy").expect("there"));
            assert_eq!(seen, api(&[("q", 100), ("w", window_s)]), "{window_ms} ms");
        }
        let headers = told(&decision(true, None, Some(0)));
        let seen = read(text(&headers, "ratelimit-policy").expect("there"));
        let unit = sfv::String::from_string("concurrent-requests".into()).expect("ASCII");
        let mut expected = api(&[("q", 100)]);
        expected[0].1.push(("qu".into(), BareItem::String(unit)));
        assert_eq!(seen, expected);
    }

    #[test]
    fn numbers_beyond_what_a_structured_field_holds_are_cut() {
        let mut huge = decision(true, Some(60_000), Some(0));
        huge.remaining = u64::MAX;
        huge.reset_after = Duration::MAX;
        huge.policy = Arc::new(Policy {
            limit: u64::MAX,
            window: Some(Duration::MAX),
            ..(*huge.policy).clone()
        });
        let headers = told(&huge);
        let most = MAX_INTEGER;
        let state = read(text(&headers, "ratelimit").expect("there"));
        assert_eq!(state, api(&[("r", most), ("t", most)]));
        let policy = read(text(&headers, "ratelimit-policy").expect("there"));
        assert_eq!(policy, api(&[("q", most), ("w", most)]));
    }

    #[test]
    fn who_was_refused_comes_back_late_rather_than_early_and_never_at_once() {
        let cases = [
            (Some(0), Some("1")),
            (Some(1), Some("1")),
            (Some(1_000), Some("1")),
            (Some(1_001), Some("2")),
            (None, None),
        ];
        for (retry_ms, header) in cases {
            let headers = told(&decision(false, Some(60_000), retry_ms));
            assert_eq!(text(&headers, "retry-after"), header, "{retry_ms:?}");
        }
    }

    #[test]
    fn the_word_of_a_limit_further_in_stays_and_the_lists_hold_both() {
        let mut headers = told(&decision(false, Some(60_000), Some(2_000)));
        let mut outer = decision(true, Some(3_600_000), Some(0));
        outer.policy = Arc::new(Policy {
            name: "hourly".into(),
            ..(*outer.policy).clone()
        });
        Fields::of(&outer).put(&mut headers);
        assert_eq!(text(&headers, "x-ratelimit-remaining"), Some("0"));
        let lines = headers.get_all("ratelimit").map(|line| line.to_str());
        let lines: Result<Vec<&str>, _> = lines.collect();
        let names = read(&lines.expect("ASCII").join(","));
        let names: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["api", "hourly"]);
    }
}
