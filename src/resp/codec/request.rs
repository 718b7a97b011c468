//! One decoded request.

/// The arguments of one request, reused from request to request so that the hot path allocates
/// nothing.
///
/// They are ranges of the bytes that were decoded; only an inline request, whose quotes have to be
/// unescaped, holds a copy of its own.
#[derive(Debug, Default)]
pub struct Request {
    pub(super) spans: Vec<Span>,
    pub(super) text: Vec<u8>,
    is_inline: bool,
}

/// Where an argument lies. `u32` halves what a half-received request of many arguments keeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// `end` is at most `limits::MAX_LIMIT` (1 GiB), so nothing is cut off.
    pub(super) fn new(start: usize, end: usize) -> Span {
        Span {
            start: start as u32,
            end: end as u32,
        }
    }
}

impl Request {
    /// An empty request, to be filled by [`Decoder::decode`](super::Decoder::decode).
    pub fn new() -> Request {
        Request::default()
    }

    /// The number of arguments, the command's name included.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// True for `*0`, `*-1` and blank lines, which are read over without an answer.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Argument `i`; 0 is the command's name. `input` is the slice this request was decoded from.
    ///
    /// # Panics
    /// Like a slice, if `i` is not below [`len`](Request::len), or `input` is shorter than what was
    /// decoded.
    pub fn arg<'a>(&'a self, input: &'a [u8], i: usize) -> &'a [u8] {
        self.slice(input, self.spans[i])
    }

    /// All arguments in order. `input` is the slice this request was decoded from.
    ///
    /// # Panics
    /// Like [`arg`](Request::arg), while it is iterated.
    pub fn args<'a>(&'a self, input: &'a [u8]) -> impl ExactSizeIterator<Item = &'a [u8]> {
        self.spans.iter().map(move |span| self.slice(input, *span))
    }

    /// The same, for who needs them for longer than the request. `None` for an inline request, which holds a copy of its own.
    ///
    /// # Panics
    /// Like [`arg`](Request::arg), while it is iterated.
    pub fn args_in<'a>(&self, input: &'a [u8]) -> Option<impl ExactSizeIterator<Item = &'a [u8]>> {
        let spans = self.spans.iter();
        let lasting = spans.map(move |span| &input[span.start as usize..span.end as usize]);
        (!self.is_inline).then_some(lasting)
    }

    fn slice<'a>(&'a self, input: &'a [u8], span: Span) -> &'a [u8] {
        let source = if self.is_inline { &self.text } else { input };
        &source[span.start as usize..span.end as usize]
    }

    /// Makes ready for the ranges of an array.
    pub(super) fn begin_array(&mut self) {
        self.spans.clear();
        self.is_inline = false;
    }

    /// Makes ready for words, and gives the place to write them to.
    pub(super) fn begin_inline(&mut self) {
        self.spans.clear();
        self.text.clear();
        self.is_inline = true;
    }

    /// Lets `write` append one word to the text, and counts it as an argument.
    pub(super) fn push_word<T, E>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<T, E>,
    ) -> Result<T, E> {
        let start = self.text.len();
        let written = write(&mut self.text)?;
        self.spans.push(Span::new(start, self.text.len()));
        Ok(written)
    }
}
