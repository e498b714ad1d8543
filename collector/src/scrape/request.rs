//! The HTTP request of a scrape: headers, timeout, status, content type, and a body of bounded size.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, Response, StatusCode, redirect};
use service::config::ProcessEnv;

use super::protocol::BodyFormat;
use super::settings::{ClientSettings, Redirects};
use super::{FailureReason, ScrapeError};
use crate::discovery::Target;
use crate::http_client::{self, BodyError, USER_AGENT};

const TIMEOUT_HEADER: &str = "x-prometheus-scrape-timeout-seconds";
const REDIRECTS_MAX: usize = 10;

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
    direct: Client,
    following: Client,
    /// Where a job says anything else.
    others: Arc<Mutex<HashMap<ClientSettings, Other>>>,
}

/// A client, and when the files that its certificates came from were written.
struct Other {
    written: Vec<Option<SystemTime>>,
    client: Client,
}

impl Clients {
    pub(super) fn new() -> anyhow::Result<Self> {
        let plain = |redirects| build(&ClientSettings::plain(redirects));
        let (direct, following) = (plain(Redirects::None)?, plain(Redirects::Followed)?);
        Ok(Clients { direct, following, others: Arc::default() })
    }

    async fn of(&self, settings: &ClientSettings) -> Result<Client, ScrapeError> {
        let plain = settings.tls.is_default() && settings.http2 && settings.proxies.is_default();
        match settings.redirects {
            Redirects::None if plain => Ok(self.direct.clone()),
            Redirects::Followed if plain => Ok(self.following.clone()),
            _ => {
                let client = self.other(settings).await;
                client.map_err(|error| ScrapeError::new(FailureReason::Credentials, format!("{error:#}")))
            }
        }
    }

    /// Certificates that were replaced are read anew, as in Prometheus.
    async fn other(&self, settings: &ClientSettings) -> anyhow::Result<Client> {
        let mut written = Vec::new();
        for file in settings.tls.files() {
            written.push(tokio::fs::metadata(file).await.and_then(|metadata| metadata.modified()).ok());
        }
        let mut others = self.others.lock().expect("no one panics holding it");
        if let Some(known) = others.get(settings).filter(|known| known.written == written) {
            return Ok(known.client.clone());
        }
        let client = build(settings)?;
        others.insert(settings.clone(), Other { written, client: client.clone() });
        Ok(client)
    }
}

fn build(settings: &ClientSettings) -> anyhow::Result<Client> {
    let redirects = match settings.redirects {
        Redirects::None => redirect::Policy::none(),
        Redirects::Followed => redirect::Policy::limited(REDIRECTS_MAX),
        Redirects::WithinHost => redirect::Policy::custom(within_host),
    };
    let client = Client::builder().user_agent(USER_AGENT).redirect(redirects).pool_max_idle_per_host(1);
    let client = if settings.http2 { client } else { client.http1_only() };
    let client = settings.proxies.apply(client, &ProcessEnv)?;
    Ok(settings.tls.apply(client)?.build()?)
}

fn within_host(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let place =
        |url: &url::Url| (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default());
    let first = attempt.previous().first().map(place);
    if attempt.previous().len() > REDIRECTS_MAX {
        return attempt.error("too many redirects");
    }
    if first.is_some_and(|first| first != place(attempt.url())) {
        return attempt.error("a redirect to another host, which the job's http_headers are not for");
    }
    attempt.follow()
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
    let client = clients.of(&settings.client).await?;
    let mut request = client
        .get(target.scrape_url.clone())
        .header(ACCEPT, &settings.accept)
        .header(TIMEOUT_HEADER, target.scrape_timeout.as_secs_f64().to_string());
    if !settings.enable_compression {
        request = request.header(ACCEPT_ENCODING, "identity");
    }
    let refused = |why| ScrapeError::new(FailureReason::Credentials, why);
    if let Some(auth) = &settings.auth {
        let header = auth.header().await.and_then(http_client::sensitive).map_err(refused)?;
        request = request.header(AUTHORIZATION, header);
    }
    let mut request = request.build().map_err(|e| ScrapeError::new(FailureReason::Connect, chain(&e)))?;
    settings.headers.add_to(request.headers_mut()).await.map_err(refused)?;
    let response = client.execute(request).await.map_err(|e| ScrapeError::new(connect_or_body(&e), chain(&e)))?;
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

async fn read(response: Response, bytes_max: u64, body: Vec<u8>) -> Result<Vec<u8>, ScrapeError> {
    http_client::read_body(response, bytes_max, body).await.map_err(|error| match error {
        BodyError::Http(error) => ScrapeError::new(FailureReason::Body, chain(&error)),
        BodyError::TooLong => ScrapeError::new(FailureReason::BodySizeLimit, "body size limit exceeded"),
    })
}

fn connect_or_body(error: &reqwest::Error) -> FailureReason {
    if error.is_connect() { FailureReason::Connect } else { FailureReason::Body }
}

/// The cause, and what was asked for.
fn chain(error: &reqwest::Error) -> String {
    let cause = http_client::root_cause(error);
    match error.url() {
        Some(url) => format!("GET {url}: {cause}"),
        None => cause,
    }
}
