//! Declared SQL, cut at its parameters.

use std::fmt;
use std::ops::Range;

use super::reader::nearest;
use crate::keyspace::Param;

/// A declared query, and where its parameters stand.
///
/// The text may end in a `--` comment: who wraps it in more SQL puts a line break after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The query as declared, without a `;` at its end.
    pub text: String,
    /// The text from beginning to end, without gaps.
    pub pieces: Vec<Piece>,
}

/// Which of a cache's statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    Query,
    Save,
    Delete,
    /// The keys that it is warmed with.
    WarmKeys,
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Declared::Query => "query",
            Declared::Save => "write.save",
            Declared::Delete => "write.delete",
            Declared::WarmKeys => "warm.keys",
        })
    }
}

/// A part of a query, by the bytes of its text.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    Sql(Range<usize>),
    Param {
        /// Which parameter of the cache's key.
        index: usize,
        /// Includes the colon.
        at: Range<usize>,
    },
}

/// What is wrong with a query, and where in its text.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryError {
    /// Bytes of the declared text.
    pub at: Range<usize>,
    pub message: String,
    /// What to write instead.
    pub help: String,
}

fn error(at: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> QueryError {
    QueryError {
        at,
        message: message.into(),
        help: help.into(),
    }
}

impl Query {
    /// Reads a query whose `:name`s are the parameters of a key, each used at least once.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(text: &str, params: &[Param]) -> Result<Query, Vec<QueryError>> {
        let names: Vec<&str> = params.iter().map(|param| param.name.as_str()).collect();
        let (query, mut errors) = resolve(text, &names);
        // An unused parameter would let any number of keys stand for one answer. With other errors
        // about, a misspelled name is the likelier cause.
        if let (true, Some(name)) = (errors.is_empty(), query.first_unused(&names)) {
            errors.push(error(
                0..text.len(),
                format!("the query never uses the key's parameter `{name}`"),
                format!("use it as `:{name}`, or take it out of the key"),
            ));
        }
        if errors.is_empty() {
            Ok(query)
        } else {
            Err(errors)
        }
    }

    /// Reads a statement that writes, in which each of `names` is used: one that does not ask which key it is would
    /// change the rows of all of them.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(super) fn parse_statement(text: &str, names: &[&str]) -> Result<Query, Vec<QueryError>> {
        let (query, mut errors) = resolve(text, names);
        if let (true, Some(name)) = (errors.is_empty(), query.first_unused(names)) {
            errors.push(error(
                0..text.len(),
                format!("the statement never uses `:{name}`"),
                format!("use `:{name}`: which rows are written must depend on the key"),
            ));
        }
        if errors.is_empty() {
            Ok(query)
        } else {
            Err(errors)
        }
    }

    fn first_unused<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        let uses = |index| {
            let mut pieces = self.pieces.iter();
            pieces.any(|p| matches!(p, Piece::Param { index: i, .. } if *i == index))
        };
        let unused = (0..names.len()).find(|index| !uses(*index));
        unused.map(|index| names[index])
    }
}

fn resolve(text: &str, names: &[&str]) -> (Query, Vec<QueryError>) {
    let mut scan = Scan {
        text,
        at: 0,
        names: Vec::new(),
        errors: Vec::new(),
        end: None,
        is_blank: true,
    };
    scan.run();
    let Scan {
        names: found,
        mut errors,
        end,
        is_blank,
        ..
    } = scan;
    if is_blank && errors.is_empty() {
        errors.push(error(0..text.len(), "the query is empty", "write a SELECT"));
    }
    let text = &text[..end.unwrap_or(text.len())];
    let mut pieces = Vec::new();
    let mut done = 0;
    for at in found {
        let name = &text[at.start + 1..at.end];
        let Some(index) = names.iter().position(|known| *known == name) else {
            errors.push(error(
                at,
                format!("`:{name}` is no parameter"),
                unknown_help(name, names),
            ));
            continue;
        };
        pieces.push(Piece::Sql(done..at.start));
        done = at.end;
        pieces.push(Piece::Param { index, at });
    }
    pieces.push(Piece::Sql(done..text.len()));
    pieces.retain(|piece| !matches!(piece, Piece::Sql(range) if range.is_empty()));
    (
        Query {
            text: text.to_owned(),
            pieces,
        },
        errors,
    )
}

fn unknown_help(name: &str, names: &[&str]) -> String {
    match (nearest(name, names), names) {
        (Some(meant), _) => format!("did you mean `:{meant}`?"),
        (None, []) => {
            "there are no parameters here; an array slice needs a space after its `:`".into()
        }
        (None, names) => format!("the parameters are :{}", names.join(", :")),
    }
}

/// Reads SQL as far as needed to know what is text, comment or name (PostgreSQL manual, "Lexical
/// Structure"; with `standard_conforming_strings`, which has been the default since 9.1).
struct Scan<'t> {
    text: &'t str,
    at: usize,
    /// Every `:name`, colon included.
    names: Vec<Range<usize>>,
    errors: Vec<QueryError>,
    /// Where a `;` ended the statement.
    end: Option<usize>,
    is_blank: bool,
}

