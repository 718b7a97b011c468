//! Patterns: which keys an invalidation by glob removes, exactly as Redis' own `MATCH` reads it.
//!
//! After `stringmatchlen` of Redis' `util.c`. A pattern is compiled once and then matched without recursion: where a `*`
//! has to take one byte more, only the last `*` needs to be tried again, so a match costs at most pattern times key.

use super::error::shown_key;
use super::{KeyTemplate, MAX_KEY_BYTES, names, template::Segment};
use bytes::Bytes;

/// The longest pattern, in bytes. Redis matches every key of the server against it, on its only thread.
pub const MAX_PATTERN_BYTES: usize = 512;
/// The most `*`, `?` and `[…]` of one pattern: each `*` multiplies what Redis does for a key.
pub const MAX_WILDCARDS: usize = 8;
/// Characters that mean something else than themselves.
const SPECIAL: [u8; 4] = *b"*?[\\";

/// Why a pattern is refused: one line, safe to send to a client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("length {len} exceeds {MAX_PATTERN_BYTES}")]
    TooLong { len: usize },
    #[error("'{pattern}' has more than {MAX_WILDCARDS} wildcards")]
    TooManyWildcards { pattern: String },
    #[error("unclosed '[' at {at} in '{pattern}'")]
    Unclosed { pattern: String, at: usize },
    #[error("'{pattern}' ends in '\\'; write '\\\\' for the character itself")]
    TrailingBackslash { pattern: String },
    /// Redis compares these as signed bytes on some machines and as unsigned ones on others.
    #[error("the range at {at} in '{pattern}' has an end that is not ASCII")]
    BadRange { pattern: String, at: usize },
    /// Nothing literal in front that says whose keys are meant.
    #[error("'{pattern}' is too wide; begin with a declared prefix, colon included ({known})")]
    TooWide { pattern: String, known: String },
    #[error("'{pattern}' begins with no declared prefix ({known})")]
    Foreign { pattern: String, known: String },
    #[error("'{pattern}' is reserved for cachewarden's own keys")]
    Reserved { pattern: String },
}

/// Whether a bare argument is a pattern and not a key.
pub fn is_pattern(text: &[u8]) -> bool {
    text.iter().any(|byte| SPECIAL.contains(byte))
}

/// A text as a pattern that matches it alone.
pub fn escape(text: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len());
    for byte in text {
        // `]` and `^` only mean something behind a `[`, which is escaped.
        if SPECIAL.contains(byte) {
            escaped.push(b'\\');
        }
        escaped.push(*byte);
    }
    escaped
}

/// A set of bytes: one bit each.
type ByteSet = [u64; 4];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    Any,
    OneOf(Box<ByteSet>),
    Star,
}

impl Token {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Token::Byte(own) => *own == byte,
            Token::Any => true,
            Token::OneOf(set) => contains(set, byte),
            Token::Star => false,
        }
    }
}

