//! `[http]`: health, metrics and the JSON API.

use super::{
    reader::Reader,
    secret::Secret,
    servers::{Example, Listen, check_listen, password_or_token},
    value::Checked,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9680);
const EXAMPLE: Example = Example {
    port: 9680,
    socket: "/run/cachewarden/http.sock",
};

/// `[http]`. Without the section there is no such door.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    pub listen: Listen,
    /// What clients have to know; `None`: everybody may, which is this machine's users at most.
    pub token: Option<Secret>,
    /// Names, in lower case, by which clients call this machine; beside addresses and `localhost`.
    pub hosts: Vec<String>,
}

pub(super) fn http(reader: &mut Reader<'_>, table: &Checked) -> Http {
    let token = password_or_token(reader, table, "token", "token_file");
    let is_guarded = !table.is_empty_of(&["token", "token_file"]);
    let mut listen = Listen::Tcp(DEFAULT_LISTEN);
    if let Some(text) = table.text("listen") {
        match check_listen(text.value, &EXAMPLE) {
            Ok(address) if address.is_remote() && !is_guarded => {
                let shown = text.value.escape_debug();
                reader.fault(
                    text.span,
                    format!("`{shown}` can be reached from other machines without a token"),
                    "add token_file, or listen = \"127.0.0.1:9680\"",
                );
            }
            Ok(address) => listen = address,
            Err((message, help)) => reader.fault(text.span, message, help),
        }
    }
    let mut hosts = Vec::new();
    for host in table.texts("hosts").unwrap_or_default() {
        match is_host(&host.value) {
            true => hosts.push(host.value.to_ascii_lowercase()),
            false => {
                let shown = host.value.escape_debug();
                reader.fault(
                    host.span.clone(),
                    format!("`{shown}` is no name of a host"),
                    "write names without a port: hosts = [\"cachewarden.internal\"]",
                );
            }
        }
    }
    Http {
        listen,
        token,
        hosts,
    }
}

fn is_host(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !text.is_empty() && text.bytes().all(is_part)
}
