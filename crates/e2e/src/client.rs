//! Asking the suite over HTTP what it shows: the Prometheus API, Alertmanager's, and AWS'.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Value, json};

/// A thin client; every answer is JSON.
#[derive(Clone)]
pub struct Client(reqwest::Client);

/// The fake AWS checks no signature but reads the region from the credential's scope.
const SCOPE: &str =
    "AWS4-HMAC-SHA256 Credential=demo/20260101/us-east-1/any/aws4_request, SignedHeaders=host, Signature=0";

impl Client {
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new() -> anyhow::Result<Self> {
        Client::with_patience(Duration::from_secs(5))
    }

    /// One that waits longer, or less long, for an answer.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_patience(patience: Duration) -> anyhow::Result<Self> {
        Ok(Client(reqwest::Client::builder().timeout(patience).no_proxy().build()?))
    }

    /// # Errors
    /// No answer, a status other than 2xx, or not JSON.
    pub async fn get(&self, url: &str) -> anyhow::Result<Value> {
        let answer = self.0.get(url).send().await.with_context(|| format!("no answer from {url}"))?;
        read(url, answer).await
    }

    /// Whether `url` answers with 2xx.
    pub async fn is_ok(&self, url: &str) -> bool {
        self.0.get(url).send().await.is_ok_and(|answer| answer.status().is_success())
    }

    /// # Errors
    /// As [`Client::get`].
    pub async fn post(&self, url: &str, body: &Value) -> anyhow::Result<Value> {
        let answer = self.0.post(url).json(body).send().await.with_context(|| format!("no answer from {url}"))?;
        read(url, answer).await
    }

    /// One AWS call in the JSON protocol: `target` is `Service.Operation`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn aws(&self, endpoint: &str, target: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.0.post(endpoint).header(CONTENT_TYPE, "application/x-amz-json-1.1");
        let request = request.header("X-Amz-Target", target).header(AUTHORIZATION, SCOPE);
        let answer =
            request.body(body.to_string()).send().await.with_context(|| format!("no answer from {endpoint}"))?;
        read(target, answer).await
    }

    /// An instant query against a Prometheus API; the samples as (labels, value).
    ///
    /// # Errors
    /// As [`Client::get`], or an answer in another shape.
    pub async fn query(&self, base: &str, expr: &str) -> anyhow::Result<Vec<(Value, f64)>> {
        self.vector(base, &[("query", expr)]).await
    }

    /// The same as of `at`, in seconds since 1970.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn query_at(&self, base: &str, expr: &str, at: f64) -> anyhow::Result<Vec<(Value, f64)>> {
        self.vector(base, &[("query", expr), ("time", &at.to_string()), ("nocache", "1")]).await
    }

    /// A range query from, to, every so many seconds; how many series it answers with.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn range(&self, base: &str, expr: &str, (from, to, step): (f64, f64, u32)) -> anyhow::Result<usize> {
        let url = format!("{base}/api/v1/query_range");
        let times = [("start", from.to_string()), ("end", to.to_string()), ("step", step.to_string())];
        let request = self.0.get(&url).query(&times).query(&[("query", expr), ("nocache", "1")]);
        let answer = read(&url, request.send().await.with_context(|| format!("no answer from {url}"))?).await?;
        Ok(answer["data"]["result"].as_array().context("a range query answers with a matrix")?.len())
    }

    async fn vector(&self, base: &str, parameters: &[(&str, &str)]) -> anyhow::Result<Vec<(Value, f64)>> {
        let url = format!("{base}/api/v1/query");
        let request = self.0.get(&url).query(parameters);
        let answer = read(&url, request.send().await.with_context(|| format!("no answer from {url}"))?).await?;
        let result = answer["data"]["result"].as_array().context("an instant query answers with a vector")?;
        let samples = result.iter().map(|sample| {
            let value = sample["value"][1].as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
            (sample["metric"].clone(), value)
        });
        Ok(samples.collect())
    }

    /// The one value of an aggregation, None while there is no data.
    pub async fn number(&self, base: &str, expr: &str) -> Option<f64> {
        self.query(base, expr).await.ok()?.first().map(|(_, value)| *value)
    }

    /// `[min, max]` of a scalable target of ECS, None when it is not registered.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn scaling_bounds(&self, endpoint: &str, resource: &str) -> anyhow::Result<Option<[i64; 2]>> {
        let body = json!({"ServiceNamespace": "ecs", "ResourceIds": [resource]});
        let answer = self.aws(endpoint, "AnyScaleFrontendService.DescribeScalableTargets", &body).await?;
        let target = &answer["ScalableTargets"][0];
        Ok(target["MinCapacity"].as_i64().zip(target["MaxCapacity"].as_i64()).map(|(min, max)| [min, max]))
    }

    /// The names of the published CloudWatch dashboards.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn dashboards(&self, endpoint: &str) -> anyhow::Result<Vec<String>> {
        let answer = self.aws(endpoint, "GraniteServiceVersion20100801.ListDashboards", &json!({})).await?;
        let entries = answer["DashboardEntries"].as_array().into_iter().flatten();
        Ok(entries.filter_map(|entry| entry["DashboardName"].as_str().map(str::to_owned)).collect())
    }
}

async fn read(what: &str, answer: reqwest::Response) -> anyhow::Result<Value> {
    let status = answer.status();
    let text = answer.text().await.with_context(|| format!("the answer of {what} broke off"))?;
    if !status.is_success() {
        bail!("{what} answered {status}: {text}");
    }
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text).with_context(|| format!("{what} answered no JSON: {text}"))
}
