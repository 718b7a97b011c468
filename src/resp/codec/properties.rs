//! The decoder against any input, cut anywhere, and against another implementation.

use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;
use redis_protocol::resp2;
use redis_protocol::resp2::types::{OwnedFrame, Resp2Frame};

use super::*;

/// Small, so that random input meets every bound.
const LIMITS: Limits = Limits {
    max_request: 200,
    max_args: 12,
    max_bulk: 100,
    max_inline: 60,
};

type Arguments = Vec<Vec<u8>>;

/// What became of a stream: its requests in order, where they lay, and why it ended if not
/// for lack of more.
#[derive(Debug, Default, PartialEq)]
struct Decoded {
    requests: Vec<Arguments>,
    frames: Vec<Range<usize>>,
    consumed: usize,
    error: Option<ProtocolError>,
}

/// Reads `stream` as a connection does, with the bytes arriving up to one of `cuts` after another.
fn receive(stream: &[u8], cuts: &[usize], limits: Limits) -> Decoded {
    let mut decoder = Decoder::new(limits);
    let mut request = Request::new();
    let mut decoded = Decoded::default();
    for &cut in cuts.iter().chain([&stream.len()]) {
        loop {
            let input = &stream[decoded.consumed..cut.max(decoded.consumed)];
            match decoder.decode(input, &mut request) {
                Ok(Some(used)) => {
                    let available = input.len().min(limits.max_request);
                    assert!((1..=available).contains(&used), "{used} of {available}");
                    assert!(request.len() <= limits.max_args);
                    assert_eq!((decoder.is_midway(), decoder.wanted()), (false, 0));
                    let arguments = request.args(input).map(<[u8]>::to_vec);
                    decoded.requests.push(arguments.collect());
                    let start = decoded.consumed;
                    decoded.consumed += used;
                    decoded.frames.push(start..decoded.consumed);
                }
                Ok(None) => {
                    assert_eq!(decoder.is_midway(), !input.is_empty());
                    assert!(decoder.wanted() <= limits.max_request);
                    assert!(input.len() < limits.max_request);
                    break;
                }
                Err(error) => {
                    assert_eq!(decoder.decode(input, &mut request), Err(error));
                    decoded.error = Some(error);
                    return decoded;
                }
            }
        }
    }
    decoded
}

/// `requests` as another implementation writes them.
fn encoded(requests: &[Arguments]) -> Vec<u8> {
    let mut stream = Vec::new();
    for request in requests {
        let bulks = request.iter().cloned().map(OwnedFrame::BulkString);
        let frame = OwnedFrame::Array(bulks.collect());
        let start = stream.len();
        stream.resize(start + frame.encode_len(false), 0);
        resp2::encode::encode(&mut stream[start..], &frame, false).expect("room was made");
    }
    stream
}

/// Requests within the limits.
fn requests() -> impl Strategy<Value = Vec<Arguments>> {
    vec(vec(vec(any::<u8>(), 0..12), 1..=8), 1..6)
}

/// Bytes of which many are nearly requests: pieces of frames and of lines, and anything else.
fn nearly_requests() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => requests().prop_map(|requests| encoded(&requests)),
        4 => "[*$][-+ 0]{0,1}[0-9]{0,4}(\r\n|\r|\n|)".prop_map(String::into_bytes),
        3 => "\\$3\r\n[a-z]{3}\r\n".prop_map(String::into_bytes),
        3 => "[a-zA-Z/: \t\"'\\\\x]{0,14}\r?\n".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..6),
    ];
    (
        vec(piece, 1..8),
        vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    )
        .prop_map(|(pieces, changes)| {
            let mut stream = pieces.concat();
            for (place, byte) in changes {
                let place = place.index(stream.len() + 1);
                stream.splice(place..place, [byte]);
            }
            stream
        })
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    vec(any::<prop::sample::Index>(), 0..12)
}

fn places(cuts: &[prop::sample::Index], stream: &[u8]) -> Vec<usize> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    places.sort_unstable();
    places
}

