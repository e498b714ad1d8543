//! Questions to an engine elsewhere that speaks Prometheus' HTTP API: Prometheus, Amazon Managed Prometheus, Mimir,
//! Thanos, VictoriaMetrics. Rules, API and UI work over it as over our own.
//!
//! Its errors keep their kind; one that does not answer is the source's fault, never the asker's. Native histograms
//! come back from their buckets: with their schema where the bounds follow one, else with the bounds themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use promql::{Answer, Histogram, MatrixSeries, Stats, Timings, Value, VectorSample};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use storage::Exemplar;
use telemetry::histogram::{CUSTOM_BUCKETS_SCHEMA, IndexedCount};
use telemetry::{Labels, Matcher, Timestamp};
use url::Url;
use url::form_urlencoded::Serializer;

use super::{Config, Latest, QueryError, QueryOptions, RemoteKind, Window};
use crate::http_client::{self, BodyError, HttpClient};

/// Of an answer; 50 million samples in JSON would be more, and more than this process wants to hold.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// A little longer than what the engine is told, so that its own timeout comes first.
const PATIENCE: Duration = Duration::from_secs(5);
/// As far back as an instant selector looks.
const LOOKBACK: Duration = Duration::from_secs(300);
/// The service that Amazon Managed Prometheus is signed for.
const SIGNED_SERVICE: &str = "aps";

pub struct Remote {
    client: HttpClient,
    base: Url,
    timeout: Duration,
}

/// `{"status":"success","data":…}`
#[derive(Deserialize)]
struct Envelope<T> {
    status: String,
    data: Option<T>,
    #[serde(default, rename = "errorType")]
    error_type: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default)]
    infos: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfSeries {
    series_labels: Labels,
    exemplars: Vec<TheirExemplar>,
}

#[derive(Deserialize)]
struct TheirExemplar {
    labels: Labels,
    value: String,
    timestamp: f64,
}

impl TheirExemplar {
    fn read(self) -> Result<Exemplar, QueryError> {
        let TheirExemplar { labels, value, timestamp } = self;
        Ok(Exemplar { labels, value: number(&value)?, timestamp: Timestamp::from_secs_f64(timestamp) })
    }
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<WireSample>),
    Matrix(Vec<WireSeries>),
    Scalar((f64, String)),
    String((f64, String)),
}

#[derive(Deserialize)]
struct WireSample {
    metric: Labels,
    value: Option<(f64, String)>,
    histogram: Option<(f64, WireHistogram)>,
}

#[derive(Deserialize)]
struct WireSeries {
    metric: Labels,
    #[serde(default)]
    values: Vec<(f64, String)>,
    #[serde(default)]
    histograms: Vec<(f64, WireHistogram)>,
}

#[derive(Deserialize)]
struct WireHistogram {
    count: String,
    sum: String,
    /// How the bounds belong, lower, upper, count.
    #[serde(default)]
    buckets: Vec<(u8, String, String, String)>,
}

