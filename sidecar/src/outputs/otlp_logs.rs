//! Log records on by OTLP/HTTP in protobuf and gzip, to a collector or to CloudWatch's endpoint.
//!
//! `https://logs.<region>.amazonaws.com/v1/logs` is signed with SigV4 and told its group and stream by headers, as the
//! user guide of CloudWatch's OTLP endpoints says; any other address gets the headers that are configured.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use service::config::Secret;
use service::sigv4::Signer;

use super::cloudwatch_logs::Aws;
use super::retry::Attempt;
use super::sink::{Answer, Send};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
const PROTOBUF: &str = "application/x-protobuf";

pub struct OtlpLogs {
    url: String,
    headers: HeaderMap,
    http: reqwest::Client,
    /// Where the address is CloudWatch's.
    signer: Option<Signer>,
}

impl OtlpLogs {
    pub fn new(url: String, headers: &[(String, Secret)], http: reqwest::Client, aws: Option<&Aws>) -> Self {
        // The configuration has checked names and values.
        let headers = headers.iter().filter_map(|(name, value)| {
            let mut value = HeaderValue::from_str(value.expose()).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::try_from(name).ok()?, value))
        });
        let signer = aws.and_then(|aws| aws.signer(region_of(&url)));
        OtlpLogs { headers: headers.collect(), url, http, signer }
    }
}

/// Whether the address is CloudWatch's own, which wants signed requests.
pub fn is_cloudwatch(url: &str) -> bool {
    region_of(url).is_some()
}

/// `eu-west-1` of `https://logs.eu-west-1.amazonaws.com/v1/logs`.
fn region_of(url: &str) -> Option<&str> {
    let host = url.strip_prefix("https://logs.")?.split('/').next()?;
    host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))
}

impl Send for OtlpLogs {
    async fn attempt(&self, body: &Bytes) -> Attempt<Answer> {
        let later = |why: String| Attempt::Later { after: None, why };
        // Everything is signed that is sent: the group's and the stream's names too.
        let mut headers = self.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        if let Some(signer) = &self.signer
            && let Err(error) = signer.sign(&Method::POST, &self.url, &mut headers, body, SystemTime::now()).await
        {
            return later(error.to_string());
        }
        let request = self.http.post(&self.url).timeout(REQUEST_TIMEOUT).headers(headers);
        let answer = match request.body(body.clone()).send().await {
            Ok(answer) => answer,
            Err(error) => return later(error.without_url().to_string()),
        };
        let after = answer.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
        let status = answer.status();
        match status {
            status if status.is_success() => Attempt::Done(Answer::Stored),
            // As the OTLP specification has it: these may pass, every other refusal is for good.
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
            | StatusCode::FORBIDDEN
            | StatusCode::UNAUTHORIZED => {
                Attempt::Later { after: after.map(Duration::from_secs), why: status.to_string() }
            }
            status => Attempt::Never { why: status.to_string() },
        }
    }
}
