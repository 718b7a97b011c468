//! Secrets: never shown, read from files of their own, masked wherever the configuration is quoted.

use std::{fmt, fs::File, io::Read, ops::Range, path::Path};

/// The longest secret in a file, in bytes.
const MAX_SECRET_BYTES: usize = 4096;

/// A text that neither `Debug` nor `Display` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The secret itself, for the server it is meant for.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Reads a secret from a file; one newline at its end is not part of it.
///
/// # Errors
/// What is wrong with the file, without its content.
pub(super) fn read_file(path: &Path) -> Result<String, String> {
    // Asked before opening: opening a pipe waits for a writer that may never come.
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("not a regular file".into());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_SECRET_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() > MAX_SECRET_BYTES {
        return Err(format!("longer than {MAX_SECRET_BYTES} bytes"));
    }
    let mut text = String::from_utf8(bytes).map_err(|_not_text| "not valid UTF-8".to_owned())?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    match text.as_str() {
        "" => Err("empty".into()),
        text if text.contains('\0') => Err("holds a NUL byte".into()),
        _ => Ok(text),
    }
}

/// `text` with passwords replaced by as many `*`, so that places in it stay what they are. It works
/// on any text, broken TOML included: a file is quoted just when something is wrong with it.
pub(super) fn mask(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for span in url_passwords(text).into_iter().chain(key_secrets(text)) {
        // A `${NAME}` is no secret, and whether there is one decides on a warning.
        let part = &text[span.clone()];
        if !(part.starts_with("${") && part.ends_with('}')) {
            bytes[span].fill(b'*');
        }
    }
    // Spans lie between ASCII characters, so what was text still is.
    String::from_utf8(bytes).unwrap_or_default()
}

/// Passwords in URLs: of `scheme://user:password@` and of `?password=`, `&pass=`. A careless `scheme:/` or `scheme//`
/// begins one just as well: it is then that the URL is quoted.
pub(super) fn url_passwords(text: &str) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    for (at, _) in text.match_indices('/') {
        let start = at + 1;
        if !text[..at].ends_with([':', '/']) || text[start..].starts_with('/') {
            continue;
        }
        let ends = |c: char| c.is_whitespace() || c == '"' || c == '\'';
        let end = text[start..]
            .find(ends)
            .map_or(text.len(), |end| start + end);
        let url = &text[start..end];
        if let Some(password) = password_of_authority(url) {
            out.push(start + password.start..start + password.end);
        }
        for (found, parameter) in ["password=", "pass="]
            .iter()
            .flat_map(|p| url.match_indices(p))
        {
            if matches!(url[..found].chars().last(), Some('?' | '&')) {
                let from = found + parameter.len();
                let to = url[from..].find('&').map_or(url.len(), |to| from + to);
                out.push(start + from..start + to);
            }
        }
    }
    out
}

/// The password in what follows `://`: from the first `:` to the last `@`, as it may hold either.
fn password_of_authority(url: &str) -> Option<Range<usize>> {
    // `?` may begin parameters that hold an `@`, but also stand in a careless password.
    let at = url
        .split_once('?')
        .map_or(url, |(before, _)| before)
        .rfind('@')
        .or_else(|| url.rfind('@'))?;
    let colon = url[..at].find(':')?;
    (!url[..colon].contains(['/', '?']) && colon + 1 < at).then_some(colon + 1..at)
}

/// What is assigned to the keys `password` and `token`.
fn key_secrets(text: &str) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    for (at, word) in ["password", "token"]
        .iter()
        .flat_map(|word| text.match_indices(word))
    {
        if !begins_assignment(&text[..at]) {
            continue;
        }
        let rest = &text[at + word.len()..];
        let quoteless = rest
            .trim_start_matches(['"', '\''])
            .trim_start_matches([' ', '\t']);
        let Some(value) = quoteless.strip_prefix('=') else {
            continue;
        };
        let value = value.trim_start_matches([' ', '\t']);
        let start = text.len() - value.len();
        let quote = ["\"\"\"", "'''", "\"", "'"]
            .into_iter()
            .find(|quote| value.starts_with(quote));
        let line_end = value.find('\n').unwrap_or(value.len());
        out.push(match quote {
            Some(quote) => {
                let from = start + quote.len();
                let multiline = quote.len() == 3;
                let within = if multiline {
                    &text[from..]
                } else {
                    &text[from..(start + line_end).max(from)]
                };
                from..from + end_of_string(within, quote)
            }
            None => start..start + line_end,
        });
    }
    out
}

