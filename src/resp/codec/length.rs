//! The number of a `*` or `$` line. Only its plain spelling is taken: a sign, a space or a leading
//! zero is a client that builds frames by hand, and two parsers that read it differently are how
//! requests are smuggled.

/// Why a line is not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LengthError {
    Malformed,
    TooLarge,
    NoCrlf,
}

/// Reads a number of at most `max`, and how many bytes it takes with its CRLF; `None` while the
/// line is incomplete. `line` begins behind the type byte.
pub(super) fn parse(line: &[u8], max: u32) -> Result<Option<(u32, usize)>, LengthError> {
    let mut value = 0_u64;
    for (i, &byte) in line.iter().enumerate() {
        match byte {
            b'0'..=b'9' if value > 0 || i == 0 => value = value * 10 + u64::from(byte - b'0'),
            b'\r' if i > 0 => {
                return match line.get(i + 1) {
                    None => Ok(None),
                    Some(b'\n') => Ok(Some((value as u32, i + 2))),
                    Some(_) => Err(LengthError::NoCrlf),
                };
            }
            b'\n' if i > 0 => return Err(LengthError::NoCrlf),
            _ => return Err(LengthError::Malformed),
        }
        // With every digit, so that `value` neither wraps nor leaves 32 bits, and a long number is
        // not waited for.
        if value > u64::from(max) {
            return Err(LengthError::TooLarge);
        }
    }
    Ok(None)
}

/// Reads a number below zero likewise; `line` begins behind its sign.
pub(super) fn parse_negative(line: &[u8]) -> Result<Option<(i64, usize)>, LengthError> {
    match parse(line, u32::MAX) {
        Ok(Some((0, _))) | Err(LengthError::TooLarge) => Err(LengthError::Malformed),
        parsed => Ok(parsed?.map(|(value, used)| (-i64::from(value), used))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_number_is_read_with_its_line_end() {
        assert_eq!(parse(b"0\r\n", 9), Ok(Some((0, 3))));
        assert_eq!(parse(b"1024\r\n$3", 1024), Ok(Some((1024, 6))));
        assert_eq!(parse(b"4294967295\r\n", u32::MAX), Ok(Some((u32::MAX, 12))));
    }

    #[test]
    fn an_incomplete_line_waits() {
        for line in [&b""[..], b"1", b"10", b"10\r"] {
            assert_eq!(parse(line, 99), Ok(None), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn no_other_spelling_is_a_number() {
        for line in [
            "\r\n", "+1\r\n", "-1\r\n", " 1\r\n", "1 \r\n", "01\r\n", "00\r\n", "0x1\r\n",
            "abc\r\n", "\n",
        ] {
            assert_eq!(
                parse(line.as_bytes(), 99),
                Err(LengthError::Malformed),
                "{line:?}"
            );
        }
        for line in ["1\n", "1\r\r\n", "1\rx"] {
            assert_eq!(
                parse(line.as_bytes(), 99),
                Err(LengthError::NoCrlf),
                "{line:?}"
            );
        }
    }

    #[test]
    fn a_number_that_would_wrap_is_refused_at_the_digit_that_is_too_many() {
        for line in [
            "9223372036854775808",
            "18446744073709551616",
            "18446744073709551617",
            "100",
        ] {
            assert_eq!(
                parse(line.as_bytes(), 99),
                Err(LengthError::TooLarge),
                "{line:?}"
            );
        }
        let endless = "9".repeat(10_000);
        assert_eq!(
            parse(endless.as_bytes(), u32::MAX),
            Err(LengthError::TooLarge)
        );
    }

    #[test]
    fn a_number_below_zero_has_one_spelling_too() {
        assert_eq!(parse_negative(b"5\r\n"), Ok(Some((-5, 3))));
        assert_eq!(parse_negative(b"5\r"), Ok(None));
        for line in ["0\r\n", "05\r\n", "-5\r\n", "99999999999\r\n"] {
            assert_eq!(
                parse_negative(line.as_bytes()),
                Err(LengthError::Malformed),
                "{line:?}"
            );
        }
    }
}