impl Remote {
    /// # Errors
    /// Without a URL, or with certificates or headers that cannot be used.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let url = config.url.as_deref().unwrap_or_default();
        let mut base = http_client::parse_url(url).map_err(anyhow::Error::msg)?;
        // `join` replaces what stands behind the last slash.
        if !base.path().ends_with('/') {
            let path = format!("{}/", base.path());
            base.set_path(&path);
        }
        let client = HttpClient::new(&http_client::Settings {
            basic_auth: config.basic_auth.as_ref(),
            authorization: config.authorization.as_ref(),
            sigv4: config.sigv4.as_ref().map(|sigv4| (SIGNED_SERVICE, sigv4)),
            tls: config.tls_config.as_ref(),
            headers: Some(&config.headers),
            timeout: config.timeout + PATIENCE,
            ..http_client::Settings::default()
        })?;
        Ok(Remote { client, base, timeout: config.timeout })
    }

    pub(super) async fn instant(&self, expr: &str, at: Timestamp, options: QueryOptions) -> Result<Answer, QueryError> {
        let form = vec![("query", expr.to_owned()), ("time", seconds(at))];
        self.evaluate("api/v1/query", form, options).await
    }

    pub(super) async fn range(
        &self,
        expr: &str,
        (start, end): (Timestamp, Timestamp),
        step: Duration,
        options: QueryOptions,
    ) -> Result<Answer, QueryError> {
        let form = vec![
            ("query", expr.to_owned()),
            ("start", seconds(start)),
            ("end", seconds(end)),
            ("step", step.as_secs_f64().to_string()),
        ];
        self.evaluate("api/v1/query_range", form, options).await
    }

    async fn evaluate(
        &self,
        path: &str,
        mut form: Vec<(&str, String)>,
        options: QueryOptions,
    ) -> Result<Answer, QueryError> {
        let timeout = options.timeout.map_or(self.timeout, |wanted| wanted.min(self.timeout));
        form.push(("timeout", telemetry::duration::format(timeout)));
        form.extend(options.lookback.map(|lookback| ("lookback_delta", telemetry::duration::format(lookback))));
        let form = Serializer::new(String::new()).extend_pairs(form).finish();
        let begun = Instant::now();
        let asked = tokio::time::timeout(timeout + PATIENCE, self.ask::<Data>(path, form));
        let envelope = asked.await.map_err(|_| QueryError::Timeout(timeout))??;
        let (warnings, infos) = (envelope.warnings, envelope.infos);
        let data = envelope.data.ok_or_else(|| unreadable("an answer without data"))?;
        let total = begun.elapsed();
        let timings = Timings { eval_total: total, inner_eval: total, exec_total: total, ..Timings::default() };
        Ok(Answer { value: value(data)?, warnings, infos, stats: Stats { timings, ..Stats::default() } })
    }

    /// The last of each series' samples within the lookback.
    pub(super) async fn latest(&self, selectors: Vec<Vec<Matcher>>, at: Timestamp) -> Result<Vec<Latest>, QueryError> {
        let mut found: BTreeMap<Labels, (Timestamp, f64)> = BTreeMap::new();
        for matchers in selectors {
            let expr = format!("{}[{}]", selector(&matchers), telemetry::duration::format(LOOKBACK));
            let Value::Matrix(all) = self.instant(&expr, at, QueryOptions::default()).await?.value else {
                return Err(unreadable("a range of samples was asked for, something else came"));
            };
            let last = all.into_iter().filter_map(|series| Some((series.labels, *series.samples.last()?)));
            found.extend(last);
        }
        Ok(found.into_iter().map(|(labels, (timestamp, value))| Latest { labels, timestamp, value }).collect())
    }

    /// One question for each selector; what several find is told once.
    pub(super) async fn exemplars(
        &self,
        selectors: Vec<Vec<Matcher>>,
        window: Window,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, QueryError> {
        let mut found = BTreeMap::new();
        for matchers in &selectors {
            let mut form = selection(&[], window);
            form.push_str(if form.is_empty() { "query=" } else { "&query=" });
            form.extend(url::form_urlencoded::byte_serialize(selector(matchers).as_bytes()));
            let answer = self.ask::<Vec<OfSeries>>("api/v1/query_exemplars", form).await?;
            for OfSeries { series_labels, exemplars } in answer.data.unwrap_or_default() {
                let exemplars: Result<Vec<Exemplar>, QueryError> =
                    exemplars.into_iter().map(TheirExemplar::read).collect();
                found.insert(series_labels, exemplars?);
            }
        }
        Ok(found.into_iter().collect())
    }

    pub(super) async fn series(&self, selectors: Vec<Vec<Matcher>>, window: Window) -> Result<Vec<Labels>, QueryError> {
        let found: Vec<Labels> = self.list("api/v1/series", &selectors, window).await?;
        Ok(found.into_iter().collect::<BTreeSet<_>>().into_iter().collect())
    }

    pub(super) async fn label_names(
        &self,
        selectors: Vec<Vec<Matcher>>,
        window: Window,
    ) -> Result<Vec<String>, QueryError> {
        self.list("api/v1/labels", &selectors, window).await
    }

    /// Asked by GET: this is the one endpoint that Prometheus has no POST for.
    pub(super) async fn label_values(
        &self,
        name: &str,
        selectors: Vec<Vec<Matcher>>,
        window: Window,
    ) -> Result<Vec<String>, QueryError> {
        let mut url = self.url("api/v1/label/");
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push(&escaped_label(name)).push("values");
        }
        url.set_query(Some(&selection(&selectors, window)));
        let envelope = self.exchange::<Vec<String>>(Method::GET, &url, String::new()).await?;
        Ok(envelope.data.unwrap_or_default())
    }

    async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        selectors: &[Vec<Matcher>],
        window: Window,
    ) -> Result<Vec<T>, QueryError> {
        let envelope = self.ask::<Vec<T>>(path, selection(selectors, window)).await?;
        Ok(envelope.data.unwrap_or_default())
    }

    async fn ask<T: DeserializeOwned>(&self, path: &str, form: String) -> Result<Envelope<T>, QueryError> {
        self.exchange(Method::POST, &self.url(path), form).await
    }

    fn url(&self, path: &str) -> Url {
        self.base.join(path).unwrap_or_else(|_| self.base.clone())
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        url: &Url,
        form: String,
    ) -> Result<Envelope<T>, QueryError> {
        let headers = [(CONTENT_TYPE, "application/x-www-form-urlencoded")];
        let headers = if method == Method::POST { &headers[..] } else { &[] };
        let sent = self.client.send(method, url, headers, form.into()).await;
        let response = sent.map_err(|error| match error.is_timeout() {
            true => QueryError::Timeout(self.timeout),
            false => unreadable(error.to_string()),
        })?;
        let status = response.status();
        let body =
            http_client::read_body(response, ANSWER_BYTES_MAX, Vec::new()).await.map_err(|error| match error {
                BodyError::Http(error) => unreadable(error.to_string()),
                BodyError::TooLong => unreadable(format!("the answer is larger than {ANSWER_BYTES_MAX} bytes")),
            })?;
        let envelope: Envelope<T> = serde_json::from_slice(&body).map_err(|error| match status.is_success() {
            true => unreadable(format!("no Prometheus answer: {error}")),
            false => unreadable(format!("HTTP status {status}")),
        })?;
        match envelope.status.as_str() {
            "success" => Ok(envelope),
            _ => Err(refused(&envelope.error_type, envelope.error)),
        }
    }
}

