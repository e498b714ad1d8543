//! One HTTP call of the generator, timed and counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Client, Method, Url};
use serde_json::Value;

use super::summary::{Outcome, Summary};
use crate::cli::LoadgenArgs;

/// A little more than the services take at most: their own answer is worth more than our impatience.
const TIMEOUT: Duration = Duration::from_secs(12);

/// Which service a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    User,
    Product,
    Order,
    Analytics,
    Notification,
}

/// Where the services are.
pub struct Targets {
    client: Client,
    urls: [Url; 5],
}

/// An answer: the status, and the body where it is JSON.
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub fn text(&self, member: &str) -> Option<String> {
        self.body[member].as_str().map(str::to_owned)
    }
}

impl Targets {
    /// # Errors
    /// An address is not a URL.
    pub fn new(args: &LoadgenArgs) -> anyhow::Result<Self> {
        let url = |flag: &str, own: &Option<String>| {
            let text = own.as_ref().unwrap_or(&args.target);
            text.parse::<Url>().map_err(|error| anyhow::anyhow!("{flag} {text}: {error}; write http://host:port"))
        };
        let urls = [
            url("--user", &args.user)?,
            url("--product", &args.product)?,
            url("--order", &args.order)?,
            url("--analytics", &args.analytics)?,
            url("--notification", &args.notification)?,
        ];
        let client = Client::builder().timeout(TIMEOUT).no_proxy().user_agent("platform-loadgen/0.1").build()?;
        Ok(Targets { client, urls })
    }

    /// Sends one request; None when there was no answer.
    pub async fn call(&self, summary: &Arc<Summary>, call: Call<'_>) -> Option<Answer> {
        let base = &self.urls[call.service as usize];
        let url = format!("{}{}", base.as_str().trim_end_matches('/'), call.path);
        let mut request = self.client.request(call.method, url);
        if let Some(token) = call.token {
            request = request.bearer_auth(token);
        }
        if let Some(key) = call.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let started = Instant::now();
        let answer = async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            let body = response.bytes().await?;
            Ok::<_, reqwest::Error>(Answer { status, body: serde_json::from_slice(&body).unwrap_or_default() })
        }
        .await;
        let outcome = answer.as_ref().map_or(Outcome::NoAnswer, |answer| Outcome::Status(answer.status));
        summary.answered(outcome, started.elapsed());
        answer.ok()
    }
}

/// A request to make.
pub struct Call<'a> {
    pub service: Service,
    pub method: Method,
    pub path: String,
    pub token: Option<&'a str>,
    pub idempotency_key: Option<String>,
    pub body: Option<Value>,
}

impl<'a> Call<'a> {
    pub fn get(service: Service, path: impl Into<String>, token: &'a str) -> Self {
        let (method, path) = (Method::GET, path.into());
        Call { service, method, path, token: Some(token), idempotency_key: None, body: None }
    }

    pub fn post(service: Service, path: impl Into<String>, token: Option<&'a str>, body: Option<Value>) -> Self {
        Call { service, method: Method::POST, path: path.into(), token, idempotency_key: None, body }
    }
}
