//! Scrapes of a target that wants to see a certificate.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::super::request::{Clients, fetch};
use super::*;
use crate::tls::TlsConfig;

/// Who signs certificates.
pub(super) struct Authority {
    pub(super) pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Authority { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    fn sign(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// Answers whoever shows a certificate of the authority.
pub(super) async fn serve(authority: &Authority) -> u16 {
    let (certificate, key) = authority.sign();
    let mut roots = RootCertStore::empty();
    roots.add(authority.der.clone()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    service::task::spawn("tls-target", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close\r\n";
            let _ = stream.write_all(format!("{head}content-length: 4\r\n\r\na 1\n").as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    port
}

/// A `tls_config` with a certificate of the authority, and its files.
pub(super) fn files(authority: &Authority, directory: &Path) -> String {
    let (certificate, key) = authority.sign();
    for (name, pem) in [("ca", authority.pem.clone()), ("cert", certificate.pem()), ("key", key.serialize_pem())] {
        std::fs::write(directory.join(format!("{name}.pem")), pem).unwrap();
    }
    "tls_config: {ca_file: ca.pem, cert_file: cert.pem, key_file: key.pem}\n".to_owned()
}

fn target(port: u16, tls: TlsConfig) -> Target {
    let job = Config { tls_config: tls, ..Config::new("secured") };
    let settings = Settings::new(&job, &crate::config::Global::default());
    super::client::target(&format!("https://localhost:{port}/metrics"), settings)
}

#[tokio::test]
async fn a_target_that_wants_certificates_is_scraped_with_the_ones_that_are_configured() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let port = serve(&ours).await;
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    let (certificate, key) = ours.sign();
    let ca_file = file("ca.pem", &ours.pem);
    let cert_file = file("cert.pem", &certificate.pem());
    let key_file = file("key.pem", &key.serialize_pem());
    let whole = TlsConfig { ca_file, cert_file, key_file, ..TlsConfig::default() };
    let (clients, buffer) = (Clients::new().unwrap(), Vec::new);

    let scraped = fetch(&clients, &target(port, whole.clone()), buffer()).await.unwrap();
    assert_eq!(scraped.body, b"a 1\n");
    let blind = TlsConfig { ca_file: None, insecure_skip_verify: true, ..whole.clone() };
    assert_eq!(fetch(&clients, &target(port, blind), buffer()).await.unwrap().body, b"a 1\n");

    let nameless = TlsConfig { cert_file: None, key_file: None, ..whole.clone() };
    assert!(fetch(&clients, &target(port, nameless), buffer()).await.is_err());
    let distrustful = TlsConfig { ca_file: None, ..whole.clone() };
    let error = fetch(&clients, &target(port, distrustful), buffer()).await.unwrap_err();
    assert_eq!(error.reason, FailureReason::Connect, "{error}");

    // Replaced while we run: the next scrape goes by the new file, and back.
    let written = std::fs::metadata(whole.ca_file.as_ref().unwrap()).unwrap().modified().unwrap();
    for (pem, later, is_good) in [(&theirs.pem, 1, false), (&ours.pem, 2, true)] {
        let path = file("ca.pem", pem).unwrap();
        // Two writes may fall into one tick of the file system's clock.
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(written + Duration::from_secs(later)).unwrap();
        assert_eq!(fetch(&clients, &target(port, whole.clone()), buffer()).await.is_ok(), is_good);
    }

    let missing = TlsConfig { ca_file: Some("/nowhere/ca.pem".into()), ..TlsConfig::default() };
    let error = fetch(&clients, &target(port, missing), buffer()).await.unwrap_err();
    assert_eq!(error.reason, FailureReason::Credentials);
    assert!(error.message.starts_with("tls_config: failed to read `/nowhere/ca.pem`"), "{error}");
}