fn unreadable(message: impl Into<String>) -> QueryError {
    QueryError::Remote { kind: RemoteKind::Unavailable, message: format!("remote engine: {}", message.into()) }
}

fn refused(kind: &str, message: String) -> QueryError {
    let kind = match kind {
        "bad_data" => RemoteKind::BadData,
        "execution" => RemoteKind::Execution,
        "timeout" => RemoteKind::Timeout,
        "canceled" => return QueryError::Cancelled,
        // VictoriaMetrics numbers its kinds by status.
        "422" => RemoteKind::Execution,
        "400" => RemoteKind::BadData,
        _ => RemoteKind::Unavailable,
    };
    QueryError::Remote { kind, message }
}

fn selector(matchers: &[Matcher]) -> String {
    let matchers: Vec<String> = matchers.iter().map(ToString::to_string).collect();
    format!("{{{}}}", matchers.join(","))
}

fn selection(selectors: &[Vec<Matcher>], window: Window) -> String {
    let mut form = Serializer::new(String::new());
    for matchers in selectors {
        form.append_pair("match[]", &selector(matchers));
    }
    // The ends of time are no numbers that the other side would parse.
    if window.start > Timestamp::MIN {
        form.append_pair("start", &seconds(window.start));
    }
    if window.end < Timestamp::MAX {
        form.append_pair("end", &seconds(window.end));
    }
    form.finish()
}

/// Names that are no plain labels are escaped in paths (prometheus model, `ValueEncodingEscaping`).
fn escaped_label(name: &str) -> String {
    let plain = |i: usize, c: char| c.is_ascii_alphabetic() || c == '_' || (i > 0 && c.is_ascii_digit());
    if name.chars().enumerate().all(|(i, c)| plain(i, c)) {
        return name.to_owned();
    }
    let escape = |(i, c): (usize, char)| match c {
        '_' => "__".to_owned(),
        c if plain(i, c) => c.to_string(),
        c => format!("_{:x}_", u32::from(c)),
    };
    format!("U__{}", name.chars().enumerate().map(escape).collect::<String>())
}

fn seconds(at: Timestamp) -> String {
    let millis = at.as_millis();
    let sign = if millis < 0 { "-" } else { "" };
    format!("{sign}{}.{:03}", millis.unsigned_abs() / 1000, millis.unsigned_abs() % 1000)
}

fn value(data: Data) -> Result<Value, QueryError> {
    Ok(match data {
        Data::Scalar((at, text)) => Value::Scalar { timestamp: Timestamp::from_secs_f64(at), value: number(&text)? },
        Data::String((at, value)) => Value::String { timestamp: Timestamp::from_secs_f64(at), value },
        Data::Vector(samples) => Value::Vector(samples.into_iter().map(sample).collect::<Result<_, _>>()?),
        Data::Matrix(all) => Value::Matrix(all.into_iter().map(series).collect::<Result<_, _>>()?),
    })
}

