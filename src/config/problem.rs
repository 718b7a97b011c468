//! What is wrong with a configuration, each fault with its place in the text and the mend.

use std::{fmt, ops::Range, path::PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// How many problems are collected and printed; a file with more is better mended in turns.
const MAX_PROBLEMS: usize = 200;

/// The text of a configuration and where it came from. Literal passwords in the text are masked, so
/// that it may be quoted; byte offsets are those of the file without its byte order mark.
#[derive(Clone, Debug, Default)]
pub struct Source {
    pub path: Option<PathBuf>,
    pub text: String,
}

impl Source {
    /// Renders a message about a place of the text, as every configuration error is rendered.
    pub fn report(&self, span: Range<usize>, message: &str, help: &str) -> String {
        self.render(&Problem::new(span, message, help))
    }

    /// The place in the file of an offset, in bytes, in a declared text whose value stands at `span`. Exact when the
    /// file holds the text as it is sent (no escapes, nothing from the environment), else the whole value.
    pub fn place_in(&self, text: &str, span: &Range<usize>, offset: usize) -> Range<usize> {
        let offset = text.floor_char_boundary(offset.min(text.len()));
        self.find_in(span, text).map_or(span.clone(), |start| {
            let word = text[offset..]
                .find(|c: char| !is_word(c))
                .unwrap_or(text.len() - offset);
            start + offset..start + offset + word.max(1).min(text.len() - offset)
        })
    }

    /// Where `part` stands verbatim within `span`.
    pub(super) fn find_in(&self, span: &Range<usize>, part: &str) -> Option<usize> {
        self.text
            .get(span.clone())?
            .find(part)
            .map(|at| span.start + at)
    }

    fn render(&self, problem: &Problem) -> String {
        let title = Level::ERROR.primary_title(&problem.message);
        let mut group = match &problem.span {
            Some(span) => title.element(self.snippet(span, None)),
            None => Group::with_title(title),
        };
        for (span, label) in &problem.also {
            group = group.element(self.snippet(span, Some(label)));
        }
        if !problem.help.is_empty() {
            group = group.element(Level::HELP.message(&problem.help));
        }
        Renderer::plain().render(&[group])
    }

    /// The line of `span`, underlined. Only that line is handed over: the renderer reads all of what
    /// it gets for every problem.
    fn snippet<'a>(
        &'a self,
        span: &Range<usize>,
        label: Option<&'a str>,
    ) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let (line_number, line) = self.line_of(span.start);
        let start = span.start.clamp(line.start, line.end);
        let end = span.end.clamp(start, line.end);
        let path = self
            .path
            .as_ref()
            .map_or("configuration".into(), |path| path.display().to_string());
        Snippet::source(&self.text[line.clone()])
            .line_start(line_number)
            .path(path)
            .annotation(
                AnnotationKind::Primary
                    .span(start - line.start..end - line.start)
                    .label(label),
            )
    }

    /// The number, from 1, and the bytes of the line that holds `offset`.
    fn line_of(&self, offset: usize) -> (usize, Range<usize>) {
        let offset = self.text.floor_char_boundary(offset);
        let before = &self.text[..offset];
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let end = self.text[offset..]
            .find('\n')
            .map_or(self.text.len(), |at| offset + at);
        (before.matches('\n').count() + 1, start..end)
    }

    /// Line and column, both from 1, of a byte of the text; columns count characters.
    pub fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset);
        let (number, line) = self.line_of(offset);
        (number, self.text[line.start..offset].chars().count() + 1)
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// One fault of a configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub message: String,
    /// Bytes of [`Source::text`]; none if the file itself is the problem.
    pub span: Option<Range<usize>>,
    /// What to write instead.
    pub help: String,
    /// Other places that take part, each with its label.
    pub also: Vec<(Range<usize>, String)>,
    /// The fault is that something is not there, which a syntax error elsewhere may have caused.
    is_absence: bool,
}

impl Problem {
    pub(super) fn new(
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Problem {
        Problem {
            message: message.into(),
            span: Some(span),
            help: help.into(),
            also: Vec::new(),
            is_absence: false,
        }
    }

    pub(super) fn absence(span: Range<usize>, message: String, help: String) -> Problem {
        Problem {
            is_absence: true,
            ..Problem::new(span, message, help)
        }
    }

    pub(super) fn of_file(message: String, help: &str) -> Problem {
        Problem {
            span: None,
            ..Problem::new(0..0, message, help)
        }
    }

    pub(super) fn and(mut self, span: Range<usize>, label: impl Into<String>) -> Problem {
        self.also.push((span, label.into()));
        self
    }
}

/// All that is wrong with a configuration, in the order of the text.
#[derive(Clone, Debug)]
pub struct Problems {
    source: Source,
    all: Vec<Problem>,
    /// How many more there were than are kept.
    more: usize,
}

impl Problems {
    pub(super) fn new(source: Source, mut all: Vec<Problem>) -> Problems {
        all.sort_by_key(|problem| problem.span.as_ref().map(|span| (span.start, span.end)));
        let more = all.len().saturating_sub(MAX_PROBLEMS);
        all.truncate(MAX_PROBLEMS);
        Problems { source, all, more }
    }

    /// Joins syntax errors with what was found in the rest: what a broken line made of its values,
    /// and what seems missing because of it, would only mislead.
    pub(super) fn join(source: Source, syntax: Vec<Problem>, mut found: Vec<Problem>) -> Problems {
        let line = |problem: &Problem| {
            problem
                .span
                .as_ref()
                .map(|span| source.line_of(span.start).0)
        };
        let broken: Vec<_> = syntax.iter().map(line).collect();
        if !syntax.is_empty() {
            found.retain(|problem| !problem.is_absence && !broken.contains(&line(problem)));
        }
        found.extend(syntax);
        Problems::new(source, found)
    }

    /// How many problems there are.
    pub fn len(&self) -> usize {
        self.all.len() + self.more
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.all.iter()
    }

    pub fn source(&self) -> &Source {
        &self.source
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.all.iter().enumerate() {
            let gap = if n == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{}", self.source.render(problem))?;
        }
        if self.more > 0 {
            write!(f, "\n\nand {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
