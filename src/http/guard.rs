//! Who may ask: clients that know the token, and no page of another site that a browser shows.
//!
//! A page can make a browser on this machine send requests to `127.0.0.1`, and with a name of its own that leads there
//! (DNS rebinding) read their answers, too. Such requests carry that name in `Host`, which is none of ours; and the page's
//! own origin, which is not this door. No answer has a CORS header, so nobody else's page reads it.

use super::door::Door;
use super::problem::Refusal;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};
use actix_web::http::uri::Authority;
use actix_web::middleware::Next;
use actix_web::{Error, web};
use std::net::IpAddr;

/// Whoever asks whether we live or are ready needs no token.
const OPEN: &str = "/health/";

pub(super) async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    match check(&request).await {
        Ok(()) => Ok(next.call(request).await?.map_into_boxed_body()),
        Err(refusal) => Ok(request.into_response(refusal.response())),
    }
}

async fn check(request: &ServiceRequest) -> Result<(), Refusal> {
    let Some(door) = request.app_data::<web::Data<Door>>() else {
        return Ok(()); // never: every app has it
    };
    check_host(request, &door.hosts)?;
    check_origin(request.headers())?;
    if request.path().starts_with(OPEN) {
        return Ok(());
    }
    let Some(token) = &door.token else {
        return Ok(());
    };
    let refused = |detail| Refusal::new(StatusCode::UNAUTHORIZED, "NOAUTH", detail);
    let Some(guess) = bearer(request.headers()) else {
        let detail = "send the token as `Authorization: Bearer …`; nowhere else it is looked for";
        return Err(refused(detail));
    };
    let from = request.peer_addr().map(|peer| peer.ip());
    if let Err(pause) = token.check(guess, from) {
        tokio::time::sleep(pause).await;
        return Err(refused("the token is wrong"));
    }
    Ok(())
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// That of the address line and that of the header: whoever stands between may look at either.
fn check_host(request: &ServiceRequest, hosts: &[String]) -> Result<(), Refusal> {
    let told = text(request.headers(), &HOST);
    let mut named = request.uri().host().into_iter().chain(told).peekable();
    if named.peek().is_none() {
        return Err(Refusal::bad_request("the request has no Host"));
    }
    match named.all(|host| is_ours(host, hosts)) {
        true => Ok(()),
        false => Err(Refusal::new(
            StatusCode::MISDIRECTED_REQUEST,
            "ERR",
            "this Host is none of ours; call the daemon by its address, or name the host in [http] hosts",
        )),
    }
}

/// An address is nobody's to give away; a name is.
fn is_ours(host: &str, hosts: &[String]) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host().to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let is_address = address.parse::<IpAddr>().is_ok();
    // Nobody needs to tell it who he is: `user@host` only hides what the host is.
    !host.contains('@')
        && (is_address || name == "localhost" || hosts.iter().any(|ours| ours == name))
}

fn check_origin(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(origin) = headers.get(ORIGIN) else {
        return Ok(());
    };
    let host = text(headers, &HOST).unwrap_or_default();
    let is_same = ["http://", "https://"].into_iter().any(|scheme| {
        let same = format!("{scheme}{host}");
        origin.as_bytes().eq_ignore_ascii_case(same.as_bytes())
    });
    match is_same {
        true => Ok(()),
        false => Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "ERR",
            "pages of other origins may not ask",
        )),
    }
}

/// Empty for what is no text.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let value = headers.get(name)?;
    Some(value.to_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_ours_by_address_or_by_a_declared_name() {
        let hosts = ["cache.internal".to_owned()];
        for host in [
            "localhost",
            "LocalHost:9680",
            "localhost.",
            "127.0.0.1",
            "127.0.0.1:9680",
            "[::1]:9680",
            "10.0.0.7:80",
            "cache.internal",
            "Cache.Internal:9680",
        ] {
            assert!(is_ours(host, &hosts), "{host}");
        }
        for host in [
            "",
            ":9680",
            "evil.example",
            "evil.example:9680",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "cache.internal.evil.example",
            "localhost@evil.example",
            "evil.example@localhost",
            "local host",
            "127.0.0.1/evil.example",
            "cache_internal",
        ] {
            assert!(!is_ours(host, &hosts), "{host}");
        }
    }

    #[test]
    fn a_token_comes_behind_bearer() {
        let mut headers = HeaderMap::new();
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer abc", Some("abc")),
            ("Bearer  abc", Some(" abc")),
            ("Bearer ", Some("")),
            ("Bearer", None),
            ("Basic abc", None),
            ("abc", None),
        ] {
            headers.insert(AUTHORIZATION, value.parse().expect("a header"));
            assert_eq!(bearer(&headers), token.map(str::as_bytes), "{value}");
        }
    }
}
