//! Whether two templates can match one key, and which of them answers it.

use super::{KeyTemplate, Param, ParamType, template::Segment};

/// How two templates stand to one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// No key matches both.
    Disjoint,
    /// A key that matches both is the first's: it is literal wherever they differ in that.
    FirstWins,
    SecondWins,
    /// A key could match both and neither is the more literal.
    Ambiguous,
}

impl KeyTemplate {
    /// Compares segment by segment: a literal segment beats a parameter. Exact for equal heads and
    /// tails; where literal heads or tails differ it may call disjoint templates ambiguous, never
    /// the other way round.
    pub fn overlap(&self, other: &KeyTemplate) -> Overlap {
        if self.segments.len() != other.segments.len() {
            return Overlap::Disjoint;
        }
        let (mut first_wins, mut second_wins) = (false, false);
        for (first, second) in self.typed_segments().zip(other.typed_segments()) {
            let meet = match (first, second) {
                ((Segment::Literal(a), _), (Segment::Literal(b), _)) => a == b,
                ((Segment::Literal(text), _), param) => {
                    first_wins = true;
                    matches_literal(param, text)
                }
                (param, (Segment::Literal(text), _)) => {
                    second_wins = true;
                    matches_literal(param, text)
                }
                (first, second) => can_meet(first, second),
            };
            if !meet {
                return Overlap::Disjoint;
            }
        }
        match (first_wins, second_wins) {
            (true, false) => Overlap::FirstWins,
            (false, true) => Overlap::SecondWins,
            _ => Overlap::Ambiguous,
        }
    }
}

type TypedSegment<'a> = (&'a Segment, Option<&'a Param>);

impl Segment {
    /// What of `text` stands in the place of the parameter.
    pub(super) fn value_in<'k>(&self, text: &'k [u8]) -> Option<&'k [u8]> {
        match self {
            Segment::Literal(_) => None,
            Segment::Param { head, tail } if head.is_empty() && tail.is_empty() => Some(text),
            Segment::Param { head, tail } => text
                .strip_prefix(head.as_bytes())?
                .strip_suffix(tail.as_bytes()),
        }
    }
}

fn matches_literal((segment, param): TypedSegment<'_>, text: &str) -> bool {
    let value = segment.value_in(text.as_bytes());
    value
        .zip(param)
        .is_some_and(|(value, param)| param.accepts(value))
}

/// Whether one text could stand in both parameter segments.
fn can_meet(first: TypedSegment<'_>, second: TypedSegment<'_>) -> bool {
    let (
        (
            Segment::Param {
                head: head_a,
                tail: tail_a,
            },
            Some(a),
        ),
        (
            Segment::Param {
                head: head_b,
                tail: tail_b,
            },
            Some(b),
        ),
    ) = (first, second)
    else {
        return true; // never reached: both are parameter segments; true refuses rather than misroutes
    };
    if head_a == head_b && tail_a == tail_b {
        return types_meet(a, b);
    }
    // The side with the shorter head (tail) must be able to hold what the other has more of it.
    let held = |short: &Param, rest: &str| rest.bytes().all(|byte| short.kind.may_hold(byte));
    let heads_meet = match (
        head_b.strip_prefix(head_a.as_str()),
        head_a.strip_prefix(head_b.as_str()),
    ) {
        (Some(rest), _) => held(a, rest),
        (_, Some(rest)) => held(b, rest),
        _ => false,
    };
    let tails_meet = match (
        tail_b.strip_suffix(tail_a.as_str()),
        tail_a.strip_suffix(tail_b.as_str()),
    ) {
        (Some(rest), _) => held(a, rest),
        (_, Some(rest)) => held(b, rest),
        _ => false,
    };
    heads_meet && tails_meet
}

/// Whether one value is spelled alike in both types, within both bounds.
fn types_meet(a: &Param, b: &Param) -> bool {
    match (a.kind.range(), b.kind.range()) {
        (Some((least_a, most_a)), Some((least_b, most_b))) => {
            let least = a.min.unwrap_or(least_a).max(b.min.unwrap_or(least_b));
            let most = a.max.unwrap_or(most_a).min(b.max.unwrap_or(most_b));
            least <= most
        }
        // Every value of every other type is also a text.
        _ => a.kind == b.kind || a.kind == ParamType::Text || b.kind == ParamType::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlap(a: &str, b: &str) -> Overlap {
        KeyTemplate::parse(a)
            .unwrap()
            .overlap(&KeyTemplate::parse(b).unwrap())
    }

    #[test]
    fn a_literal_segment_beats_a_parameter() {
        use Overlap::*;
        let rows = [
            ("a:{x:int}", "a:{y:int}", Ambiguous),
            ("a:{x:int}", "a:{y:bigint}", Ambiguous),
            ("a:{x:int}", "b:{x:int}", Disjoint),
            ("a:{x:int}", "a:{x:int}:b", Disjoint),
            ("a:{x:int}", "a:count", Disjoint),
            ("a:{x:text}", "a:count", SecondWins),
            ("a:7", "a:{x:int}", FirstWins),
            ("a:007", "a:{x:int}", Disjoint),
            ("a:{x:int}", "a:{x:text}", Ambiguous),
            ("a:{x:uuid}", "a:{x:int}", Disjoint),
            ("a:{x:uuid}", "a:{x:date}", Disjoint),
            ("a:{x:bool}", "a:{x:int}", Disjoint),
            ("a:{x:bool}", "a:{x:bool}", Ambiguous),
            ("a:true", "a:{x:bool}", FirstWins),
            ("a:{x:text}:b", "a:c:{y:text}", Ambiguous),
            ("a:{x:text}:b", "a:c:{y:int}", Disjoint),
            ("a:{x:int}:count", "a:{x:bigint}:{y:text}", FirstWins),
            ("a:count", "a:count", Ambiguous),
            ("a:v{n:int}", "a:{n:int}", Disjoint),
            ("a:v{n:int}", "a:{n:text}", Ambiguous),
            ("a:v{n:int}", "a:w{n:int}", Disjoint),
            ("a:v1", "a:v{n:int}", FirstWins),
            ("a:{n:int}px", "a:{n:int}em", Disjoint),
            ("a:{n:int}px", "a:{n:int}", Disjoint),
            ("a:1{n:int}", "a:{n:int}", Ambiguous),
        ];
        for (a, b, expected) in rows {
            assert_eq!(overlap(a, b), expected, "{a} {b}");
            let mirrored = match expected {
                FirstWins => SecondWins,
                SecondWins => FirstWins,
                same => same,
            };
            assert_eq!(overlap(b, a), mirrored, "{b} {a}");
        }
    }

    #[test]
    fn bounds_that_do_not_meet_keep_two_templates_apart() {
        let mut low = KeyTemplate::parse("a:{x:int}").unwrap();
        let mut high = low.clone();
        low.bound("x", None, Some(9)).unwrap();
        high.bound("x", Some(10), None).unwrap();
        assert_eq!(low.overlap(&high), Overlap::Disjoint);
        high.bound("x", Some(9), None).unwrap();
        assert_eq!(low.overlap(&high), Overlap::Ambiguous);
    }
}
