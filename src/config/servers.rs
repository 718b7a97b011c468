//! The servers on either side, the front door and the log: `[postgres]`, `[redis]`, `[resp]`, `[log]`.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    reader::Reader,
    secret::{self, Secret},
    url::{self, Server},
    value::{Checked, Located},
};

const DEFAULT_POOL_SIZE: usize = 8;
const DEFAULT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_REDIS_TIMEOUT: Duration = Duration::from_millis(500);
/// Of 1 kB each they take Redis some 1.5 GB.
pub const DEFAULT_MAX_JOURNAL: usize = 1_000_000;
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6380);
const DEFAULT_MAX_CONNECTIONS: usize = 10_000;
const DEFAULT_MAX_REQUEST: usize = 1 << 20;
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// `[postgres]`: where misses are loaded from.
#[derive(Clone, Debug, PartialEq)]
pub struct Postgres {
    /// The address, password included.
    pub url: Secret,
    /// Connections for loads.
    pub pool_size: usize,
    pub statement_timeout: Duration,
}

impl Postgres {
    /// The address as it may be shown, its password masked.
    pub fn shown_url(&self) -> String {
        url::shown(self.url.expose())
    }
}

/// `[redis]`: where values lie.
#[derive(Clone, Debug, PartialEq)]
pub struct Redis {
    /// The address, password included.
    pub url: Secret,
    /// The longest wait for an answer.
    pub timeout: Duration,
    /// Writes that may wait in the journal until they are saved.
    pub max_journal: usize,
    /// Whether the journal may lie in a Redis that forgets it when it ends, or may evict it.
    pub allow_volatile_journal: bool,
}

impl Redis {
    /// The address as it may be shown, its password masked.
    pub fn shown_url(&self) -> String {
        url::shown(self.url.expose())
    }
}

/// `[resp]`: the front door.
#[derive(Clone, Debug, PartialEq)]
pub struct Resp {
    pub listen: Vec<Listen>,
    pub password: Option<Secret>,
    pub max_connections: usize,
    /// The longest request, in bytes.
    pub max_request: usize,
    /// Threads that serve connections, each with a cache actor; `None`: half of the machine's cores.
    pub threads: Option<usize>,
    pub tls: Option<TlsFiles>,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Listen {
    /// Whether other machines can reach it.
    pub fn is_remote(&self) -> bool {
        matches!(self, Listen::Tcp(address) if !address.ip().is_loopback())
    }
}

/// A certificate chain and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    pub format: LogFormat,
    /// A level, or a list of `target=level`, as `tracing_subscriber::EnvFilter` reads it.
    pub level: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
    Journald,
}

pub(super) fn postgres(reader: &mut Reader<'_>, table: &Checked) -> Option<Postgres> {
    Some(Postgres {
        url: address(reader, table, Server::Postgres)?,
        pool_size: table.count("pool_size").unwrap_or(DEFAULT_POOL_SIZE),
        statement_timeout: table
            .duration("statement_timeout")
            .unwrap_or(DEFAULT_STATEMENT_TIMEOUT),
    })
}

pub(super) fn redis(reader: &mut Reader<'_>, table: &Checked) -> Option<Redis> {
    Some(Redis {
        url: address(reader, table, Server::Redis)?,
        timeout: table.duration("timeout").unwrap_or(DEFAULT_REDIS_TIMEOUT),
        max_journal: table.count("max_journal").unwrap_or(DEFAULT_MAX_JOURNAL),
        allow_volatile_journal: table.flag("allow_volatile_journal").unwrap_or(false),
    })
}

