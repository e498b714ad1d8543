//! Requests to other people's HTTP APIs: credentials, TLS and signatures in Prometheus' vocabulary, the same for
//! remote write, remote queries, discovery and scrapes.
//!
//! Files with secrets are read at every request, so that they can be rotated; certificates when the client is made.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Request, Response, Url};
use service::config::{ProcessEnv, Secret};
use service::sigv4::{self, SignError, Signer};

use crate::scrape::{Authorization, BasicAuth};
use crate::tls::TlsConfig;

pub mod headers;
pub mod oauth2;
pub mod proxy;

use oauth2::OAuth2;

pub(crate) const USER_AGENT: &str = concat!("picket-collector/", env!("CARGO_PKG_VERSION"));

/// What proves who asks; at most one of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Auth {
    Basic(BasicAuth),
    Header(Authorization),
    OAuth2(Arc<oauth2::Tokens>),
}

impl Auth {
    pub fn of(basic: Option<&BasicAuth>, header: Option<&Authorization>) -> Option<Auth> {
        basic.cloned().map(Auth::Basic).or_else(|| header.cloned().map(Auth::Header))
    }

    /// The `Authorization` header.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub async fn header(&self) -> Result<String, String> {
        match self {
            Auth::Basic(basic) => {
                let password = secret(basic.password.as_ref(), basic.password_file.as_deref()).await?;
                let pair = format!("{}:{password}", basic.username);
                Ok(format!("Basic {}", BASE64_STANDARD.encode(pair)))
            }
            Auth::Header(header) => {
                let credentials = secret(header.credentials.as_ref(), header.credentials_file.as_deref()).await?;
                Ok(format!("{} {credentials}", header.kind))
            }
            Auth::OAuth2(tokens) => tokens.header().await,
        }
    }
}

async fn secret(value: Option<&Secret>, file: Option<&Path>) -> Result<String, String> {
    match file {
        Some(file) => secret_file(file).await,
        None => Ok(value.map(Secret::expose).unwrap_or_default().to_owned()),
    }
}

async fn secret_file(file: &Path) -> Result<String, String> {
    match tokio::fs::read_to_string(file).await {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) => Err(format!("failed to read credentials file `{}`: {error}", file.display())),
    }
}

/// A header's value that is printed nowhere.
pub fn sensitive(text: String) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::try_from(text).map_err(|_| "the credentials cannot be sent in a header".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Makes `password_file` and `credentials_file` relative to the configuration's directory.
pub fn resolve_secrets(basic: Option<&mut BasicAuth>, header: Option<&mut Authorization>, base: &Path) {
    let files = [basic.and_then(|a| a.password_file.as_mut()), header.and_then(|a| a.credentials_file.as_mut())];
    files.into_iter().flatten().for_each(|file| *file = base.join(&*file));
}

/// # Errors
/// More than one way to say who asks.
pub fn check_one_auth(
    basic: Option<&BasicAuth>,
    header: Option<&Authorization>,
    sigv4: Option<&sigv4::Config>,
    oauth2: Option<&OAuth2>,
) -> Result<(), String> {
    let given = [basic.is_some(), header.is_some(), sigv4.is_some(), oauth2.is_some()];
    if given.into_iter().filter(|given| *given).count() > 1 {
        return Err("at most one of basic_auth, authorization, oauth2 and sigv4 must be configured".to_owned());
    }
    oauth2.map_or(Ok(()), OAuth2::check)?;
    sigv4.map_or(Ok(()), sigv4::Config::check)
}

/// # Errors
/// Text that is no http or https URL.
pub fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("url {text:?}: {error}"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err(format!("url {text:?} is not http or https")),
    }
}

