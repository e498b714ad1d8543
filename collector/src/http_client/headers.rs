//! `http_headers`: headers of one's own on every request. Prometheus' keys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use service::config::Secret;

/// What we or the protocol set ourselves: Prometheus' own list.
const RESERVED: [&str; 18] = [
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-prometheus-scrape-timeout-seconds",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

/// Headers by name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "BTreeMap<String, Header>", into = "BTreeMap<String, Header>")]
pub struct Headers(BTreeMap<String, Header>);

/// The values of one header; each of them is sent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Header {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<Secret>,
    /// Read at every request, so that they can be rotated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<PathBuf>,
}

impl TryFrom<BTreeMap<String, Header>> for Headers {
    type Error = String;

    fn try_from(headers: BTreeMap<String, Header>) -> Result<Self, String> {
        for (name, header) in &headers {
            HeaderName::try_from(name.as_str()).map_err(|_| format!("{name:?} is no header's name"))?;
            if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(format!("the header {name:?} is not yours to set"));
            }
            let texts = header.values.iter().map(String::as_str).chain(header.secrets.iter().map(Secret::expose));
            // The value stays out of the message: it may be secret.
            texts.map(value).try_for_each(|value| value.map(drop)).map_err(|why| format!("{name}: {why}"))?;
        }
        Ok(Headers(headers))
    }
}

impl From<Headers> for BTreeMap<String, Header> {
    fn from(headers: Headers) -> Self {
        headers.0
    }
}

fn value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::try_from(text).map_err(|_| "a value holds what cannot be sent in a header".to_owned())
}

fn secret(text: &str) -> Result<HeaderValue, String> {
    let mut value = value(text)?;
    value.set_sensitive(true);
    Ok(value)
}

impl Headers {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes `files` relative to the configuration's directory.
    pub fn resolve_paths(&mut self, base: &Path) {
        self.0.values_mut().flat_map(|header| &mut header.files).for_each(|file| *file = base.join(&*file));
    }

    /// Adds them to a request's own.
    ///
    /// # Errors
    /// A file that cannot be read or holds what no header can.
    pub async fn add_to(&self, request: &mut HeaderMap) -> Result<(), String> {
        for (name, header) in &self.0 {
            let name = HeaderName::try_from(name.as_str()).map_err(|_| format!("{name:?} is no header's name"))?;
            for text in &header.values {
                request.append(&name, value(text)?);
            }
            for text in &header.secrets {
                request.append(&name, secret(text.expose())?);
            }
            for file in &header.files {
                let text = super::secret_file(file).await?;
                let value = secret(&text).map_err(|why| format!("http_headers: `{}`: {why}", file.display()))?;
                request.append(&name, value);
            }
        }
        Ok(())
    }
}