/// The address of a server, from the file or a file of its own, with a password from yet another.
fn address(reader: &mut Reader<'_>, table: &Checked, server: Server) -> Option<Secret> {
    if table.is_empty_of(&["url", "url_file"]) {
        reader.missing_url(table, url::example(server));
    }
    let url = secret(reader, table, "url", "url_file")?;
    if let Err((message, help)) = url::check(server, url.value.expose()) {
        reader.fault(url.span, message, help);
        return None;
    }
    let url_text = url.value.expose();
    if table.text("url").is_some() && is_password_written_out(reader, &url.span) {
        reader.written_out(url.span.clone(), "password_file");
    }
    let Some(file) = table.text("password_file") else {
        return Some(url.value);
    };
    if url::has_password(url_text) {
        reader.fault(
            file.span,
            "the password is given twice: here and in the address",
            "leave one of them",
        );
        return None;
    }
    let password = secret_file(reader, &file)?;
    Some(Secret::new(url::with_password(server, url_text, &password)))
}

/// Whether the password of an address stands in the file itself, and is not `${NAME}`.
fn is_password_written_out(reader: &Reader<'_>, span: &Range<usize>) -> bool {
    let raw = reader.source.text.get(span.clone()).unwrap_or_default();
    secret::url_passwords(raw)
        .into_iter()
        .any(|password| !raw[password].starts_with("${"))
}

/// A secret from its key or the file its twin names.
fn secret(
    reader: &mut Reader<'_>,
    table: &Checked,
    key: &str,
    file_key: &str,
) -> Option<Located<Secret>> {
    match (table.text(key), table.text(file_key)) {
        (Some(text), None) => Some(Located {
            value: Secret::new(text.value),
            span: text.span,
        }),
        (None, Some(file)) => {
            let value = Secret::new(secret_file(reader, &file)?);
            Some(Located {
                value,
                span: file.span,
            })
        }
        (Some(_), Some(file)) => {
            reader.fault(
                file.span,
                format!("both `{key}` and `{file_key}` are given"),
                "leave one of them",
            );
            None
        }
        (None, None) => None,
    }
}

/// An optional secret that is no address.
pub(super) fn password_or_token(
    reader: &mut Reader<'_>,
    table: &Checked,
    key: &str,
    file_key: &str,
) -> Option<Secret> {
    if let Some(text) = table.text(key)
        && !reader
            .source
            .text
            .get(text.span.clone())
            .is_some_and(|raw| raw.contains("${"))
    {
        reader.written_out(text.span, file_key);
    }
    secret(reader, table, key, file_key).map(|secret| secret.value)
}

fn secret_file(reader: &mut Reader<'_>, file: &Located<&str>) -> Option<String> {
    match secret::read_file(Path::new(file.value)) {
        Ok(text) => Some(text),
        Err(why) => {
            let message = format!("secret file {}: {why}", file.value.escape_debug());
            reader.fault(
                file.span.clone(),
                message,
                "name a readable file that holds the secret and nothing else",
            );
            None
        }
    }
}

pub(super) fn resp(reader: &mut Reader<'_>, table: &Checked) -> Resp {
    let password = password_or_token(reader, table, "password", "password_file");
    let tls = tls_files(reader, table);
    let guards = ["password", "password_file", "tls_cert_file"];
    let is_guarded = !table.is_empty_of(&guards) || table.flag("allow_insecure") == Some(true);

    let mut listen: Vec<Listen> = Vec::new();
    for address in table.texts("listen").unwrap_or_default() {
        match check_listen(&address.value, &EXAMPLE) {
            Ok(address_ok) if address_ok.is_remote() && !is_guarded => {
                let shown = address.value.escape_debug();
                reader.fault(
                    address.span.clone(),
                    format!("`{shown}` can be reached from other machines without password or TLS"),
                    "add password_file, or tls_cert_file and tls_key_file, or allow_insecure = true",
                );
            }
            Ok(address_ok) if listen.contains(&address_ok) && !is_any_port(&address_ok) => {
                reader.fault(
                    address.span.clone(),
                    format!("`{}` is there twice", address.value),
                    "leave one of them",
                );
            }
            Ok(address_ok) => listen.push(address_ok),
            Err((message, help)) => reader.fault(address.span.clone(), message, help),
        }
    }
    match table.span_of("listen") {
        None => listen.push(Listen::Tcp(DEFAULT_LISTEN)),
        Some(span) if table.texts("listen").is_some_and(<[_]>::is_empty) => {
            reader.fault(
                span,
                "`listen` is empty",
                "write listen = [\"127.0.0.1:6380\"]",
            );
        }
        Some(_) => {}
    }
    Resp {
        listen,
        password,
        max_connections: table
            .count("max_connections")
            .unwrap_or(DEFAULT_MAX_CONNECTIONS),
        max_request: table.count("max_request").unwrap_or(DEFAULT_MAX_REQUEST),
        threads: table.count("threads"),
        tls,
    }
}

