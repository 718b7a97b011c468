//! Checks of server addresses, as far as they go without asking a server. Messages here never repeat
//! an address: it may hold a password.

use super::{reader::nearest, secret::url_passwords};

/// Which server an address is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Server {
    Postgres,
    Redis,
}

/// Parameters of a Postgres address that the driver knows, and `sslrootcert` of libpq.
const POSTGRES_PARAMETERS: [&str; 21] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslmode",
    "sslrootcert",
    "sslnegotiation",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
    "require_auth",
];
const REDIS_PARAMETERS: [&str; 4] = ["db", "user", "pass", "protocol"];
const SSL_MODES: [&str; 5] = ["disable", "prefer", "require", "verify-ca", "verify-full"];

/// Why an address is refused, and the mend.
pub(super) type Fault = (String, String);

fn fault<T>(message: impl Into<String>, help: impl Into<String>) -> Result<T, Fault> {
    Err((message.into(), help.into()))
}

/// Checks scheme, hosts, ports and parameters.
pub(super) fn check(server: Server, url: &str) -> Result<(), Fault> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return fault(
            "the address has no scheme",
            format!("write {}", example(server)),
        );
    };
    check_scheme(server, scheme)?;
    if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return fault(
            "the address holds a space or control character",
            "write it percent-encoded, such as %20",
        );
    }
    let rest = rest.split('#').next().unwrap_or_default();
    let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    if scheme.contains("unix") {
        if !place.starts_with('/') {
            return fault(
                "the socket's path is not absolute",
                "write unix:///run/redis/redis.sock",
            );
        }
    } else {
        check_place(server, place, parameters)?;
    }
    parameters
        .split('&')
        .filter(|p| !p.is_empty())
        .try_for_each(|p| check_parameter(server, p))
}

/// What an address looks like.
pub(super) fn example(server: Server) -> &'static str {
    match server {
        Server::Postgres => "postgres://user@host:5432/database",
        Server::Redis => "redis://host:6379",
    }
}

fn check_scheme(server: Server, scheme: &str) -> Result<(), Fault> {
    match (server, scheme) {
        (Server::Postgres, "postgres" | "postgresql") => Ok(()),
        (Server::Redis, "redis" | "rediss" | "unix" | "redis+unix") => Ok(()),
        (Server::Redis, "redis-cluster" | "redis-sentinel") => fault(
            format!("`{scheme}://` is not served yet"),
            "write redis://, rediss:// or unix://",
        ),
        _ => fault(
            "the address has an unknown scheme",
            format!("write {}", example(server)),
        ),
    }
}

/// Checks `user:password@host:port,host:port/database`.
fn check_place(server: Server, place: &str, parameters: &str) -> Result<(), Fault> {
    let (authority, database) = place.split_once('/').unwrap_or((place, ""));
    let hosts = authority
        .rsplit_once('@')
        .map_or(authority, |(_, hosts)| hosts);
    let named_elsewhere = parameters
        .split('&')
        .any(|p| p.starts_with("host=") || p.starts_with("hostaddr="));
    if hosts.is_empty() && !(server == Server::Postgres && named_elsewhere) {
        return fault(
            "the address has no host",
            format!("write {}", example(server)),
        );
    }
    if server == Server::Redis && !database.is_empty() && database.parse::<u16>().is_err() {
        return fault("the database is not a number", "write redis://host:6379/0");
    }
    // Only Postgres takes several hosts; for Redis a comma would be part of a name that no host has.
    for host in hosts.split(',').filter(|_| !hosts.is_empty()) {
        check_host(host)?;
    }
    Ok(())
}

fn check_host(host: &str) -> Result<(), Fault> {
    let (name, port) = match host.rsplit_once(']') {
        Some((name, "")) => (name, None),
        Some((name, port)) => (name, Some(port.strip_prefix(':').unwrap_or(port))),
        None => host
            .split_once(':')
            .map_or((host, None), |(name, port)| (name, Some(port))),
    };
    if name.is_empty() {
        return fault("the address has no host", "write host:port");
    }
    match port.map(str::parse::<u16>) {
        None | Some(Ok(1..)) => Ok(()),
        _ => fault(
            "the port is not a number from 1 to 65535",
            "write host:port; a `:`, `/` or `@` in a password as %3A, %2F or %40",
        ),
    }
}

fn check_parameter(server: Server, parameter: &str) -> Result<(), Fault> {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    let known: &[&str] = match server {
        Server::Postgres => &POSTGRES_PARAMETERS,
        Server::Redis => &REDIS_PARAMETERS,
    };
    if !known.contains(&name) {
        let help = nearest(name, known).map_or_else(
            || format!("the parameters are {}", known.join(", ")),
            |meant| format!("did you mean `{meant}`?"),
        );
        // The name only: a `&` in a careless password makes its rest look like one.
        let shown = if name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            name
        } else {
            "…"
        };
        return fault(
            format!("the address has an unknown parameter `{shown}`"),
            help,
        );
    }
    if name == "sslmode" && !SSL_MODES.contains(&value) {
        return fault(
            "the address has an unknown `sslmode`",
            format!("write one of {}", SSL_MODES.join(", ")),
        );
    }
    Ok(())
}

