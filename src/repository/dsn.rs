//! The connection string: what Postgres' own tools understand, where it is safe to.
//!
//! | `sslmode` | on the wire | verified |
//! | --- | --- | --- |
//! | `disable` | plain | nothing |
//! | `prefer` (default) | TLS if the server offers it | nothing |
//! | `require` | TLS | nothing; with `sslrootcert`, as `verify-ca` |
//! | `verify-ca` | TLS | the certificate's chain, up to a trusted root |
//! | `verify-full` | TLS | the chain, and that the certificate is for this host |
//!
//! Roots are the system's, or those in the PEM file that `sslrootcert` names (`system`: the
//! system's). Over a unix socket there is no TLS whatever is asked for, as with `psql`.

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::RepositoryError;

/// Idle time after which the line is tested, and how it is: a server that vanished without a word
/// is noticed in 45 s on an idle connection, and in 10 s on one with a statement under way.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of the server's certificate is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verify {
    Nothing,
    Chain,
    ChainAndName,
}

/// A connection string, read. Has no `Debug`: the driver's configuration holds the password.
pub(super) struct Dsn {
    pub config: Config,
    pub verify: Verify,
    /// The trusted roots; absent: the system's.
    pub root_cert: Option<PathBuf>,
    /// Whether TLS may be used at all.
    pub tls: bool,
}

impl Dsn {
    /// Reads a `postgres://` URL. What is said about a bad one never repeats any part of it but the
    /// names of options: where a password is not escaped, any part of the text may be the password.
    pub fn parse(url: &str) -> Result<Self, RepositoryError> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(bad("it does not begin with `postgres://`"));
        }
        let (base, options) = split_options(url);
        let (mut mode, mut root_cert, mut rest) = (None, None, Vec::new());
        for option in options {
            match option.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => root_cert = Some(unescape(value)?),
                _ => rest.push(option),
            }
        }
        let root_cert = root_cert.filter(|path| path != "system").map(PathBuf::from);
        let (ssl_mode, verify) = match mode {
            None | Some("prefer") => (SslMode::Prefer, Verify::Nothing),
            Some("disable") => (SslMode::Disable, Verify::Nothing),
            Some("require") if root_cert.is_some() => (SslMode::Require, Verify::Chain),
            Some("require") => (SslMode::Require, Verify::Nothing),
            Some("verify-ca") => (SslMode::Require, Verify::Chain),
            Some("verify-full") => (SslMode::Require, Verify::ChainAndName),
            Some(_) => {
                return Err(bad(
                    "`sslmode` is none of disable, prefer, require, verify-ca, verify-full",
                ));
            }
        };
        let mut config: Config = format!("{base}?{}", rest.join("&"))
            .parse()
            .map_err(|error| bad(complaint(&error)))?;
        let over_unix = |host: &Host| matches!(host, Host::Unix(_));
        let tls = ssl_mode != SslMode::Disable && !config.get_hosts().iter().all(over_unix);
        config.ssl_mode(if tls { ssl_mode } else { SslMode::Disable });
        settle(&mut config);
        Ok(Self {
            config,
            verify,
            root_cert,
            tls,
        })
    }
}

/// What is set unless the URL sets it.
fn settle(config: &mut Config) {
    if config.get_application_name().is_none() {
        config.application_name("cachewarden");
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_idle(KEEPALIVE_IDLE);
        config.keepalives_interval(KEEPALIVE_INTERVAL);
        config.keepalives_retries(KEEPALIVE_RETRIES);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
}

/// The options begin at the first `?` behind the credentials, which may hold one of their own.
fn split_options(url: &str) -> (&str, Vec<&str>) {
    let host = url.find('@').unwrap_or(0);
    match url[host..].find('?') {
        Some(at) => {
            let (base, options) = url.split_at(host + at);
            let options = options[1..].split('&').filter(|o| !o.is_empty());
            (base, options.collect())
        }
        None => (url, Vec::new()),
    }
}

/// The driver's complaint, if it is one that names an option we know of.
fn complaint(error: &tokio_postgres::Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    match cause {
        Some(cause) if cause.starts_with("invalid value for option") => cause,
        _ => "expected postgres://user:password@host:port/database?option=value, \
              special characters in the password as %xx"
            .to_owned(),
    }
}

fn unescape(text: &str) -> Result<String, RepositoryError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest.next().zip(rest.next());
        let hex = |digit: u8| char::from(digit).to_digit(16);
        let value = digits.and_then(|(high, low)| Some(hex(high)? * 16 + hex(low)?));
        let value = value.and_then(|value| u8::try_from(value).ok());
        bytes.push(value.ok_or_else(|| bad("`sslrootcert` has a `%` without two hex digits"))?);
    }
    String::from_utf8(bytes).map_err(|_not_text| bad("`sslrootcert` is not UTF-8"))
}

