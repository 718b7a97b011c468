//! Asks the daemon that runs with this configuration, through the first address of `[resp] listen`.

use super::client::{Client, Reply};
use super::exit;
use crate::config::{Config, Listen, TlsFiles};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme,
    StreamOwned,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A sweep of a large Redis takes minutes, and the daemon gives up waiting for it first.
const REPLY_TIMEOUT: Duration = Duration::from_secs(660);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error(
        "cannot reach the daemon on {address}: {source}\nhint: is `cachewarden run` up, with the same configuration?"
    )]
    Connect { address: String, source: io::Error },
    #[error("[resp] listens on port 0, any free one, so nobody can know where\nhint: write a port")]
    AnyPort,
    #[error("cannot use the certificate of [resp]: {0}")]
    Tls(String),
    #[error("the daemon on {address} gave no answer: {source}")]
    NoAnswer { address: String, source: io::Error },
    #[error("{0}")]
    Refused(String),
}

impl AskError {
    /// The process' exit code.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            AskError::Connect { .. } | AskError::NoAnswer { .. } => exit::UNAVAILABLE,
            AskError::AnyPort | AskError::Tls(_) => exit::CONFIG,
            AskError::Refused(line) if line.starts_with("UNAVAILABLE") => exit::UNAVAILABLE,
            AskError::Refused(_) => exit::FAILED,
        }
    }
}

/// Sends one command.
pub(super) fn ask(config: &Config, words: &[Vec<u8>]) -> Result<Reply, AskError> {
    ask_within(REPLY_TIMEOUT, config, words)
}

/// The same for a command that is answered at once, or not worth waiting for.
pub(super) fn ask_within(
    patience: Duration,
    config: &Config,
    words: &[Vec<u8>],
) -> Result<Reply, AskError> {
    let Some(listen) = config.resp.listen.first() else {
        return Err(AskError::AnyPort);
    };
    let address = match listen {
        Listen::Tcp(address) => near(*address)?.to_string(),
        Listen::Unix(path) => format!("unix:{}", path.display()),
    };
    let no_answer = |source| AskError::NoAnswer {
        address: address.clone(),
        source,
    };
    let mut client = connect(config, listen, &address, patience)?;
    if let Some(password) = &config.resp.password {
        let auth = [b"AUTH".as_slice(), password.expose().as_bytes()];
        refuse_errors(client.ask(&auth).map_err(no_answer)?)?;
    }
    refuse_errors(client.ask(words).map_err(no_answer)?)
}

fn refuse_errors(reply: Reply) -> Result<Reply, AskError> {
    match reply {
        Reply::Error(line) => Err(AskError::Refused(line)),
        reply => Ok(reply),
    }
}

/// Where this machine reaches what listens on `address`.
fn near(address: SocketAddr) -> Result<SocketAddr, AskError> {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    match address.port() {
        0 => Err(AskError::AnyPort),
        port => Ok(SocketAddr::new(ip, port)),
    }
}

fn connect(
    config: &Config,
    listen: &Listen,
    shown: &str,
    patience: Duration,
) -> Result<Client, AskError> {
    let unreachable = |source| AskError::Connect {
        address: shown.to_owned(),
        source,
    };
    match listen {
        Listen::Unix(path) => {
            let stream = UnixStream::connect(path).map_err(unreachable)?;
            stream
                .set_read_timeout(Some(patience))
                .map_err(unreachable)?;
            Ok(Client::over(stream))
        }
        Listen::Tcp(address) => {
            let address = near(*address)?;
            let open = || {
                let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(patience))?;
                Ok(stream)
            };
            let stream = open().map_err(unreachable)?;
            match &config.resp.tls {
                None => Ok(Client::over(stream)),
                Some(files) => {
                    let session = session(files, address.ip()).map_err(AskError::Tls)?;
                    Ok(Client::over(StreamOwned::new(session, stream)))
                }
            }
        }
    }
}

/// TLS to a server that must show the very certificate of the configuration: whatever names it is made out to.
fn session(files: &TlsFiles, ip: IpAddr) -> Result<ClientConnection, String> {
    let own = CertificateDer::from_pem_file(&files.cert)
        .map_err(|error| format!("`{}`: {error}", files.cert.display()))?;
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(ThisCertificate {
        own,
        provider: Arc::clone(&provider),
    });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), ServerName::IpAddress(ip.into()))
        .map_err(|error| error.to_string())
}

#[derive(Debug)]
struct ThisCertificate {
    own: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ThisCertificate {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *shown == self.own {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
