//! `tls_config`: how we trust a server and show ourselves to it. Prometheus' keys.

use std::path::{Path, PathBuf};

use anyhow::Context;
use reqwest::{Certificate, ClientBuilder, Identity};
use serde::{Deserialize, Serialize};

mod name;

use name::ServerName;

/// Absent keys mean the system's roots and no certificate of our own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// PEM with the roots that are trusted instead of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// PEM with our certificate; `key_file` belongs to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The name that the server's certificate must have, where it is reached by another or by its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<ServerName>,
    /// Any certificate is good enough. For a laboratory.
    pub insecure_skip_verify: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<Version>,
}

/// Older ones than 1.2 are never spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub enum Version {
    #[serde(rename = "TLS12", alias = "TLS10", alias = "TLS11")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}

impl TlsConfig {
    /// # Errors
    /// Half a pair of certificate and key.
    pub fn check(&self) -> Result<(), String> {
        match (&self.cert_file, &self.key_file) {
            (Some(_), None) => Err("tls_config: cert_file needs key_file beside it".to_owned()),
            (None, Some(_)) => Err("tls_config: key_file needs cert_file beside it".to_owned()),
            _ => Ok(()),
        }
    }

    pub fn resolve_paths(&mut self, base: &Path) {
        let files = [&mut self.ca_file, &mut self.cert_file, &mut self.key_file];
        files.into_iter().flatten().for_each(|file| *file = base.join(&*file));
    }

    pub fn is_default(&self) -> bool {
        *self == TlsConfig::default()
    }

    /// The files that it names.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.ca_file, &self.cert_file, &self.key_file].into_iter().flatten().map(PathBuf::as_path)
    }

    /// # Errors
    /// A file that cannot be read or holds something else.
    pub fn apply(&self, mut client: ClientBuilder) -> anyhow::Result<ClientBuilder> {
        if let (Some(name), false) = (&self.server_name, self.insecure_skip_verify) {
            return Ok(client.tls_backend_preconfigured(name::client_config(self, name)?));
        }
        if let Some(file) = &self.ca_file {
            let wrong = || format!("tls_config: ca_file `{}` holds no PEM certificates", file.display());
            let roots = Certificate::from_pem_bundle(&read(file)?).with_context(wrong)?;
            anyhow::ensure!(!roots.is_empty(), wrong());
            client = client.tls_certs_only(roots);
        }
        if let (Some(certificate), Some(key)) = (&self.cert_file, &self.key_file) {
            let mut pem = read(certificate)?;
            pem.push(b'\n');
            pem.extend(read(key)?);
            let wrong = || format!("tls_config: `{}` and its key are no PEM pair", certificate.display());
            client = client.identity(Identity::from_pem(&pem).with_context(wrong)?);
        }
        if let Some(version) = self.min_version {
            client = client.tls_version_min(match version {
                Version::Tls12 => reqwest::tls::Version::TLS_1_2,
                Version::Tls13 => reqwest::tls::Version::TLS_1_3,
            });
        }
        Ok(client.tls_danger_accept_invalid_certs(self.insecure_skip_verify))
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("tls_config: failed to read `{}`", file.display()))
}
