//! From a key to the declared space that answers it. Every key of every request comes through here.

use std::hash::BuildHasher;

use bytes::Bytes;
use foldhash::fast::FixedState;
use memchr::memchr_iter;
use smallvec::SmallVec;
use std::collections::HashMap;

use super::{
    KeyError, KeyTemplate, MAX_KEY_BYTES, Prefixes,
    error::{shown_key, shown_text},
    names,
    template::{MAX_SEGMENTS, Segment},
};

/// How much of what is declared an error lists.
const MAX_KNOWN: usize = 8;
const MAX_KNOWN_BYTES: usize = 160;

/// A declared space: its place among the caches and, after them, the namespaces.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SpaceId(pub u16);

/// Where parameters stand in a key: start and end, in bytes (a key has at most 512).
type Places = SmallVec<[(u16, u16); 2]>;

/// Where a key leads.
#[derive(Clone, Debug)]
pub struct Route {
    pub space: SpaceId,
    params: Places,
}

impl Route {
    /// Joins the route with the key it was found for.
    pub fn with_key(self, key: Bytes) -> RoutedKey {
        RoutedKey {
            key,
            space: self.space,
            params: self.params,
        }
    }
}

/// A key, its space and its parameters.
#[derive(Clone, Debug)]
pub struct RoutedKey {
    pub key: Bytes,
    pub space: SpaceId,
    params: Places,
}

impl RoutedKey {
    /// The `i`-th parameter as it is spelled in the key; `""` past the last.
    pub fn param(&self, i: usize) -> &str {
        self.params.get(i).map_or("", |place| self.at(*place))
    }

    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.params.iter().map(|place| self.at(*place))
    }

    fn at(&self, (start, end): (u16, u16)) -> &str {
        // Routing has checked that the key holds text here; it keeps no key, so it can't keep a &str.
        let bytes = self
            .key
            .get(usize::from(start)..usize::from(end))
            .unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

/// The shard, below `shards`, that a key belongs to.
pub fn shard_of(key: &[u8], shards: usize) -> usize {
    // Multiply and shift maps the whole hash evenly onto the shards without a division.
    ((u128::from(xxhash_rust::xxh3::xxh3_64(key)) * shards as u128) >> 64) as usize
}

/// Finds spaces by hashing what is literal in a key (tuple space search): templates are grouped by
/// their form, that is by the number of segments and which of them are literal. A key is looked up once
/// in each form of its number of segments, most literal form first, so the cost grows with the few
/// forms in use and not with the number of caches.
#[derive(Debug)]
pub struct Router {
    caches: Vec<(String, KeyTemplate)>,
    /// By number of segments, then most literal first.
    forms: [Vec<Form>; MAX_SEGMENTS + 1],
    /// Name and space.
    namespaces: Prefixes<(String, SpaceId)>,
    /// The names of passthroughs: keys without a database, which lead to no space.
    plain: Prefixes<String>,
    hasher: FixedState,
}

/// Templates of one form.
#[derive(Debug)]
struct Form {
    /// Which segments are literal.
    literal: Vec<bool>,
    /// Hash of the literal segments → indexes of caches. Candidates are compared in full.
    caches: HashMap<u64, SmallVec<[u16; 1]>, FixedState>,
}

type Segments<'k> = SmallVec<[&'k [u8]; 8]>;

impl Router {
    /// Builds the router of caches (name, template) and namespaces (name, prefix) that the
    /// configuration has found free of overlaps. Spaces beyond 65,536 are left out; the
    /// configuration allows far fewer.
    pub fn new(caches: &[(String, KeyTemplate)], namespaces: &[(String, String)]) -> Router {
        let mut router = Router {
            caches: caches.to_vec(),
            forms: Default::default(),
            namespaces: Prefixes::new(
                (caches.len()..=usize::from(u16::MAX)).zip(namespaces).map(
                    |(id, (name, prefix))| (prefix.clone(), (name.clone(), SpaceId(id as u16))),
                ),
            ),
            plain: Prefixes::default(),
            hasher: FixedState::default(),
        };
        for (id, (_, template)) in (0..=u16::MAX).zip(caches) {
            router.file(id, template);
        }
        for forms in &mut router.forms {
            forms.sort_by_key(|form| {
                std::cmp::Reverse(form.literal.iter().filter(|is| **is).count())
            });
        }
        router
    }