/// A Redis glob. Equal patterns are spelled equally.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Bytes,
    tokens: Vec<Token>,
    /// What every match begins with.
    head: Vec<u8>,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Pattern {
    /// Compiles a glob. Whether it may be swept is [`Reach`]'s to say.
    ///
    /// # Errors
    /// For what is no glob, or one that costs Redis too much.
    pub fn parse(text: &[u8]) -> Result<Self, PatternError> {
        if text.len() > MAX_PATTERN_BYTES {
            return Err(PatternError::TooLong { len: text.len() });
        }
        let mut tokens = Vec::with_capacity(text.len());
        let mut at = 0;
        while let Some(byte) = text.get(at) {
            let (token, length) = match byte {
                b'*' => (Token::Star, 1),
                b'?' => (Token::Any, 1),
                b'[' => {
                    let (set, length) = byte_set(text, at)?;
                    (Token::OneOf(Box::new(set)), length)
                }
                b'\\' => match text.get(at + 1) {
                    Some(escaped) => (Token::Byte(*escaped), 2),
                    None => {
                        let pattern = shown_key(text);
                        return Err(PatternError::TrailingBackslash { pattern });
                    }
                },
                byte => (Token::Byte(*byte), 1),
            };
            tokens.push(token);
            at += length;
        }
        let wildcards = tokens.iter().filter(|token| !is_literal(token)).count();
        if wildcards > MAX_WILDCARDS {
            let pattern = shown_key(text);
            return Err(PatternError::TooManyWildcards { pattern });
        }
        let head = tokens.iter().map_while(literal).collect();
        Ok(Self {
            text: Bytes::copy_from_slice(text),
            tokens,
            head,
        })
    }

    /// Every key that begins with `prefix`.
    pub fn all_under(prefix: &str) -> Self {
        let head = prefix.as_bytes().to_vec();
        let mut tokens: Vec<Token> = head.iter().copied().map(Token::Byte).collect();
        tokens.push(Token::Star);
        let text = [escape(&head), b"*".to_vec()].concat().into();
        Self { text, tokens, head }
    }

    /// Every key of a template: `*` in the place of each parameter.
    pub fn all_of(template: &KeyTemplate) -> Self {
        let mut tokens = Vec::new();
        for (place, segment) in template.segments.iter().enumerate() {
            let colon = (place > 0).then_some(Token::Byte(b':'));
            tokens.extend(colon);
            let literal = |text: &str| text.bytes().map(Token::Byte).collect::<Vec<_>>();
            match segment {
                Segment::Literal(text) => tokens.extend(literal(text)),
                Segment::Param { head, tail } => {
                    tokens.extend(literal(head));
                    tokens.push(Token::Star);
                    tokens.extend(literal(tail));
                }
            }
        }
        let text = tokens.iter().flat_map(|token| match token {
            Token::Byte(byte) => escape(&[*byte]),
            _ => b"*".to_vec(),
        });
        Self {
            text: text.collect(),
            head: tokens.iter().map_while(literal).collect(),
            tokens,
        }
    }

    /// As it is written, for Redis' `MATCH`.
    pub fn text(&self) -> &Bytes {
        &self.text
    }

    /// As it may be shown: one short line.
    pub fn shown(&self) -> String {
        shown_key(&self.text)
    }

    /// Whether it matches whatever begins with its head.
    pub fn is_all_under_its_head(&self) -> bool {
        let rest = &self.tokens[self.head.len()..];
        !rest.is_empty() && rest.iter().all(|token| *token == Token::Star)
    }

    /// What every match begins with.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The one key it matches, if it has no wildcard.
    pub fn only_key(&self) -> Option<&[u8]> {
        (self.head.len() == self.tokens.len()).then_some(self.head.as_slice())
    }

    /// Whether Redis would match `key`.
    pub fn matches(&self, key: &[u8]) -> bool {
        if !key.starts_with(&self.head) {
            return false;
        }
        let (mut token, mut at) = (self.head.len(), self.head.len());
        // Behind the last `*`, and where it stopped taking bytes.
        let mut retry: Option<(usize, usize)> = None;
        while at < key.len() {
            match self.tokens.get(token) {
                Some(Token::Star) => {
                    token += 1;
                    retry = Some((token, at));
                }
                Some(one) if one.takes(key[at]) => {
                    token += 1;
                    at += 1;
                }
                _ => match retry {
                    Some((behind, stopped)) => {
                        retry = Some((behind, stopped + 1));
                        (token, at) = (behind, stopped + 1);
                    }
                    None => return false,
                },
            }
        }
        self.tokens[token..].iter().all(|rest| *rest == Token::Star)
    }
}

fn is_literal(token: &Token) -> bool {
    matches!(token, Token::Byte(_))
}

fn literal(token: &Token) -> Option<u8> {
    match token {
        Token::Byte(byte) => Some(*byte),
        _ => None,
    }
}