#[test]
fn a_stream_means_the_same_wherever_it_is_cut() {
    let samples: [&[u8]; 12] = [
        b"*2\r\n$3\r\nGET\r\n$10\r\ncourses:42\r\n",
        b"*3\r\n$4\r\nMGET\r\n$0\r\n\r\n$2\r\n\r\n\r\n*1\r\n$4\r\nPING\r\n",
        b"PING\r\n\r\n*0\r\n*-1\r\nECHO \"a \\x41\\n\" 'b'\n*1\r\n$4\r\nQUIT\r\n",
        b"*1\r\n$4\r\nPING\r\nPOST / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"*1\r\n$-5\r\n",
        b"*1\r\n$101\r\n",
        b"*13\r\n",
        b"*1\r\n$4\r\nPINGxx",
        b"*1\n",
        b"*1\r\n*1\r\n",
        b"SET k \"unbalanced\r\n",
        b"averylonginlinerequestwithoutanyendinsightthatgoesonandonandonandon",
    ];
    for stream in samples {
        let whole = receive(stream, &[], LIMITS);
        let bytes: Vec<usize> = (0..stream.len()).collect();
        assert_eq!(
            receive(stream, &bytes, LIMITS),
            whole,
            "{}",
            stream.escape_ascii()
        );
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let parts = receive(stream, &[first, second], LIMITS);
                assert_eq!(
                    parts,
                    whole,
                    "{} at {first}, {second}",
                    stream.escape_ascii()
                );
            }
        }
    }
}

#[test]
fn a_stream_means_the_same_wherever_it_meets_the_limit_of_a_request() {
    for ending in ["$x", "$9\r\n", "$0\r\n\r\n", "*", "$4\r\nPINGxx", "$99999"] {
        for pad in 0..=LIMITS.max_bulk {
            let [large, small] =
                [90, pad].map(|size| format!("${size}\r\n{}\r\n", "a".repeat(size)));
            let stream = format!("*3\r\n{large}{small}{ending}").into_bytes();
            let bytes: Vec<usize> = (0..stream.len()).collect();
            let whole = receive(&stream, &[], LIMITS);
            assert_eq!(
                receive(&stream, &bytes, LIMITS),
                whole,
                "{ending:?} behind {pad}"
            );
        }
    }
}

#[test]
fn a_large_request_in_small_pieces_is_decoded_whole() {
    let request: Arguments = (0..1000).map(|i| vec![i as u8; 800]).collect();
    let stream = encoded(std::slice::from_ref(&request));
    let cuts: Vec<usize> = (0..stream.len()).step_by(61).collect();
    let decoded = receive(&stream, &cuts, Limits::new(1 << 20));
    assert_eq!(decoded.requests, [request]);
    assert_eq!(decoded.consumed, stream.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn what_another_implementation_writes_is_read(requests in requests(), cuts in cuts()) {
        let stream = encoded(&requests);
        let decoded = receive(&stream, &places(&cuts, &stream), LIMITS);
        prop_assert_eq!(decoded.consumed, stream.len());
        prop_assert_eq!((decoded.requests, decoded.error), (requests, None));
    }

    #[test]
    fn what_is_accepted_means_the_same_to_another_implementation(stream in nearly_requests()) {
        let decoded = receive(&stream, &[], LIMITS);
        for (arguments, frame) in decoded.requests.into_iter().zip(decoded.frames) {
            let bytes = &stream[frame];
            // Inline requests and empty ones are not known to it.
            if bytes[0] == b'*' && !arguments.is_empty() {
                let bulks = arguments.into_iter().map(OwnedFrame::BulkString);
                let expected = Some((OwnedFrame::Array(bulks.collect()), bytes.len()));
                prop_assert_eq!(resp2::decode::decode(bytes).expect("valid"), expected);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn near_misses_mean_the_same_wherever_they_are_cut(stream in nearly_requests(), cuts in cuts()) {
        let whole = receive(&stream, &[], LIMITS);
        prop_assert_eq!(receive(&stream, &places(&cuts, &stream), LIMITS), whole);
    }

    #[test]
    fn random_bytes_are_decoded_or_refused(stream in vec(any::<u8>(), 0..300), cuts in cuts()) {
        let whole = receive(&stream, &[], LIMITS);
        prop_assert_eq!(receive(&stream, &places(&cuts, &stream), LIMITS), whole);
    }
}
