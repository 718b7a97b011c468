//! The source as the checks see it: the tokens and paths of every file, without comments and without tests.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One word of the source: an identifier, a literal, a sign. `::` is one word, every other sign is its own.
#[derive(Clone, Debug)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// A path as somebody wrote it, spelled out: `use super::{a, b::c}` in `cache/actor.rs` is `crate::cache::a` and
/// `crate::cache::b::c`.
#[derive(Clone, Debug)]
pub struct Named {
    pub path: String,
    pub line: usize,
}

/// One file of `src/`.
#[derive(Debug)]
pub struct Source {
    /// The file below `src/`: `cache/actor.rs`.
    pub file: String,
    pub tokens: Vec<Token>,
    pub names: Vec<Named>,
    /// The files that hold this file's tests.
    test_files: Vec<PathBuf>,
}

/// Where the crate is.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` whose name ends in one of `endings`, sorted.
pub fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    for entry in entries {
        let path = entry.expect("an entry of a folder").path();
        if path.is_dir() {
            found.extend(files(&path, endings));
        } else if endings
            .iter()
            .any(|end| path.to_string_lossy().ends_with(end))
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// All of `src/` but the files that are tests.
pub fn sources() -> Vec<Source> {
    let src = root().join("src");
    let parsed: Vec<Source> = files(&src, &[".rs"])
        .iter()
        .map(|path| {
            let file = path.strip_prefix(&src).expect("below src/");
            let text = fs::read_to_string(path).expect("a readable file");
            Source::parse(&file.to_string_lossy(), &text)
        })
        .collect();
    let tests: BTreeSet<PathBuf> = parsed
        .iter()
        .flat_map(|source| source.test_files.clone())
        .collect();
    let is_test = |source: &Source| {
        let mut above = Path::new(&source.file).ancestors();
        above.any(|above| tests.contains(above) || tests.contains(&above.with_extension("rs")))
    };
    parsed
        .into_iter()
        .filter(|source| !is_test(source))
        .collect()
}

impl Source {
    /// Reads a file; `file` is its path below `src/`.
    pub fn parse(file: &str, text: &str) -> Source {
        let stream: TokenStream = text
            .parse()
            .unwrap_or_else(|error| panic!("src/{file} is no Rust: {error}"));
        let mut reader = Reader {
            file: Path::new(file),
            tokens: Vec::new(),
            test_files: Vec::new(),
        };
        reader.read(stream);
        let names = names(&reader.tokens, &module(file));
        Source {
            file: file.to_owned(),
            tokens: reader.tokens,
            names,
            test_files: reader.test_files,
        }
    }

    /// The top-level module the file belongs to.
    pub fn room(&self) -> &str {
        let first = self.file.split('/').next().unwrap_or_default();
        first.trim_end_matches(".rs")
    }

    /// Whether the file is `place`, or lies in it: `cache`, `cache/actor.rs`.
    pub fn is_in(&self, place: &str) -> bool {
        let rest = self.file.strip_prefix(place);
        rest.is_some_and(|rest| rest.is_empty() || rest == ".rs" || rest.starts_with('/'))
    }

    /// The lines on which these words follow one another.
    pub fn lines_with(&self, words: &[String]) -> Vec<usize> {
        self.tokens
            .windows(words.len())
            .filter(|window| {
                window
                    .iter()
                    .zip(words)
                    .all(|(has, word)| has.text == *word)
            })
            .map(|window| window[0].line)
            .collect()
    }
}

/// The words of a snippet that need not be whole: `ctx.wait(`.
pub fn words(snippet: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut in_text = false;
    for sign in snippet.chars() {
        let joins = words.last().is_some_and(|last| {
            let in_word = |sign: char| sign.is_alphanumeric() || sign == '_';
            in_text || (last == ":" && sign == ':') || (last.ends_with(in_word) && in_word(sign))
        });
        match words.last_mut() {
            Some(last) if joins => last.push(sign),
            _ => words.push(sign.to_string()),
        }
        in_text ^= sign == '"';
    }
    words
}

/// Turns trees of tokens into one line of words, and leaves out what is there for tests only.
struct Reader<'a> {
    file: &'a Path,
    tokens: Vec<Token>,
    test_files: Vec<PathBuf>,
}

