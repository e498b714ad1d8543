//! Parameters of a request: the URL's and, for POST, the form's; and how they are read.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use telemetry::{Matcher, Timestamp};

use super::ApiError;
use crate::query;

/// Name and value in the order they came; the form's come first, as in Go's `FormValue`.
pub(super) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let url = request.uri().query().unwrap_or_default().to_owned();
        let body = Bytes::from_request(request, state).await.map_err(|e| ApiError::BadData(e.to_string()))?;
        let pairs = |text: &[u8]| url::form_urlencoded::parse(text).into_owned().collect::<Vec<_>>();
        let mut params = pairs(&body);
        params.extend(pairs(url.as_bytes()));
        Ok(Params(params))
    }
}

impl Params {
    /// The first value; an empty one counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next().filter(|v| !v.is_empty())
    }

    pub(super) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Seconds or RFC 3339.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let seconds = text.parse::<f64>().ok().filter(|s| s.is_finite()).map(Timestamp::from_secs_f64);
        let time = seconds.or_else(|| Timestamp::parse_rfc3339(text));
        let bad = || ApiError::parameter(name, format!("cannot parse {text:?} to a valid timestamp"));
        time.map(Some).ok_or_else(bad)
    }

    pub(super) fn required_time(&self, name: &str) -> Result<Timestamp, ApiError> {
        self.time(name)?.ok_or_else(|| ApiError::parameter(name, r#"cannot parse "" to a valid timestamp"#))
    }

    /// Seconds or Prometheus' notation; None where it is negative, zero stays zero.
    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let seconds = text.parse::<f64>().ok().map(|s| Duration::try_from_secs_f64(s.max(0.0)));
        let duration = match seconds {
            Some(duration) => duration.ok(),
            None => telemetry::duration::parse(text).ok(),
        };
        let bad = || ApiError::parameter(name, format!("cannot parse {text:?} to a valid duration"));
        duration.map(Some).ok_or_else(bad)
    }

    /// 0 and absent are no limit.
    pub(super) fn limit(&self, name: &str) -> Result<usize, ApiError> {
        let Some(text) = self.get(name) else { return Ok(usize::MAX) };
        match text.parse::<i64>() {
            Ok(0) => Ok(usize::MAX),
            Ok(limit) if limit > 0 => Ok(usize::try_from(limit).unwrap_or(usize::MAX)),
            Ok(_) => Err(ApiError::parameter(name, "limit must be non-negative")),
            Err(_) => Err(ApiError::parameter(name, format!("cannot parse {text:?} to a number"))),
        }
    }

    pub(super) fn query(&self) -> &str {
        self.all("query").next().unwrap_or_default()
    }

    /// The selectors of `match[]`.
    pub(super) fn selectors(&self) -> Result<Vec<Vec<Matcher>>, ApiError> {
        self.all("match[]").map(|text| query::selector(text).map_err(|e| ApiError::parameter("match[]", e))).collect()
    }
}

/// Shortens the list to the limit and says so.
pub(super) fn truncate<T>(list: &mut Vec<T>, limit: usize) -> Vec<String> {
    if list.len() <= limit {
        return Vec::new();
    }
    list.truncate(limit);
    vec!["results truncated due to limit".to_owned()]
}
