//! Any bytes, cut anywhere: no panic, no request beyond its limits, and the same requests and the
//! same error as from the bytes in one piece.
#![no_main]

use cachewarden::resp::codec::{Decoder, Limits, ProtocolError, Request};
use libfuzzer_sys::fuzz_target;

/// Small, so that the fuzzer meets every bound.
const LIMITS: Limits = Limits {
    max_request: 256,
    max_args: 16,
    max_bulk: 128,
    max_inline: 64,
};

type Decoded = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

// The first byte says how many steps follow it; each is the size of one piece of the rest.
fuzz_target!(|data: &[u8]| {
    let Some((count, rest)) = data.split_first() else {
        return;
    };
    let (steps, stream) = rest.split_at(usize::from(count % 32).min(rest.len()));
    assert_eq!(receive(stream, steps), receive(stream, &[]));
});

fn receive(stream: &[u8], steps: &[u8]) -> Decoded {
    let (mut decoder, mut request) = (Decoder::new(LIMITS), Request::new());
    let (mut requests, mut consumed, mut arrived) = (Vec::new(), 0, 0);
    for step in steps
        .iter()
        .map(|step| usize::from(*step))
        .chain([stream.len()])
    {
        arrived = stream.len().min(arrived + step);
        loop {
            let input = &stream[consumed..arrived];
            match decoder.decode(input, &mut request) {
                Ok(Some(used)) => {
                    assert!(0 < used && used <= input.len().min(LIMITS.max_request));
                    assert!(request.len() <= LIMITS.max_args);
                    requests.push(request.args(input).map(<[u8]>::to_vec).collect());
                    consumed += used;
                }
                Ok(None) => {
                    assert!(input.len() < LIMITS.max_request);
                    assert!(decoder.wanted() <= LIMITS.max_request);
                    break;
                }
                Err(error) => return (requests, Some(error)),
            }
        }
    }
    (requests, None)
}