/// For metrics and logs.
pub fn without_credentials(url: &Url) -> String {
    let mut url = url.clone();
    // Refused only for URLs without a host, which are none of ours.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("{0}")]
    Credentials(String),
    #[error("the request could not be signed: {}", crate::aws::explain(.0))]
    Sign(#[from] SignError),
    #[error("{}", root_cause(.0))]
    Http(#[from] reqwest::Error),
}

impl RequestError {
    pub fn is_timeout(&self) -> bool {
        matches!(self, RequestError::Http(error) if error.is_timeout())
    }
}

/// reqwest's own text says only that the request failed; the cause says why.
pub(crate) fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Why a body is not whole.
#[derive(Debug)]
pub(crate) enum BodyError {
    Http(reqwest::Error),
    TooLong,
}

/// Reads a body behind what `body` has, which may have come with memory to use again; together no more than `bytes_max`.
pub(crate) async fn read_body(mut response: Response, bytes_max: u64, mut body: Vec<u8>) -> Result<Vec<u8>, BodyError> {
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Http)? {
        if (body.len() + chunk.len()) as u64 > bytes_max {
            return Err(BodyError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// How to reach one server.
#[derive(Default)]
pub struct Settings<'a> {
    pub basic_auth: Option<&'a BasicAuth>,
    pub authorization: Option<&'a Authorization>,
    /// With the name of the service that is signed for.
    pub sigv4: Option<(&'static str, &'a sigv4::Config)>,
    pub tls: Option<&'a TlsConfig>,
    /// In the place of `basic_auth` and `authorization`.
    pub oauth2: Option<Arc<oauth2::Tokens>>,
    /// Without any the server is reached directly, whatever the environment says.
    pub proxies: proxy::Proxies,
    /// Sent with every request; values are secret.
    pub headers: Option<&'a std::collections::BTreeMap<String, Secret>>,
    pub http_headers: Option<&'a headers::Headers>,
    pub timeout: Duration,
}

/// A client for one server, with its credentials.
pub struct HttpClient {
    client: Client,
    headers: HeaderMap,
    http_headers: headers::Headers,
    auth: Option<Auth>,
    signer: Option<Signer>,
}

impl HttpClient {
    /// # Errors
    /// Certificates that cannot be read, or headers that are none.
    pub fn new(settings: &Settings<'_>) -> anyhow::Result<Self> {
        let builder = Client::builder()
            .user_agent(USER_AGENT)
            .timeout(settings.timeout)
            // A redirect would carry the body, and its signature, to somebody else.
            .redirect(reqwest::redirect::Policy::none());
        let builder = settings.proxies.apply(builder, &ProcessEnv)?;
        let builder = match settings.tls {
            Some(tls) => tls.apply(builder)?,
            None => builder,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in settings.headers.into_iter().flatten() {
            let header = HeaderName::try_from(name.as_str()).with_context(|| format!("{name:?} is no header name"))?;
            let mut value = HeaderValue::try_from(value.expose())
                .with_context(|| format!("the value of header {name:?} cannot be sent"))?;
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        Ok(HttpClient {
            client: builder.build().context("failed to build an HTTP client")?,
            headers,
            http_headers: settings.http_headers.cloned().unwrap_or_default(),
            auth: match &settings.oauth2 {
                Some(tokens) => Some(Auth::OAuth2(tokens.clone())),
                None => Auth::of(settings.basic_auth, settings.authorization),
            },
            signer: settings.sigv4.map(|(service, config)| Signer::new(service, config.clone())),
        })
    }

    /// Sends a request with the server's headers and credentials; `headers` are the request's own.
    ///
    /// # Errors
    /// When there is no answer; a status is an answer.
    pub async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: &[(HeaderName, &str)],
        body: bytes::Bytes,
    ) -> Result<Response, RequestError> {
        let mut request = Request::new(method, url.clone());
        let sent = request.headers_mut();
        sent.extend(self.headers.clone());
        self.http_headers.add_to(sent).await.map_err(RequestError::Credentials)?;
        for (name, value) in headers {
            let value = HeaderValue::try_from(*value)
                .map_err(|_| RequestError::Credentials(format!("the value of header {name} cannot be sent")))?;
            sent.insert(name.clone(), value);
        }
        if let Some(auth) = &self.auth {
            let text = auth.header().await.map_err(RequestError::Credentials)?;
            sent.insert(AUTHORIZATION, sensitive(text).map_err(RequestError::Credentials)?);
        }
        if let Some(signer) = &self.signer {
            let (method, url) = (request.method().clone(), request.url().to_string());
            signer.sign(&method, &url, request.headers_mut(), &body, SystemTime::now()).await?;
        }
        *request.body_mut() = Some(body.into());
        Ok(self.client.execute(request).await?)
    }
}