    /// Knows the keys of passthroughs (name, prefix) as well.
    #[must_use]
    pub fn with_plain(self, passthroughs: &[(String, String)]) -> Router {
        let plain = passthroughs
            .iter()
            .map(|(name, prefix)| (prefix.clone(), name.clone()));
        Router {
            plain: Prefixes::new(plain),
            ..self
        }
    }

    /// Whether `key` is a plain one: of a passthrough, without a database behind it, and nobody's to invalidate.
    pub fn is_plain(&self, key: &[u8]) -> bool {
        self.plain.of(key).is_some()
    }

    /// The prefixes of plain keys.
    pub fn plain_prefixes(&self) -> impl ExactSizeIterator<Item = &str> {
        self.plain.names()
    }

    fn file(&mut self, id: u16, template: &KeyTemplate) {
        let literal: Vec<bool> = template
            .segments
            .iter()
            .map(|s| matches!(s, Segment::Literal(_)))
            .collect();
        let segments: Segments<'_> = template
            .segments
            .iter()
            .map(|segment| match segment {
                Segment::Literal(text) => text.as_bytes(),
                Segment::Param { .. } => b"".as_slice(),
            })
            .collect();
        let hash = hash_of(&self.hasher, &literal, &segments);
        let Some(forms) = self.forms.get_mut(literal.len()) else {
            return; // a template has at most `MAX_SEGMENTS`
        };
        let at = forms
            .iter()
            .position(|form| form.literal == literal)
            .unwrap_or_else(|| {
                forms.push(Form {
                    literal,
                    caches: HashMap::default(),
                });
                forms.len() - 1
            });
        forms[at].caches.entry(hash).or_default().push(id);
    }

    /// Finds the space of `key` and the places of its parameters.
    ///
    /// # Errors
    /// Why no space answers this key.
    pub fn route(&self, key: &[u8]) -> Result<Route, KeyError> {
        if key.is_empty() {
            return Err(KeyError::Empty);
        }
        if key.len() > MAX_KEY_BYTES {
            return Err(KeyError::TooLong { len: key.len() });
        }
        let segments = split(key);
        if let Some(route) = self.cache_of(key, &segments) {
            return Ok(route);
        }
        match self.namespaces.of(key) {
            Some((prefix, (name, space))) => match namespace_fault(&key[prefix.len()..]) {
                None => Ok(Route {
                    space: *space,
                    params: Places::new(),
                }),
                Some(why) => {
                    let (key, namespace) = (shown_key(key), name.clone());
                    Err(KeyError::BadNamespaceKey {
                        key,
                        namespace,
                        why,
                    })
                }
            },
            None => Err(self.explain(key, &segments)),
        }
    }

    fn cache_of(&self, key: &[u8], segments: &Segments<'_>) -> Option<Route> {
        self.forms.get(segments.len())?.iter().find_map(|form| {
            let hash = hash_of(&self.hasher, &form.literal, segments);
            form.caches.get(&hash)?.iter().find_map(|id| {
                let params = match_params(&self.caches[usize::from(*id)].1, key, segments)?;
                Some(Route {
                    space: SpaceId(*id),
                    params,
                })
            })
        })
    }

    /// The most helpful error for a key that nothing matches: of the templates that differ in
    /// parameters only, the one that gets furthest.
    fn explain(&self, key: &[u8], segments: &Segments<'_>) -> KeyError {
        if names::is_reserved(key) {
            return KeyError::Reserved {
                key: shown_key(key),
            };
        }
        if let Some((_, passthrough)) = self.plain.of(key) {
            return KeyError::Plain {
                key: shown_key(key),
                passthrough: passthrough.clone(),
            };
        }
        let nearest = self
            .caches
            .iter()
            .filter_map(|(name, template)| Some((name, first_bad_param(template, segments)?)))
            .max_by_key(|(_, bad)| (bad.literals, bad.index));
        if let Some((name, bad)) = nearest {
            return KeyError::BadParam {
                key: shown_key(key),
                cache: name.clone(),
                param: bad.name,
                text: shown_text(bad.text),
                why: bad.why,
            };
        }
        KeyError::Undeclared {
            key: shown_key(key),
            known: self.known(segments[0]),
        }
    }

