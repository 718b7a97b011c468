//! The incremental request parser.

use super::error::{Foreign, ProtocolError};
use super::inline;
use super::length::{self, LengthError};
use super::limits::{Bounds, Limits};
use super::request::{Request, Span};

/// Cuts a stream of bytes into requests. One a connection; it keeps its place in a half-received
/// request, so that each byte is looked at once, and allocates only while arguments of such a
/// request wait for the rest.
#[derive(Debug)]
pub struct Decoder {
    bounds: Bounds,
    step: Step,
    /// Everything before this was parsed; counted from the request's first byte.
    at: u32,
    /// The arguments before `at`.
    pub(super) parked: Vec<Span>,
}

/// What is expected at `Decoder::at`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// The first byte of a request.
    Idle,
    /// The rest of an inline request; no line feed lies before `at`.
    Inline,
    /// The line `*<count>`.
    Count,
    /// The line `$<length>` of the next of `left` arguments.
    Length { left: u32 },
    /// The next of `left` arguments: `length` bytes and CRLF.
    Body { left: u32, length: u32 },
}

impl Decoder {
    /// A decoder at the start of a request.
    pub fn new(limits: Limits) -> Decoder {
        Decoder {
            bounds: limits.into(),
            step: Step::Idle,
            at: 0,
            parked: Vec::new(),
        }
    }

    /// Changes the limits, for what is still to be parsed: a client has authenticated.
    pub fn set_limits(&mut self, limits: Limits) {
        self.bounds = limits.into();
    }

    /// Decodes the request that `input` begins with. After `Ok(None)` call again with the same
    /// bytes and more; after `Ok(Some(n))` with what follows the first `n` bytes.
    ///
    /// `Ok(Some(n))`: `request` holds the arguments, as ranges of `input`. It is empty if there was
    /// nothing but a blank line or an array of no elements: that gets no answer. `Ok(None)`:
    /// `request` means nothing.
    ///
    /// # Errors
    /// The bytes cannot become a request, whatever follows. The same input gives the same error again.
    /// `max_request` bytes are always enough for a request or an error.
    pub fn decode(
        &mut self,
        input: &[u8],
        request: &mut Request,
    ) -> Result<Option<usize>, ProtocolError> {
        let max = self.bounds.request;
        let input = &input[..input.len().min(max as usize)];
        match self.advance(input, request)? {
            // The reader may stop at `max_request` bytes: nobody waits for what is not read.
            None if input.len() == max as usize => Err(ProtocolError::RequestTooLong { max }),
            decoded => Ok(decoded),
        }
    }

    /// True while a request is half-received.
    pub fn is_midway(&self) -> bool {
        self.step != Step::Idle
    }

    /// How many bytes the half-received request is known to have at least, counted from its first;
    /// 0 between requests, never more than `max_request`. A hint for growing a buffer once: a
    /// client can announce without ever sending, so do not reserve all of it for everybody.
    pub fn wanted(&self) -> usize {
        let wanted = match self.step {
            Step::Idle => 0,
            Step::Body { length, .. } => self.at + length + 2,
            Step::Inline | Step::Count | Step::Length { .. } => self.at + 1,
        };
        wanted.min(self.bounds.request) as usize
    }

    fn advance(
        &mut self,
        input: &[u8],
        request: &mut Request,
    ) -> Result<Option<usize>, ProtocolError> {
        match self.step {
            Step::Idle => match input.first() {
                None => Ok(None),
                Some(b'*') => self.array(input, request),
                Some(&byte) if inline::may_begin_with(byte) => self.inline(input, request),
                // The first byte of a TLS record that carries a handshake.
                Some(0x16) => Err(ProtocolError::Foreign(Foreign::Tls)),
                Some(&got) => Err(ProtocolError::ExpectedArray { got }),
            },
            Step::Inline => self.inline(input, request),
            Step::Count => self.array(input, request),
            Step::Length { left } => self.resume(input, request, left, None),
            Step::Body { left, length } => self.resume(input, request, left, Some(length)),
        }
    }

    fn inline(
        &mut self,
        input: &[u8],
        request: &mut Request,
    ) -> Result<Option<usize>, ProtocolError> {
        let max = self.bounds.inline as usize;
        let scanned = self.at as usize;
        let window = input.len().min(max + 1);
        let line_feed = input
            .get(scanned..window)
            .and_then(|fresh| memchr::memchr(b'\n', fresh));
        let Some(line_feed) = line_feed else {
            if input.len() > max {
                return Err(ProtocolError::InlineTooLong {
                    max: self.bounds.inline,
                });
            }
            return self.park(Step::Inline, window);
        };
        let end = scanned + line_feed;
        let line = &input[..end];
        inline::split(
            line.strip_suffix(b"\r").unwrap_or(line),
            self.bounds.args,
            request,
        )?;
        self.finish(end + 1)
    }