impl Scan<'_> {
    fn run(&mut self) {
        while let Some(byte) = self.peek(0) {
            match (byte, self.peek(1)) {
                (b'-', Some(b'-')) => self.line_comment(),
                (b'/', Some(b'*')) => self.block_comment(),
                (byte, _) if byte.is_ascii_whitespace() => self.at += 1,
                (b';', _) => {
                    self.end = self.end.or(Some(self.at));
                    self.at += 1;
                }
                _ => {
                    if let Some(end) = self.end {
                        self.errors.push(error(
                            end..end + 1,
                            "`;` separates statements, and a query is one",
                            "leave one statement, without `;`",
                        ));
                        return;
                    }
                    self.is_blank = false;
                    self.token(byte);
                }
            }
        }
    }

    /// Reads one thing that is neither space nor comment.
    fn token(&mut self, byte: u8) {
        match byte {
            b'\'' => self.quoted(b'\'', false),
            b'"' => self.quoted(b'"', false),
            b'$' => self.dollar(),
            b':' => self.colon(),
            0 => {
                self.errors.push(error(
                    self.at..self.at + 1,
                    "the query holds a NUL byte",
                    "take it out",
                ));
                self.at += 1;
            }
            byte if is_name_byte(byte) => self.word(),
            _ => self.at += 1,
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    /// A name, keyword or number; a `$` within it begins no dollar quote. `E'` begins a string with
    /// backslash escapes.
    fn word(&mut self) {
        let start = self.at;
        while self
            .peek(0)
            .is_some_and(|byte| is_name_byte(byte) || byte == b'$')
        {
            self.at += 1;
        }
        let word = &self.text[start..self.at];
        if self.peek(0) == Some(b'\'') && word.eq_ignore_ascii_case("e") {
            self.quoted(b'\'', true);
        }
    }

    /// A doubled quote needs no care: it ends one string and begins the next.
    fn quoted(&mut self, quote: u8, escapes: bool) {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.peek(0) {
            self.at += 1;
            if byte == quote {
                // With escapes it matters that the same string goes on: `E'a''b'`, and
                // after a line break `E'a'` then `'b'`.
                match self.continued(quote) {
                    Some(next) if escapes => {
                        self.at = next;
                        continue;
                    }
                    _ => return,
                }
            }
            if escapes && byte == b'\\' && self.peek(0).is_some() {
                self.at += 1;
            }
        }
        self.unclosed(start, "string", if quote == b'"' { "\"" } else { "'" });
    }

    /// Where a string that was just closed goes on, if it does.
    fn continued(&self, quote: u8) -> Option<usize> {
        let rest = &self.text.as_bytes()[self.at..];
        let gap = rest
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count();
        let joins = gap == 0 || rest[..gap].iter().any(|byte| matches!(byte, b'\n' | b'\r'));
        (joins && rest.get(gap) == Some(&quote)).then_some(self.at + gap + 1)
    }

    fn dollar(&mut self) {
        let start = self.at;
        self.at += 1;
        if self.peek(0).is_some_and(|byte| byte.is_ascii_digit()) {
            while self.peek(0).is_some_and(|byte| byte.is_ascii_digit()) {
                self.at += 1;
            }
            let number = &self.text[start..self.at];
            let help = "write the name of a key's parameter, such as `:id`";
            self.errors.push(error(
                start..self.at,
                format!("`{number}` is no parameter"),
                help,
            ));
            return;
        }
        let mut tag_end = self.at;
        while self
            .text
            .as_bytes()
            .get(tag_end)
            .is_some_and(|byte| is_name_byte(*byte))
        {
            tag_end += 1;
        }
        if self.text.as_bytes().get(tag_end) != Some(&b'$') {
            return; // a lone dollar, which Postgres will judge
        }
        let tag = &self.text[start..=tag_end];
        match self.text[tag_end + 1..].find(tag) {
            Some(close) => self.at = tag_end + 1 + close + tag.len(),
            None => self.unclosed(start, "dollar quote", tag),
        }
    }

    fn colon(&mut self) {
        let start = self.at;
        match self.peek(1) {
            // A cast, or the `:=` of a named argument.
            Some(b':' | b'=') => self.at += 2,
            Some(byte) if byte.is_ascii_alphabetic() || byte == b'_' => {
                self.at += 1;
                while self.peek(0).is_some_and(is_name_byte) {
                    self.at += 1;
                }
                self.names.push(start..self.at);
            }
            _ => self.at += 1,
        }
    }

    fn line_comment(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.find(['\n', '\r']).map_or(rest.len(), |end| end + 1);
    }

    /// Block comments nest in Postgres.
    fn block_comment(&mut self) {
        let start = self.at;
        let mut depth = 0usize;
        while let Some(byte) = self.peek(0) {
            match (byte, self.peek(1)) {
                (b'/', Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', Some(b'/')) => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.at += 1,
            }
        }
        self.unclosed(start, "comment", "*/");
    }

    fn unclosed(&mut self, start: usize, what: &str, closing: &str) {
        self.at = self.text.len();
        let help = format!("close it with `{closing}`");
        self.errors.push(error(
            start..start + 1,
            format!("the {what} that begins here is not closed"),
            help,
        ));
    }
}

/// Bytes of names, keywords and numbers; those above ASCII are letters to Postgres.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
