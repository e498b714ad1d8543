//! `server_name`: the name that a server's certificate must have, whatever the server is reached by.
//!
//! Only what is checked changes. The name that the handshake asks the server for (SNI) stays the one it is reached by.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{self, CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::{
    ALL_VERSIONS, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, version,
};

use super::{TlsConfig, Version, read};

/// A DNS name or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerName(pki_types::ServerName<'static>);

impl TryFrom<String> for ServerName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let name = pki_types::ServerName::try_from(text.clone());
        name.map(ServerName).map_err(|_| format!("{text:?} is no server's name: write order.example.com or an address"))
    }
}

impl From<ServerName> for String {
    fn from(ServerName(name): ServerName) -> Self {
        name.to_str().into_owned()
    }
}

/// What `tls` says, with this name checked.
pub(super) fn client_config(tls: &TlsConfig, name: &ServerName) -> anyhow::Result<ClientConfig> {
    let provider = CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()));
    let versions = match tls.min_version {
        Some(Version::Tls13) => &[&version::TLS13][..],
        Some(Version::Tls12) | None => ALL_VERSIONS,
    };
    let verifier: Arc<dyn ServerCertVerifier> = match &tls.ca_file {
        Some(file) => WebPkiServerVerifier::builder_with_provider(roots(file)?.into(), provider.clone()).build()?,
        None => Arc::new(rustls_platform_verifier::Verifier::new(provider.clone())?),
    };
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Named { name: name.0.clone(), verifier }));
    let (Some(certificate), Some(key)) = (&tls.cert_file, &tls.key_file) else {
        return Ok(client.with_no_client_auth());
    };
    let wrong = || format!("tls_config: `{}` and its key are no PEM pair", certificate.display());
    let chain = certificates(certificate).with_context(wrong)?;
    let key = PrivateKeyDer::from_pem_slice(&read(key)?).with_context(wrong)?;
    client.with_client_auth_cert(chain, key).with_context(wrong)
}

fn roots(file: &Path) -> anyhow::Result<RootCertStore> {
    let wrong = || format!("tls_config: ca_file `{}` holds no PEM certificates", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file).with_context(wrong)? {
        roots.add(certificate).with_context(wrong)?;
    }
    anyhow::ensure!(!roots.is_empty(), wrong());
    Ok(roots)
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    Ok(CertificateDer::pem_slice_iter(&read(file)?).collect::<Result<_, _>>()?)
}

/// Checks certificates as `verifier` does, for another name than the one the server was reached by.
#[derive(Debug)]
struct Named {
    name: pki_types::ServerName<'static>,
    verifier: Arc<dyn ServerCertVerifier>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _reached_by: &pki_types::ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verifier.verify_server_cert(end_entity, intermediates, &self.name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