/// Whether an address holds a password.
pub(super) fn has_password(url: &str) -> bool {
    !url_passwords(url).is_empty()
}

/// The address with a password put in.
pub(super) fn with_password(server: Server, url: &str, password: &str) -> String {
    let encoded = percent_encoded(password);
    let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(authority_end);
    match (authority.rsplit_once('@'), server) {
        (Some((user, hosts)), _) => format!(
            "{scheme}://{}:{encoded}@{hosts}{tail}",
            user.trim_end_matches(':')
        ),
        (None, Server::Redis) if !scheme.contains("unix") => {
            format!("{scheme}://:{encoded}@{rest}")
        }
        (None, _) => {
            let name = if server == Server::Redis {
                "pass"
            } else {
                "password"
            };
            let mark = if rest.contains('?') { '&' } else { '?' };
            format!("{url}{mark}{name}={encoded}")
        }
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// The address as it may be shown: `postgres://user:***@host/db`.
pub(super) fn shown(url: &str) -> String {
    let mut out = url.to_owned();
    let mut spans = url_passwords(url);
    spans.sort_by_key(|span| std::cmp::Reverse(span.start));
    for span in spans {
        // A nested find (a parameter within a password) may already be gone.
        if out.get(span.clone()).is_some() {
            out.replace_range(span, "***");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_refused_for_what_is_wrong_with_it() {
        use Server::*;
        let rows = [
            (Postgres, "postgres://shop@localhost/shop", ""),
            (
                Postgres,
                "postgresql://shop:a@h1:1,h2:2/shop?sslmode=verify-full",
                "",
            ),
            (Postgres, "postgres:///shop?host=/run/postgresql", ""),
            (Postgres, "postgres://u@%2Frun%2Fpostgresql/shop", ""),
            (Postgres, "postgres://u@[::1]:5432/shop", ""),
            (Postgres, "mysql://u@h/d", "unknown scheme"),
            (Postgres, "shop", "no scheme"),
            (Postgres, "host=localhost dbname=shop", "no scheme"),
            (Postgres, "postgres:///shop", "no host"),
            (Postgres, "postgres://u@h:0/d", "port"),
            (Postgres, "postgres://u@h:70000/d", "port"),
            (Postgres, "postgres://u@h:/d", "port"),
            (Postgres, "postgres://u:p:w@h1:5x/d", "port"),
            (Postgres, "postgres://u@h /d", "space"),
            (
                Postgres,
                "postgres://u@h/d?sslmod=require",
                "unknown parameter `sslmod`",
            ),
            (Postgres, "postgres://u@h/d?sslmode=on", "unknown `sslmode`"),
            (Redis, "redis://localhost:6379", ""),
            (Redis, "rediss://user:pw@h/3#insecure", ""),
            (Redis, "unix:///run/redis.sock?db=1", ""),
            (Redis, "unix://run/redis.sock", "not absolute"),
            (Redis, "redis-cluster://h", "not served yet"),
            (Redis, "redis://", "no host"),
            (Redis, "redis://:6379", "no host"),
            (Redis, "redis://h/x", "database is not a number"),
            (Redis, "redis://h?timeout=1", "unknown parameter `timeout`"),
            (Redis, "localhost:6379", "no scheme"),
        ];
        for (server, url, wrong) in rows {
            match check(server, url) {
                Ok(()) => assert_eq!(wrong, "", "{url}"),
                Err((message, help)) => {
                    assert!(
                        !wrong.is_empty() && message.contains(wrong),
                        "{url}: {message}"
                    );
                    assert!(!help.is_empty(), "{url}");
                }
            }
        }
    }

    #[test]
    fn a_password_is_put_in_and_never_shown() {
        use Server::*;
        let rows = [
            (
                Postgres,
                "postgres://u@h/d",
                "postgres://u:p%40%3Aw@h/d",
                "postgres://u:***@h/d",
            ),
            (
                Postgres,
                "postgres:///d?host=/run",
                "postgres:///d?host=/run&password=p%40%3Aw",
                "postgres:///d?host=/run&password=***",
            ),
            (
                Redis,
                "redis://h:1/0",
                "redis://:p%40%3Aw@h:1/0",
                "redis://:***@h:1/0",
            ),
            (
                Redis,
                "redis://u@h",
                "redis://u:p%40%3Aw@h",
                "redis://u:***@h",
            ),
            (
                Redis,
                "unix:///x",
                "unix:///x?pass=p%40%3Aw",
                "unix:///x?pass=***",
            ),
        ];
        for (server, url, full, masked) in rows {
            assert!(!has_password(url), "{url}");
            assert_eq!(with_password(server, url, "p@:w"), full);
            assert!(has_password(full));
            assert_eq!(shown(full), masked);
        }
        assert_eq!(shown("postgres://u@h/d"), "postgres://u@h/d");
    }
}