fn bad(why: impl Into<String>) -> RepositoryError {
    RepositoryError::Url(why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sslmode_means_what_the_table_says() {
        let of = |options: &str| {
            let dsn = Dsn::parse(&format!("postgres://u@h/db?{options}")).ok()?;
            Some((dsn.config.get_ssl_mode(), dsn.verify, dsn.tls))
        };
        use Verify::{Chain, ChainAndName, Nothing};
        assert_eq!(of(""), Some((SslMode::Prefer, Nothing, true)));
        assert_eq!(
            of("sslmode=disable"),
            Some((SslMode::Disable, Nothing, false))
        );
        assert_eq!(
            of("sslmode=require"),
            Some((SslMode::Require, Nothing, true))
        );
        assert_eq!(
            of("sslmode=require&sslrootcert=/ca.pem"),
            Some((SslMode::Require, Chain, true))
        );
        assert_eq!(
            of("sslmode=verify-ca"),
            Some((SslMode::Require, Chain, true))
        );
        assert_eq!(
            of("channel_binding=require&sslmode=verify-full"),
            Some((SslMode::Require, ChainAndName, true))
        );
        assert_eq!(of("sslmode=allow"), None);
    }

    #[test]
    fn a_unix_socket_is_found_in_both_spellings_and_never_uses_tls() {
        for url in [
            "postgres:///db?host=/run/postgresql&sslmode=require",
            "postgres://u@%2Frun%2Fpostgresql/db?sslmode=require",
        ] {
            let Ok(dsn) = Dsn::parse(url) else {
                panic!("{url} was refused");
            };
            assert_eq!(
                dsn.config.get_hosts(),
                [Host::Unix("/run/postgresql".into())]
            );
            assert!(!dsn.tls);
        }
    }

    #[test]
    fn the_root_certificate_is_a_path_or_the_systems() {
        let of = |value: &str| {
            Dsn::parse(&format!("postgres://h/d?sslrootcert={value}")).map(|d| d.root_cert)
        };
        assert_eq!(
            of("%2Fetc%2Fca.pem"),
            Ok(Some(PathBuf::from("/etc/ca.pem")))
        );
        assert_eq!(of("system"), Ok(None));
        assert!(of("%2").is_err());
    }

    #[test]
    fn no_part_of_a_password_is_in_an_error() {
        for url in [
            "mysql://u:S3CR3T@h/db",
            "postgres://u:S3CR3T/x@h:notaport/db",
            "postgres://u:x?S3CR3T=1",
            "postgres://u:x@y?S3CR3T@h/db",
            "postgres://u:p@h/db?S3CR3T=1",
            "postgres://u:p@h:S3CR3T/db",
            "postgres://u:p@h/db?sslmode=S3CR3T",
            "postgres://u:p@h/db?connect_timeout=S3CR3T",
        ] {
            let error = Dsn::parse(url)
                .err()
                .map(|error| format!("{error} {error:?}"));
            assert!(error.is_some(), "{url} was taken");
            assert!(!error.unwrap_or_default().contains("S3CR3T"), "{url}");
        }
    }

    #[test]
    fn what_the_url_sets_is_kept() {
        let Ok(dsn) =
            Dsn::parse("postgres://u:p?x@h/db?application_name=shop&keepalives_interval=1")
        else {
            panic!("refused");
        };
        assert_eq!(dsn.config.get_application_name(), Some("shop"));
        assert_eq!(dsn.config.get_password(), Some(&b"p?x"[..]));
        assert_eq!(
            dsn.config.get_keepalives_interval(),
            Some(Duration::from_secs(1))
        );
        assert_eq!(dsn.config.get_tcp_user_timeout(), Some(&TCP_USER_TIMEOUT));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_repeating_it(
            text in "(u|:|@|/|[?]|=|&|%|h|sslmode|sslrootcert|S3CR3T|\\PC){0,20}",
        ) {
            if let Err(error) = Dsn::parse(&format!("postgres://{text}")) {
                let said = format!("{error} {error:?}");
                proptest::prop_assert!(!said.contains("S3CR3T"), "{}", said);
            }
        }
    }
}