/// The class that begins at `start`, and its length. Redis' rules: a `]` ends it wherever it stands but behind a `\` or as
/// the end of a range, so `[]` takes nothing and `[^]` everything; a range may run backwards.
fn byte_set(text: &[u8], start: usize) -> Result<(ByteSet, usize), PatternError> {
    let unclosed = || PatternError::Unclosed {
        pattern: shown_key(text),
        at: start,
    };
    let mut set = ByteSet::default();
    let mut at = start + 1;
    let negated = text.get(at) == Some(&b'^');
    at += usize::from(negated);
    loop {
        match text.get(at..).unwrap_or_default() {
            [] => return Err(unclosed()),
            [b'\\', escaped, ..] => {
                add(&mut set, *escaped, *escaped);
                at += 2;
            }
            [b']', ..] => break,
            [from, b'-', to, ..] => {
                if !from.is_ascii() || !to.is_ascii() {
                    let pattern = shown_key(text);
                    return Err(PatternError::BadRange { pattern, at });
                }
                add(&mut set, *from.min(to), *from.max(to));
                at += 3;
            }
            [byte, ..] => {
                add(&mut set, *byte, *byte);
                at += 1;
            }
        }
    }
    if negated {
        set.iter_mut().for_each(|word| *word = !*word);
    }
    Ok((set, at + 1 - start))
}

fn add(set: &mut ByteSet, from: u8, to: u8) {
    for byte in from..=to {
        set[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }
}

fn contains(set: &ByteSet, byte: u8) -> bool {
    set[usize::from(byte >> 6)] & (1 << (byte & 63)) != 0
}

/// What an invalidation may remove: keys under declared prefixes, and nothing else.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Sorted, each once.
    prefixes: Vec<String>,
}

/// How many prefixes a refusal lists.
const MAX_KNOWN: usize = 8;

impl Reach {
    /// The reach of these prefixes, each of which ends in a colon.
    pub fn new(prefixes: impl IntoIterator<Item = String>) -> Self {
        let mut prefixes: Vec<String> = prefixes.into_iter().collect();
        prefixes.sort();
        prefixes.dedup();
        Self { prefixes }
    }

    /// The declared prefixes.
    pub fn prefixes(&self) -> &[String] {
        &self.prefixes
    }

    /// The declared prefix that `text` begins with, colon included; the shortest, should one begin with another.
    pub fn prefix_of(&self, text: &[u8]) -> Option<&str> {
        let under = |prefix: &&String| text.starts_with(prefix.as_bytes());
        self.prefixes.iter().find(under).map(String::as_str)
    }

    /// Whether a key may be removed.
    pub fn covers(&self, key: &[u8]) -> bool {
        !key.is_empty()
            && key.len() <= MAX_KEY_BYTES
            && self.prefix_of(key).is_some()
            && !names::is_reserved(key)
    }

    /// Compiles a glob that may be swept.
    ///
    /// # Errors
    /// For what is no glob, costs Redis too much, or does not begin with a declared prefix.
    pub fn pattern(&self, text: &[u8]) -> Result<Pattern, PatternError> {
        let pattern = Pattern::parse(text)?;
        if self.prefix_of(pattern.head()).is_some() {
            return Ok(pattern);
        }
        let shown = pattern.shown();
        if names::is_reserved(pattern.head()) || pattern.head().starts_with(b"{") {
            return Err(PatternError::Reserved { pattern: shown });
        }
        let known = self.known();
        let pattern = shown;
        Err(if text.contains(&b':') && !text.starts_with(b"*") {
            PatternError::Foreign { pattern, known }
        } else {
            PatternError::TooWide { pattern, known }
        })
    }

    fn known(&self) -> String {
        if self.prefixes.is_empty() {
            return "none is declared".to_owned();
        }
        let mut known = self.prefixes[..self.prefixes.len().min(MAX_KNOWN)].join(", ");
        if self.prefixes.len() > MAX_KNOWN {
            known.push_str(", …");
        }
        format!("known: {known}")
    }
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod tests;