    fn array(
        &mut self,
        input: &[u8],
        request: &mut Request,
    ) -> Result<Option<usize>, ProtocolError> {
        request.begin_array();
        let number = input.get(1..).unwrap_or_default();
        if let [b'-', number @ ..] = number {
            // Redis reads over `*-1` as over `*0`; so do we.
            return match length::parse_negative(number).map_err(|error| self.array_error(error))? {
                None => self.park(Step::Count, 0),
                Some((_, used)) => self.finish(2 + used),
            };
        }
        match length::parse(number, self.bounds.args).map_err(|error| self.array_error(error))? {
            None => self.park(Step::Count, 0),
            Some((count, used)) => self.arguments(input, request, 1 + used, count, None),
        }
    }

    fn resume(
        &mut self,
        input: &[u8],
        request: &mut Request,
        left: u32,
        body: Option<u32>,
    ) -> Result<Option<usize>, ProtocolError> {
        request.begin_array();
        if !self.parked.is_empty() {
            request.spans = std::mem::take(&mut self.parked);
        }
        self.arguments(input, request, self.at as usize, left, body)
    }

    /// Parses `left` arguments from `at` on; `body` is the length of the first if its line was read
    /// before.
    fn arguments(
        &mut self,
        input: &[u8],
        request: &mut Request,
        mut at: usize,
        mut left: u32,
        mut body: Option<u32>,
    ) -> Result<Option<usize>, ProtocolError> {
        while left > 0 {
            let length = match body.take() {
                Some(length) => length,
                None => match self.bulk_length(input.get(at..).unwrap_or_default(), at)? {
                    None => return self.park_arguments(Step::Length { left }, at, request),
                    Some((length, used)) => {
                        at += used;
                        length
                    }
                },
            };
            let end = at + length as usize;
            match input.get(end..) {
                Some([b'\r', b'\n', ..]) => request.spans.push(Span::new(at, end)),
                None | Some([] | [b'\r']) => {
                    return self.park_arguments(Step::Body { left, length }, at, request);
                }
                Some(_) => return Err(ProtocolError::BulkNotTerminated),
            }
            at = end + 2;
            left -= 1;
        }
        self.finish(at)
    }

    /// Reads a `$` line, and how many bytes it takes. `at` is where it begins in the request.
    fn bulk_length(&self, line: &[u8], at: usize) -> Result<Option<(u32, usize)>, ProtocolError> {
        match line {
            [] => Ok(None),
            [b'$', b'-', number @ ..] => {
                match length::parse_negative(number).map_err(|error| self.bulk_error(error))? {
                    None => Ok(None),
                    Some((length, _)) => Err(ProtocolError::BulkNegative { length }),
                }
            }
            [b'$', number @ ..] => {
                let read = length::parse(number, self.bounds.bulk)
                    .map_err(|error| self.bulk_error(error))?;
                let max = self.bounds.request;
                match read.map(|(length, used)| (length, 1 + used)) {
                    Some((length, used)) if at + used + length as usize + 2 > max as usize => {
                        Err(ProtocolError::RequestTooLong { max })
                    }
                    line => Ok(line),
                }
            }
            [b'*', ..] => Err(ProtocolError::NestedArray),
            [got, ..] => Err(ProtocolError::ExpectedBulk { got: *got }),
        }
    }

    fn finish(&mut self, consumed: usize) -> Result<Option<usize>, ProtocolError> {
        self.step = Step::Idle;
        self.at = 0;
        Ok(Some(consumed))
    }

    /// Waits for more; `at` is within what has arrived, or within `bounds.request`, so it fits.
    fn park(&mut self, step: Step, at: usize) -> Result<Option<usize>, ProtocolError> {
        self.step = step;
        self.at = at as u32;
        Ok(None)
    }

    fn park_arguments(
        &mut self,
        step: Step,
        at: usize,
        request: &mut Request,
    ) -> Result<Option<usize>, ProtocolError> {
        if !request.spans.is_empty() {
            self.parked = std::mem::take(&mut request.spans);
        }
        self.park(step, at)
    }

    fn array_error(&self, error: LengthError) -> ProtocolError {
        match error {
            LengthError::Malformed => ProtocolError::ArrayLength,
            LengthError::TooLarge => ProtocolError::ArrayTooLong {
                max: self.bounds.args,
            },
            LengthError::NoCrlf => ProtocolError::ExpectedCrlf,
        }
    }

    fn bulk_error(&self, error: LengthError) -> ProtocolError {
        match error {
            LengthError::Malformed => ProtocolError::BulkLength,
            LengthError::TooLarge => ProtocolError::BulkTooLong {
                max: self.bounds.bulk,
            },
            LengthError::NoCrlf => ProtocolError::ExpectedCrlf,
        }
    }
}
