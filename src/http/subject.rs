//! Who asks.

use actix_web::dev::ServiceRequest;
use bytes::Bytes;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use xxhash_rust::xxh3::xxh3_128;

/// What the limiter takes.
const MAX_SUBJECT_BYTES: usize = 512;
/// The part of an IPv6 address that tells customers apart: whoever has one address has the 2⁶⁴ beside it (RFC 6177).
const SITE: u128 = !0 << 64;

/// The address of the peer, of IPv6 its /64. None on a Unix socket.
///
/// Behind a proxy all clients have the proxy's address: [`forwarded_for`].
pub fn peer(request: &ServiceRequest) -> Option<String> {
    request.peer_addr().map(|peer| subject_of(peer.ip()))
}

/// The address that a client had before the last `proxies` proxies, as they tell it in `X-Forwarded-For`; of IPv6 its /64.
///
/// Each proxy appends the address that it sees, so only what stands that far from the end was written by one of ours: all
/// before it, the client may have made up. Where nothing readable stands there, the request did not come that way, and
/// counts for its [`peer`]. Everybody who reaches the program past the proxies can write what they like: let nobody.
///
/// ```text
/// X-Forwarded-For: made-up, 192.0.2.7, 198.51.100.2
///                           │          └ proxies = 1: what our proxy has seen
///                           └ proxies = 2: what the proxy before it has seen
/// ```
pub fn forwarded_for(
    proxies: usize,
) -> impl Fn(&ServiceRequest) -> Option<String> + Clone + Send + Sync + 'static {
    move |request| {
        let told = proxies
            .checked_sub(1)
            .and_then(|after| forwarded(request, after));
        told.map(subject_of).or_else(|| peer(request))
    }
}

/// The address that stands before the last `after` ones.
fn forwarded(request: &ServiceRequest, after: usize) -> Option<IpAddr> {
    let lines = request.headers().get_all("x-forwarded-for");
    // Several lines are one list. How long it may be, the server's limit for headers says.
    let lines: Vec<&str> = lines
        .map(|line| line.to_str().unwrap_or_default())
        .collect();
    let entries = lines.iter().rev().flat_map(|line| line.rsplit(','));
    address(entries.map(str::trim).nth(after)?)
}

/// Some proxies write a port, too.
fn address(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse().map(|address: SocketAddr| address.ip());
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse().or_else(|_| with_port()).ok()
}

fn subject_of(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("{}/64", Ipv6Addr::from_bits(address.to_bits() & SITE)),
    }
}

/// A key as the limiter takes it. One that is empty or too long is hashed, not refused and not let through: both would be
/// a way around the limit.
///
/// The hash is quick rather than cryptographic: who could make two keys meet could as well send one of them twice.
pub(super) fn subject(key: String) -> Bytes {
    match key.len() {
        1..=MAX_SUBJECT_BYTES => Bytes::from(key),
        _ => Bytes::from(format!("xxh3:{:032x}", xxh3_128(key.as_bytes()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn from(peer: &str, forwarded: &[&str]) -> ServiceRequest {
        let mut request = TestRequest::default().peer_addr(peer.parse().expect("an address"));
        for line in forwarded {
            request = request.append_header(("X-Forwarded-For", *line));
        }
        request.to_srv_request()
    }

    #[test]
    fn a_peer_is_its_address_and_of_ipv6_its_site() {
        let cases = [
            ("192.0.2.7:443", "192.0.2.7"),
            ("[::ffff:192.0.2.7]:443", "192.0.2.7"),
            ("[2001:db8:1:2:aaaa::1]:443", "2001:db8:1:2::/64"),
            ("[2001:db8:1:2:bbbb::2]:443", "2001:db8:1:2::/64"),
        ];
        for (address, subject) in cases {
            assert_eq!(peer(&from(address, &[])).as_deref(), Some(subject));
        }
        assert_eq!(peer(&TestRequest::default().to_srv_request()), None);
    }

    #[test]
    fn a_client_cannot_choose_what_a_trusted_proxy_says_of_it() {
        let one = ["203.0.113.9, 192.0.2.7"];
        let lines = ["203.0.113.9", "192.0.2.7, 198.51.100.2"];
        let cases: &[(usize, &[&str], &str)] = &[
            (1, &one, "192.0.2.7"),
            (1, &lines, "198.51.100.2"),
            (2, &lines, "192.0.2.7"),
            (1, &["192.0.2.7:8080"], "192.0.2.7"),
            (1, &["[2001:db8::1]:8080"], "2001:db8::/64"),
            (1, &["[2001:db8::1]"], "2001:db8::/64"),
            // Not the way over the proxies.
            (0, &one, "10.0.0.1"),
            (3, &one, "10.0.0.1"),
            (1, &[], "10.0.0.1"),
            (1, &["192.0.2.7, unknown"], "10.0.0.1"),
            (1, &["192.0.2.7,"], "10.0.0.1"),
        ];
        for (proxies, forwarded, subject) in cases {
            let request = from("10.0.0.1:1", forwarded);
            let told = forwarded_for(*proxies)(&request);
            assert_eq!(told.as_deref(), Some(*subject), "{proxies} {forwarded:?}");
        }
    }

    #[test]
    fn no_key_is_too_short_or_too_long() {
        assert_eq!(subject("me".into()), "me");
        let longest = "k".repeat(MAX_SUBJECT_BYTES);
        assert_eq!(subject(longest.clone()), longest);
        let (one, other) = (format!("{longest}1"), format!("{longest}2"));
        for key in [String::new(), one.clone()] {
            assert!((1..=MAX_SUBJECT_BYTES).contains(&subject(key).len()));
        }
        assert_eq!(subject(one.clone()), subject(one.clone()));
        assert_ne!(subject(one), subject(other));
    }
}
