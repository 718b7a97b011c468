//! Why a key is refused: one line each, safe to send to a client.

use super::MAX_KEY_BYTES;

/// How much of a key, in bytes after escaping, a message repeats.
const SHOWN_KEY_BYTES: usize = 64;
/// How much of one value a message repeats.
const SHOWN_TEXT_BYTES: usize = 40;

/// A key that no declared space answers. Keys and values in here are already shortened and
/// escaped, so that a message is one line of at most 300 bytes whatever the client sent.
#[derive(thiserror::Error, Clone, Debug, PartialEq)]
pub enum KeyError {
    #[error("key is empty")]
    Empty,
    #[error("length {len} exceeds {MAX_KEY_BYTES}")]
    TooLong { len: usize },
    #[error("'{key}' is reserved for cachewarden's own keys")]
    Reserved { key: String },
    #[error("no cache is declared for key '{key}' ({})", known_or_none(.known))]
    Undeclared {
        key: String,
        /// Prefixes, or the templates of the key's prefix; cut to a few.
        known: String,
    },
    /// For what only keys with a database, or a program, behind them have.
    #[error(
        "'{key}' is a plain key (passthrough {passthrough}), which is neither cached nor invalidated; use Redis' own commands"
    )]
    Plain { key: String, passthrough: String },
    #[error("'{text}' {why} in '{key}' (cache {cache})")]
    BadParam {
        key: String,
        cache: String,
        param: String,
        text: String,
        why: String,
    },
    #[error("key '{key}' {why} (namespace {namespace})")]
    BadNamespaceKey {
        key: String,
        namespace: String,
        why: &'static str,
    },
    /// A value given to [`KeyTemplate::render`](super::KeyTemplate::render).
    #[error("'{text}' {why} in '{template}'")]
    BadValue {
        template: String,
        text: String,
        why: String,
    },
    #[error("'{template}' takes {expected} values, not {given}")]
    WrongCount {
        template: String,
        expected: usize,
        given: usize,
    },
}

impl KeyError {
    /// The code a Redis client sees before the message.
    pub fn code(&self) -> &'static str {
        match self {
            KeyError::Undeclared { .. } | KeyError::Plain { .. } => "ERR",
            _ => "BADKEY",
        }
    }
}

fn known_or_none(known: &str) -> String {
    if known.is_empty() {
        return "none is declared".to_owned();
    }
    format!("known: {known}")
}

pub(super) fn shown_key(key: &[u8]) -> String {
    shown(key, SHOWN_KEY_BYTES)
}

pub(super) fn shown_text(text: &[u8]) -> String {
    shown(text, SHOWN_TEXT_BYTES)
}

/// `bytes` as text of one line, at most `limit` bytes and an ellipsis.
fn shown(bytes: &[u8], limit: usize) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid().chars().map(|c| match c {
            ' ' => c.to_string(),
            // Whatever is no visible text could break the line or turn its direction.
            c if c.is_control() || c.is_whitespace() || is_invisible(c) => {
                c.escape_default().to_string()
            }
            c => c.to_string(),
        });
        let invalid = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}"));
        for piece in valid.chain(invalid) {
            if out.len() + piece.len() > limit {
                out.push('…');
                return out;
            }
            out.push_str(&piece);
        }
    }
    out
}

/// Zero-width and direction-changing characters.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_break_a_line_is_escaped_and_what_is_long_is_cut() {
        assert_eq!(shown_key(b"a\r\nb\0\xff c"), "a\\r\\nb\\u{0}\\xff c");
        assert_eq!(shown_key("x\u{202e}y".as_bytes()), "x\\u{202e}y");
        assert_eq!(
            shown_text("é".repeat(30).as_bytes()),
            format!("{}…", "é".repeat(20))
        );
    }

    proptest! {
        #[test]
        fn a_shown_key_is_one_bounded_line(key in proptest::collection::vec(any::<u8>(), 0..600)) {
            let shown = shown_key(&key);
            prop_assert!(shown.len() <= SHOWN_KEY_BYTES + '…'.len_utf8());
            prop_assert!(!shown.contains(char::is_control));
        }
    }
}