impl Reader<'_> {
    fn read(&mut self, stream: TokenStream) {
        let mut trees = stream.into_iter().peekable();
        while let Some(tree) = trees.next() {
            if is_sign(&tree, '#')
                && let Some(TokenTree::Group(attribute)) = trees.peek()
                && attribute.stream().to_string() == "cfg (test)"
            {
                trees.next();
                self.leave_out(&mut trees);
                continue;
            }
            self.keep(tree);
        }
    }

    /// Skips one item. If it is the declaration of a file, that file holds tests.
    fn leave_out(&mut self, trees: &mut impl Iterator<Item = TokenTree>) {
        let mut words = Vec::new();
        let mut path = None;
        for tree in trees {
            match &tree {
                TokenTree::Group(body) if body.delimiter() == Delimiter::Brace => return,
                TokenTree::Group(attribute) if attribute.delimiter() == Delimiter::Bracket => {
                    let text = attribute.stream().to_string();
                    let quoted = text.strip_prefix("path =");
                    path = quoted.map(|quoted| quoted.trim().trim_matches('"').to_owned());
                }
                tree if is_sign(tree, ';') => break,
                tree => words.push(tree.to_string()),
            }
        }
        let folder = self.file.parent().unwrap_or(Path::new(""));
        if let [.., declares, name] = &words[..]
            && declares == "mod"
        {
            let beside = self.file.file_name().is_some_and(|name| name == "mod.rs");
            self.test_files.push(match path {
                Some(path) => folder.join(path),
                None if beside => folder.join(format!("{name}.rs")),
                None => self.file.with_extension("").join(format!("{name}.rs")),
            });
        }
    }

    fn keep(&mut self, tree: TokenTree) {
        let line = tree.span().start().line;
        let TokenTree::Group(group) = tree else {
            return self.push(tree.to_string(), line);
        };
        let (open, close) = match group.delimiter() {
            Delimiter::Parenthesis => ("(", ")"),
            Delimiter::Brace => ("{", "}"),
            Delimiter::Bracket => ("[", "]"),
            Delimiter::None => ("", ""),
        };
        self.push(open.to_owned(), line);
        self.read(group.stream());
        self.push(close.to_owned(), group.span_close().start().line);
    }

    fn push(&mut self, text: String, line: usize) {
        match self.tokens.last_mut() {
            Some(last) if last.text == ":" && text == ":" => last.text.push(':'),
            _ => self.tokens.push(Token { text, line }),
        }
    }
}

fn is_sign(tree: &TokenTree, sign: char) -> bool {
    matches!(tree, TokenTree::Punct(punct) if punct.as_char() == sign)
}

/// The module a file is: `crate`, `cache`, `actor` for `cache/actor.rs`.
fn module(file: &str) -> Vec<String> {
    let steps = file.trim_end_matches(".rs").split('/');
    let steps = steps.filter(|step| !["mod", "lib", "main"].contains(step));
    std::iter::once("crate")
        .chain(steps)
        .map(str::to_owned)
        .collect()
}

/// Every path in the words, spelled out from the crate's root where it is one of ours.
fn names(tokens: &[Token], module: &[String]) -> Vec<Named> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut names = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let before = at.checked_sub(1).map_or("", text);
        let is_used = before == "use" && text(at) != "<";
        let has_steps = begins_path(text(at)) && text(at + 1) == "::" && before != ".";
        // What stands before the `::` of `::redis::Client` is the end of no path.
        let from_all_crates = text(at) == "::" && is_word(text(at + 1)) && before != ">";
        if is_used || has_steps || from_all_crates {
            at = expand(tokens, at, &mut Vec::new(), module, &mut names).max(at + 1);
        } else {
            at += 1;
        }
    }
    names
}

/// Words that may stand before a path from the root of all crates, and belong to none.
const KEYWORDS: &[&str] = &[
    "as", "break", "dyn", "else", "for", "if", "impl", "in", "match", "move", "mut", "pub", "ref",
    "return", "use", "where", "while",
];

fn begins_path(text: &str) -> bool {
    is_word(text) && !KEYWORDS.contains(&text)
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Follows one path, or every branch of a tree, from the word at `at`; returns where it ended.
fn expand(
    tokens: &[Token],
    mut at: usize,
    prefix: &mut Vec<String>,
    module: &[String],
    names: &mut Vec<Named>,
) -> usize {
    let depth = prefix.len();
    let line = tokens[at].line;
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    loop {
        match text(at) {
            "{" => {
                at += 1;
                while !matches!(text(at), "}" | "") {
                    at = match text(at) {
                        "," => at + 1,
                        "as" => at + 2,
                        _ => expand(tokens, at, prefix, module, names).max(at + 1),
                    };
                }
                prefix.truncate(depth);
                return at + 1;
            }
            "::" => at += 1,
            word if is_word(word) || word == "*" => {
                prefix.push(word.to_owned());
                at += 1;
                if text(at) != "::" || !(is_word(text(at + 1)) || matches!(text(at + 1), "{" | "*"))
                {
                    break;
                }
            }
            _ => break,
        }
    }
    let path = spelled_out(prefix, module);
    names.push(Named { path, line });
    prefix.truncate(depth);
    at
}

fn spelled_out(path: &[String], module: &[String]) -> String {
    let mut from = module.to_vec();
    let mut rest = path;
    match path.first().map(String::as_str) {
        Some("self") => rest = &path[1..],
        Some("super") => {
            while let [first, others @ ..] = rest
                && first == "super"
            {
                from.pop();
                rest = others;
            }
        }
        // The binary calls the library by its name.
        Some("cachewarden") => {
            from = vec!["crate".to_owned()];
            rest = &path[1..];
        }
        _ => from.clear(),
    }
    from.extend_from_slice(rest);
    from.join("::")
}
