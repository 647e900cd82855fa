//! TLS to servers. Files are read at each connection, so that a certificate
//! that was renewed is used.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{
    CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName, UnixTime,
};
use tokio_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, version,
};

use crate::options::{TlsSpec, TlsVersion};
use crate::sys::HostRoot;

/// Where a host keeps the certificates that it trusts, as Go looks for them.
const TRUSTED: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Largest file of keys or certificates: all that a host trusts have a quarter of a megabyte.
const LARGEST: u64 = 16 << 20;

/// Why there is no TLS. Keys are never part of the words.
#[derive(Debug, thiserror::Error)]
pub(in crate::sink) enum TlsError {
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is no PEM file with {what}", path.display())]
    Pem { path: PathBuf, what: &'static str, source: pem::Error },
    #[error(
        "the host has no file of certificates that it trusts; name one in the option `...-tls-ca-cert`"
    )]
    NoneTrusted,
    #[error("the certificate in {}", path.display())]
    Certificate { path: PathBuf, source: rustls::Error },
    #[error("TLS")]
    Config(#[from] rustls::Error),
    #[error("`{name}` cannot be the name of a server")]
    Name { name: String, source: InvalidDnsNameError },
}

/// What connects by TLS as `spec` asks, and the name that the server must have.
pub(super) fn connector(
    spec: &TlsSpec,
    host: &HostRoot,
    server: &str,
) -> Result<(TlsConnector, ServerName<'static>), TlsError> {
    let provider = Arc::new(ring::default_provider());
    let versions: &[_] = match spec.min_version {
        TlsVersion::V1_2 => &[&version::TLS13, &version::TLS12],
        TlsVersion::V1_3 => &[&version::TLS13],
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)?;
    let builder = if spec.skip_verify {
        let anyone = Arc::new(Anyone(provider));
        builder.dangerous().with_custom_certificate_verifier(anyone)
    } else {
        builder.with_root_certificates(roots(spec, host)?)
    };
    let config = match (&spec.certificate, &spec.key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(host, certificate)?;
            let bytes = read(host, key)?;
            let private = PrivateKeyDer::from_pem_slice(&bytes).map_err(|source| {
                TlsError::Pem { path: key.clone(), what: "a private key", source }
            })?;
            builder.with_client_auth_cert(chain, private)?
        }
        _ => builder.with_no_client_auth(),
    };
    let name = spec.server_name.as_deref().unwrap_or(server).to_owned();
    let server =
        ServerName::try_from(name.clone()).map_err(|source| TlsError::Name { name, source })?;
    Ok((TlsConnector::from(Arc::new(config)), server))
}

fn roots(spec: &TlsSpec, host: &HostRoot) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &spec.ca {
        for certificate in certificates(host, path)? {
            roots
                .add(certificate)
                .map_err(|source| TlsError::Certificate { path: path.clone(), source })?;
        }
        return Ok(roots);
    }
    let trusted = TRUSTED.iter().find_map(|path| certificates(host, Path::new(path)).ok());
    // Some of a host's are of kinds that rustls does not take; it is enough that others are.
    roots.add_parsable_certificates(trusted.ok_or(TlsError::NoneTrusted)?);
    Ok(roots)
}

fn certificates(host: &HostRoot, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(host, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let none = || Err(pem::Error::NoItemsFound);
    found
        .and_then(|found| if found.is_empty() { none() } else { Ok(found) })
        .map_err(|source| TlsError::Pem { path: path.to_owned(), what: "certificates", source })
}

fn read(host: &HostRoot, path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = || host.existing(path)?.read(LARGEST);
    read().map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

/// Takes any server for the right one, which `...-tls-skip-verify` asks for.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