    /// What could have been meant: the templates of the key's own prefix, else all prefixes.
    fn known(&self, first_segment: &[u8]) -> String {
        let of_prefix: Vec<String> = self
            .caches
            .iter()
            .filter(|(_, t)| t.prefix().strip_suffix(':').map(str::as_bytes) == Some(first_segment))
            .map(|(_, template)| template.to_string())
            .collect();
        if !of_prefix.is_empty() {
            return cut_list(of_prefix);
        }
        let mut prefixes: Vec<String> = self
            .caches
            .iter()
            .map(|(_, t)| t.prefix().to_owned())
            .collect();
        let others = self.namespaces.names().chain(self.plain.names());
        prefixes.extend(others.map(str::to_owned));
        prefixes.sort();
        prefixes.dedup();
        cut_list(prefixes)
    }
}

fn split(key: &[u8]) -> Segments<'_> {
    let mut segments = Segments::new();
    let mut start = 0;
    for colon in memchr_iter(b':', key) {
        segments.push(&key[start..colon]);
        start = colon + 1;
    }
    segments.push(&key[start..]);
    segments
}

fn hash_of(hasher: &FixedState, literal: &[bool], segments: &Segments<'_>) -> u64 {
    let mut hash = 0;
    for (segment, _) in segments.iter().zip(literal).filter(|(_, is)| **is) {
        hash = hasher.hash_one((hash, *segment));
    }
    hash
}

/// The places of the parameters, if `key` is one of the template's keys.
fn match_params(template: &KeyTemplate, key: &[u8], segments: &Segments<'_>) -> Option<Places> {
    let mut places = Places::new();
    let mut start = 0;
    for ((declared, param), segment) in template.typed_segments().zip(segments) {
        match (declared, param) {
            (Segment::Param { head, .. }, Some(param)) => {
                let value = declared.value_in(segment)?;
                if !param.accepts(value) {
                    return None;
                }
                let from = start + head.len();
                places.push((
                    u16::try_from(from).ok()?,
                    u16::try_from(from + value.len()).ok()?,
                ));
            }
            (Segment::Literal(text), _) if text.as_bytes() == *segment => {}
            _ => return None,
        }
        start += segment.len() + 1;
    }
    debug_assert_eq!(start, key.len() + 1);
    Some(places)
}

struct BadParam<'k> {
    literals: usize,
    index: usize,
    name: String,
    text: &'k [u8],
    why: String,
}

/// The first parameter that refuses its value, if everything literal fits.
fn first_bad_param<'k>(template: &KeyTemplate, segments: &Segments<'k>) -> Option<BadParam<'k>> {
    if template.segments.len() != segments.len() {
        return None;
    }
    let (mut literals, mut index) = (0, 0);
    let mut bad = None;
    for ((declared, param), segment) in template.typed_segments().zip(segments) {
        match (declared, param) {
            (Segment::Param { .. }, Some(param)) => {
                let text = declared.value_in(segment)?;
                if bad.is_none() {
                    bad = param
                        .check(text)
                        .err()
                        .map(|why| (index, param.name.clone(), text, why));
                }
                index += 1;
            }
            (Segment::Literal(text), _) if text.as_bytes() == *segment => literals += 1,
            _ => return None,
        }
    }
    let (index, name, text, why) = bad?;
    Some(BadParam {
        literals,
        index,
        name,
        text,
        why,
    })
}

fn namespace_fault(rest: &[u8]) -> Option<&'static str> {
    if rest.is_empty() {
        return Some("has nothing after its prefix");
    }
    let Ok(rest) = std::str::from_utf8(rest) else {
        return Some("is not valid UTF-8");
    };
    rest.chars().find_map(|c| match c {
        c if c.is_control() => Some("holds a control character"),
        c if c.is_whitespace() => Some("holds a space"),
        _ => None,
    })
}

fn cut_list(items: Vec<String>) -> String {
    let mut out = String::new();
    for (n, item) in items.iter().enumerate() {
        if n == MAX_KNOWN || out.len() + item.len() > MAX_KNOWN_BYTES {
            out.push_str(if n == 0 { "…" } else { ", …" });
            break;
        }
        if n > 0 {
            out.push_str(", ");
        }
        out.push_str(item);
    }
    out
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