/// Whether a TOML key can stand after `before`, or go on there (`resp.`, `redis_`).
fn begins_assignment(before: &str) -> bool {
    let is_key = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '"' | '\'');
    let before = before
        .trim_end_matches(is_key)
        .trim_end_matches([' ', '\t']);
    before.is_empty() || before.ends_with(['\n', '{', ',', '#'])
}

/// Where `quote` ends a TOML string; backslashes escape in `"` strings. All of `text` if it does not.
fn end_of_string(text: &str, quote: &str) -> usize {
    let escapes = quote.starts_with('"');
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if escapes && c == '\\' {
            escaped = true;
        } else if text[at..].starts_with(quote) {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
    }

    #[test]
    fn passwords_are_masked_in_place() {
        let rows = [
            (
                "url = \"postgres://u:pw@h/d\"",
                "url = \"postgres://u:**@h/d\"",
            ),
            (
                "url = \"postgres://u:p:w@x@h/d\"",
                "url = \"postgres://u:*****@h/d\"",
            ),
            ("'redis://:pw@h:6379'", "'redis://:**@h:6379'"),
            ("'redis:/:pw@h:6379'", "'redis:/:**@h:6379'"),
            ("'redis//:pw@h:6379'", "'redis//:**@h:6379'"),
            (
                "\"postgres://u@h/d?a=b&password=pw&c=d\"",
                "\"postgres://u@h/d?a=b&password=**&c=d\"",
            ),
            ("\"unix:///x.sock?pass=pw\"", "\"unix:///x.sock?pass=**\""),
            ("\"redis://h:6379/?x=a@b\"", "\"redis://h:*********@b\""),
            ("\"redis://h:6379/0\"", "\"redis://h:6379/0\""),
            ("password = \"é\\\"x\"", "password = \"*****\""),
            ("password = \"pw", "password = \"**"),
            ("password = \"${PW}\"", "password = \"${PW}\""),
            ("password = pw\nx = 1", "password = **\nx = 1"),
            (
                "resp = { password='pw', x = 1 }",
                "resp = { password='**', x = 1 }",
            ),
            ("\"password\" = '''a\nb'''", "\"password\" = '''***'''"),
            ("password_file = \"/x\"", "password_file = \"/x\""),
            ("WHERE password = :p", "WHERE password = :p"),
            ("redis_password = 'pw'", "redis_password = '**'"),
        ];
        for (text, masked) in rows {
            assert_eq!(mask(text), masked);
        }
    }

    #[test]
    fn a_secret_file_loses_one_newline_and_must_hold_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let long = "x".repeat(5000);
        let rows: &[(&[u8], Result<&str, &str>)] = &[
            (b"pw\n", Ok("pw")),
            (b"pw", Ok("pw")),
            (b"pw\n\n", Ok("pw\n")),
            (b" pw ", Ok(" pw ")),
            (b"", Err("empty")),
            (b"\n", Err("empty")),
            (b"a\0b", Err("holds a NUL byte")),
            (b"\xff", Err("not valid UTF-8")),
            (long.as_bytes(), Err("longer than 4096 bytes")),
        ];
        for (content, expected) in rows {
            std::fs::write(&path, content).unwrap();
            let got = read_file(&path);
            assert_eq!(got.as_deref().map_err(String::as_str), *expected);
        }
        assert!(
            read_file(&folder.path().join("none"))
                .unwrap_err()
                .contains("No such file")
        );
        assert_eq!(read_file(folder.path()).unwrap_err(), "not a regular file");
    }

    proptest! {
        #[test]
        fn masking_keeps_every_place(text in "(password|token|://|[=:@\"'\\\\\n ?&aé/])*") {
            let masked = mask(&text);
            prop_assert_eq!(masked.len(), text.len());
            let lines = |text: &str| text.matches('\n').count();
            prop_assert!(lines(&masked) <= lines(&text));
        }
    }
}
