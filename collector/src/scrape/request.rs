//! The HTTP request of a scrape: headers, timeout, status, content type, and a body of bounded size.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, Response, StatusCode};

use super::protocol::BodyFormat;
use super::{FailureReason, ScrapeError, Settings};
use crate::discovery::Target;
use crate::tls::TlsConfig;

const TIMEOUT_HEADER: &str = "x-prometheus-scrape-timeout-seconds";
const USER_AGENT: &str = concat!("picket-collector/", env!("CARGO_PKG_VERSION"));

/// The body of a good answer and how to read it.
#[derive(Debug)]
pub(super) struct Scraped {
    pub(super) body: Vec<u8>,
    pub(super) format: BodyFormat,
}

/// Bodies' memory, used again: a fleet's bodies together would be larger than its samples.
#[derive(Clone, Default)]
pub(super) struct Bodies(Arc<Mutex<Vec<Vec<u8>>>>);

impl Bodies {
    /// As many as are read at the same time.
    const KEPT: usize = 8;
    const CAPACITY_MAX: usize = 8 << 20;

    pub(super) fn take(&self) -> Vec<u8> {
        self.0.lock().expect("no one panics holding it").pop().unwrap_or_default()
    }

    pub(super) fn put(&self, mut body: Vec<u8>) {
        body.clear();
        let mut kept = self.0.lock().expect("no one panics holding it");
        if kept.len() < Self::KEPT && body.capacity() <= Self::CAPACITY_MAX {
            kept.push(body);
        }
    }
}

/// One client per combination of what a client fixes; connections are kept per target.
#[derive(Clone)]
pub(super) struct Clients {
    plain: Pair,
    /// By `tls_config`, where it says anything.
    secured: Arc<Mutex<HashMap<TlsConfig, Secured>>>,
}

/// A client for jobs that do not follow redirects, and one for those that do.
#[derive(Clone)]
struct Pair {
    direct: Client,
    following: Client,
}

/// Clients with certificates, and when the files that those came from were written.
struct Secured {
    written: Vec<Option<SystemTime>>,
    pair: Pair,
}

impl Clients {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Clients { plain: Pair::new(&TlsConfig::default())?, secured: Arc::default() })
    }

    async fn of(&self, settings: &Settings) -> Result<Client, ScrapeError> {
        let pair = if settings.tls.is_default() {
            self.plain.clone()
        } else {
            let pair = self.secured(&settings.tls).await;
            pair.map_err(|error| ScrapeError::new(FailureReason::Credentials, format!("{error:#}")))?
        };
        Ok(if settings.follow_redirects { pair.following } else { pair.direct })
    }

    /// Certificates that were replaced are read anew, as in Prometheus.
    async fn secured(&self, tls: &TlsConfig) -> anyhow::Result<Pair> {
        let mut written = Vec::new();
        for file in tls.files() {
            written.push(tokio::fs::metadata(file).await.and_then(|metadata| metadata.modified()).ok());
        }
        let mut secured = self.secured.lock().expect("no one panics holding it");
        if let Some(known) = secured.get(tls).filter(|known| known.written == written) {
            return Ok(known.pair.clone());
        }
        let pair = Pair::new(tls)?;
        secured.insert(tls.clone(), Secured { written, pair: pair.clone() });
        Ok(pair)
    }
}

impl Pair {
    fn new(tls: &TlsConfig) -> anyhow::Result<Self> {
        let client = |redirects| {
            let client = Client::builder()
                .user_agent(USER_AGENT)
                .redirect(redirects)
                // Targets are reached directly whatever the environment says, as in Prometheus.
                .no_proxy()
                .pool_max_idle_per_host(1);
            anyhow::Ok(tls.apply(client)?.build()?)
        };
        Ok(Pair {
            direct: client(reqwest::redirect::Policy::none())?,
            following: client(reqwest::redirect::Policy::limited(10))?,
        })
    }
}

/// Fetches the target's metrics within its timeout, into an empty buffer.
pub(super) async fn fetch(clients: &Clients, target: &Target, buffer: Vec<u8>) -> Result<Scraped, ScrapeError> {
    let timeout = target.scrape_timeout;
    tokio::time::timeout(timeout, exchange(clients, target, buffer)).await.unwrap_or_else(|_| {
        let timeout = telemetry::duration::format(timeout);
        Err(ScrapeError::new(FailureReason::Timeout, format!("no answer within the scrape timeout of {timeout}")))
    })
}

async fn exchange(clients: &Clients, target: &Target, buffer: Vec<u8>) -> Result<Scraped, ScrapeError> {
    let settings = &target.settings;
    if let Some(why) = &target.refused {
        return Err(ScrapeError::new(FailureReason::TargetLimit, &**why));
    }
    let client = clients.of(settings).await?;
    let mut request = client
        .get(target.scrape_url.clone())
        .header(ACCEPT, &settings.accept)
        .header(TIMEOUT_HEADER, target.scrape_timeout.as_secs_f64().to_string());
    if !settings.enable_compression {
        request = request.header(ACCEPT_ENCODING, "identity");
    }
    if let Some(auth) = &settings.auth {
        let header = auth.header().await.map_err(|e| ScrapeError::new(FailureReason::Credentials, e))?;
        request = request.header(AUTHORIZATION, header);
    }
    let response = request.send().await.map_err(|e| ScrapeError::new(connect_or_body(&e), chain(&e)))?;
    if response.status() != StatusCode::OK {
        let message = format!("server returned HTTP status {}", response.status());
        return Err(ScrapeError::new(FailureReason::HttpStatus, message));
    }
    let format = format(&response, settings.fallback_format)?;
    let body = read(response, settings.limits.body_bytes_max, buffer).await?;
    Ok(Scraped { body, format })
}

fn format(response: &Response, fallback: Option<BodyFormat>) -> Result<BodyFormat, ScrapeError> {
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    BodyFormat::from_content_type(content_type).or(fallback).ok_or_else(|| {
        let message = format!(
            "received unsupported Content-Type {content_type:?}; set fallback_scrape_protocol if the body is readable"
        );
        ScrapeError::new(FailureReason::ContentType, message)
    })
}

async fn read(mut response: Response, bytes_max: u64, mut body: Vec<u8>) -> Result<Vec<u8>, ScrapeError> {
    while let Some(chunk) = response.chunk().await.map_err(|e| ScrapeError::new(FailureReason::Body, chain(&e)))? {
        if (body.len() + chunk.len()) as u64 > bytes_max {
            return Err(ScrapeError::new(FailureReason::BodySizeLimit, "body size limit exceeded"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn connect_or_body(error: &reqwest::Error) -> FailureReason {
    if error.is_connect() { FailureReason::Connect } else { FailureReason::Body }
}

/// reqwest's own text says only that the request failed; the cause says why.
fn chain(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    match error.url() {
        Some(url) => format!("GET {url}: {cause}"),
        None => cause.to_string(),
    }
}