fn sample(wire: WireSample) -> Result<VectorSample, QueryError> {
    let labels = wire.metric;
    match (wire.value, wire.histogram) {
        (Some((at, text)), _) => {
            let timestamp = Timestamp::from_secs_f64(at);
            Ok(VectorSample { labels, timestamp, value: number(&text)?, histogram: None })
        }
        (None, Some((at, wire))) => {
            let histogram = Some(histogram(&wire)?.into());
            Ok(VectorSample { labels, timestamp: Timestamp::from_secs_f64(at), value: 0.0, histogram })
        }
        (None, None) => Err(unreadable("a sample without a value")),
    }
}

fn series(wire: WireSeries) -> Result<MatrixSeries, QueryError> {
    let float = |(at, text): (f64, String)| Ok((Timestamp::from_secs_f64(at), number(&text)?));
    let native = |(at, wire): (f64, WireHistogram)| Ok((Timestamp::from_secs_f64(at), histogram(&wire)?.into()));
    Ok(MatrixSeries {
        labels: wire.metric,
        samples: wire.values.into_iter().map(float).collect::<Result<_, QueryError>>()?,
        histograms: wire.histograms.into_iter().map(native).collect::<Result<_, QueryError>>()?,
    })
}

fn number(text: &str) -> Result<f64, QueryError> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        "NaN" => Ok(f64::NAN),
        text => text.parse().map_err(|_| unreadable(format!("{text:?} is no number"))),
    }
}

struct Bucket {
    lower: f64,
    upper: f64,
    count: f64,
}

/// Buckets with bounds back to indexes.
fn histogram(wire: &WireHistogram) -> Result<Histogram, QueryError> {
    let mut histogram = Histogram { count: number(&wire.count)?, sum: number(&wire.sum)?, ..Histogram::default() };
    let mut regular = Vec::new();
    for (_, lower, upper, count) in &wire.buckets {
        let bucket = Bucket { lower: number(lower)?, upper: number(upper)?, count: number(count)? };
        // Only the zero bucket reaches to both sides of zero by as much.
        if bucket.lower <= 0.0 && bucket.upper >= 0.0 && bucket.lower == -bucket.upper {
            histogram.zero_threshold = bucket.upper;
            histogram.zero_count = bucket.count;
        } else {
            regular.push(bucket);
        }
    }
    match regular.iter().find_map(schema_of) {
        Some(schema) if regular.iter().all(|bucket| index_of(bucket, schema).is_some()) => {
            histogram.schema = schema;
            for bucket in &regular {
                let index = index_of(bucket, schema).unwrap_or_default();
                let side = if bucket.upper > 0.0 { &mut histogram.positive } else { &mut histogram.negative };
                side.push((index, bucket.count));
            }
            histogram.negative.reverse();
            Ok(histogram)
        }
        None if regular.is_empty() => Ok(histogram),
        _ => Ok(custom(histogram, &regular)),
    }
}

/// The schema whose buckets are as wide as this one. One that is cut off by the zero bucket has none.
fn schema_of(bucket: &Bucket) -> Option<i32> {
    let (near, far) = magnitudes(bucket);
    let octaves = far.log2() - near.log2();
    (-4..=8).find(|schema| (octaves - (-f64::from(*schema)).exp2()).abs() < 1e-9)
}

/// The bucket of the schema that ends here.
fn index_of(bucket: &Bucket, schema: i32) -> Option<i32> {
    let exact = magnitudes(bucket).1.log2() * f64::from(schema).exp2();
    let rounded = exact.round();
    ((exact - rounded).abs() < 1e-6 * exact.abs().max(1.0) && rounded.abs() < 1e6).then_some(rounded as i32)
}

fn magnitudes(bucket: &Bucket) -> (f64, f64) {
    let (a, b) = (bucket.lower.abs(), bucket.upper.abs());
    (a.min(b), a.max(b))
}

fn custom(mut histogram: Histogram, regular: &[Bucket]) -> Histogram {
    let mut bounds: Vec<f64> =
        regular.iter().flat_map(|bucket| [bucket.lower, bucket.upper]).filter(|bound| bound.is_finite()).collect();
    bounds.sort_by(f64::total_cmp);
    bounds.dedup();
    let place = |bucket: &Bucket| -> IndexedCount {
        let index = bounds.partition_point(|bound| *bound < bucket.upper);
        (i32::try_from(index).unwrap_or(i32::MAX), bucket.count)
    };
    histogram.positive = regular.iter().map(place).collect();
    histogram.positive.sort_by_key(|(index, _)| *index);
    histogram.schema = CUSTOM_BUCKETS_SCHEMA;
    histogram.custom_values = bounds;
    histogram
}

#[cfg(test)]
mod tests;
