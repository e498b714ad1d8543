//! `tls_config`: how we trust a server and show ourselves to it. Prometheus' keys.

use std::path::{Path, PathBuf};

use anyhow::Context;
use reqwest::{Certificate, ClientBuilder, Identity};
use serde::{Deserialize, Serialize};

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
    /// Any certificate is good enough. For a laboratory.
    pub insecure_skip_verify: bool,
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
        let read = |file: &Path| {
            std::fs::read(file).with_context(|| format!("tls_config: failed to read `{}`", file.display()))
        };
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
        Ok(client.tls_danger_accept_invalid_certs(self.insecure_skip_verify))
    }
}