fn tls_files(reader: &mut Reader<'_>, table: &Checked) -> Option<TlsFiles> {
    let (cert, key) = (table.text("tls_cert_file"), table.text("tls_key_file"));
    match (cert, key) {
        (Some(cert), Some(key)) => Some(TlsFiles {
            cert: cert.value.into(),
            key: key.value.into(),
        }),
        (Some(one), None) => {
            reader.fault(
                one.span,
                "`tls_cert_file` is there without `tls_key_file`",
                "give both, or neither",
            );
            None
        }
        (None, Some(one)) => {
            reader.fault(
                one.span,
                "`tls_key_file` is there without `tls_cert_file`",
                "give both, or neither",
            );
            None
        }
        (None, None) => None,
    }
}

fn is_any_port(listen: &Listen) -> bool {
    matches!(listen, Listen::Tcp(address) if address.port() == 0)
}

/// What a good address of a door looks like.
pub(super) struct Example {
    pub port: u16,
    pub socket: &'static str,
}

const EXAMPLE: Example = Example {
    port: 6380,
    socket: "/run/cachewarden/resp.sock",
};

/// Reads an address to listen on. Port 0 asks the system for a free one.
pub(super) fn check_listen(text: &str, example: &Example) -> Result<Listen, url::Fault> {
    let Example { port, socket } = example;
    let help = format!(
        "write \"127.0.0.1:{port}\", \"[::1]:{port}\", \"localhost:{port}\" or \"unix:{socket}\""
    );
    let shown = text.escape_debug();
    if let Some(path) = text.strip_prefix("unix:") {
        if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
            return Err((format!("`{shown}` is no absolute path of a socket"), help));
        }
        // The kernel's `sun_path` has 108 bytes, the last one a NUL.
        if path.len() > 107 {
            return Err((
                format!("the path of the socket has {} bytes", path.len()),
                "write at most 107 bytes".into(),
            ));
        }
        return Ok(Listen::Unix(path.into()));
    }
    let with_ip = text
        .strip_prefix("localhost:")
        .map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    let Ok(address) = with_ip.parse::<SocketAddr>() else {
        return Err((format!("`{shown}` is no address to listen on"), help));
    };
    Ok(Listen::Tcp(address))
}

pub(super) fn log(reader: &mut Reader<'_>, table: &Checked) -> Log {
    let format = match table.text("format").map(|format| format.value) {
        Some("json") => LogFormat::Json,
        Some("journald") => LogFormat::Journald,
        _ => LogFormat::Text,
    };
    let level = table.text("level");
    if let Some(level) = &level
        && !level.value.split(',').all(is_directive)
    {
        reader.fault(
            level.span.clone(),
            format!("`{}` is no log level", level.value.escape_debug()),
            format!(
                "write one of {}, or a list such as \"info,cachewarden::resp=debug\"",
                LEVELS.join(", ")
            ),
        );
    }
    Log {
        format,
        level: level.map_or("info", |level| level.value).to_owned(),
    }
}

fn is_directive(text: &str) -> bool {
    match text.split_once('=') {
        None => LEVELS.contains(&text),
        Some((target, level)) => {
            let is_target = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
            !target.is_empty() && target.bytes().all(is_target) && LEVELS.contains(&level)
        }
    }
}
