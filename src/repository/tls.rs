//! TLS to Postgres by rustls: what of the certificate is verified is the connection string's choice.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore};
use tokio_postgres_rustls_improved::MakeRustlsConnect;

use super::dsn::Verify;

/// The protocol that is to be spoken. Servers insist on it where TLS begins without Postgres' own
/// greeting (`sslnegotiation=direct`), and older ones do not look.
const ALPN: &[u8] = b"postgresql";

/// Makes TLS connections. Reads certificates from files: call it where blocking is allowed.
pub(super) fn connector(
    verify: Verify,
    root_cert: Option<PathBuf>,
) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(ring::default_provider());
    let chain = match verify {
        Verify::Nothing => None,
        Verify::Chain | Verify::ChainAndName => {
            let roots = Arc::new(roots(root_cert.as_deref())?);
            let verifier =
                WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
            Some(
                verifier
                    .map_err(|error| format!("the root certificates cannot be used: {error}"))?,
            )
        }
    };
    let verifier = Arc::new(Verifier {
        chain,
        name: verify == Verify::ChainAndName,
        provider: Arc::clone(&provider),
    });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("tls cannot be set up: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(MakeRustlsConnect::new(config))
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    match file {
        Some(path) => {
            let refused = |error: &dyn std::fmt::Display| {
                format!(
                    "the root certificate `{}` cannot be used: {error}",
                    path.display()
                )
            };
            for cert in CertificateDer::pem_file_iter(path).map_err(|error| refused(&error))? {
                let cert = cert.map_err(|error| refused(&error))?;
                store.add(cert).map_err(|error| refused(&error))?;
            }
        }
        // Some of a system's certificates are often past use; those are not reason to trust none.
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if store.is_empty() {
        return Err(match file {
            Some(path) => format!("`{}` holds no certificate", path.display()),
            None => "the system has no root certificates; install ca-certificates or name a file \
                     with sslrootcert"
                .to_owned(),
        });
    }
    Ok(store)
}

#[derive(Debug)]
struct Verifier {
    /// Absent: any certificate will do.
    chain: Option<Arc<WebPkiServerVerifier>>,
    name: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified =
            chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is looked at only once the chain has been found good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.name => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
