//! Parameters of a request: the URL's and, for POST, the form's; and how they are read.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use telemetry::{Matcher, Timestamp};

use super::ApiError;
use crate::query;

/// Clients that want "from the beginning" and "to the end" send the ends of Go's time in Prometheus' own notation,
/// which no RFC 3339 reader takes: years of nine digits.
const BEGINNING: &str = "-292273086-05-16T16:47:06Z";
const END: &str = "292277025-08-18T07:12:54.999999999Z";

/// Times and durations beyond this many seconds (some 140 million years) stand for it: sums of two of them fit.
const SECONDS_MAX: f64 = (i64::MAX / 2000) as f64;

/// Name and value in the order they came; the form's come first, as in Go's `FormValue`.
pub(super) struct Params {
    form: Vec<(String, String)>,
    url: Vec<(String, String)>,
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let pairs = |text: &[u8]| url::form_urlencoded::parse(text).into_owned().collect::<Vec<_>>();
        let url = pairs(request.uri().query().unwrap_or_default().as_bytes());
        // A body that is no form says nothing, as in Prometheus.
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_form = kind
            .split(';')
            .next()
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"));
        let form = if is_form && [Method::POST, Method::PUT].contains(request.method()) {
            let body = Bytes::from_request(request, state).await;
            pairs(&body.map_err(|e| ApiError::BadData(format!("error parsing form values: {e}")))?)
        } else {
            Vec::new()
        };
        Ok(Params { form, url })
    }
}

impl Params {
    /// The first value; an empty one counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next().filter(|v| !v.is_empty())
    }

    pub(super) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let pairs = self.form.iter().chain(&self.url);
        pairs.filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Seconds or RFC 3339.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let bad = |why: String| ApiError::parameter(name, format!("invalid time value for '{name}': {why}"));
        parse_time(text).map(Some).map_err(bad)
    }

    pub(super) fn required_time(&self, name: &str) -> Result<Timestamp, ApiError> {
        parse_time(self.all(name).next().unwrap_or_default()).map_err(|why| ApiError::parameter(name, why))
    }

    /// Seconds or Prometheus' notation. What is negative comes as zero: no caller tells them apart.
    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        parse_duration(text).map(Some).map_err(|why| ApiError::parameter(name, why))
    }

    pub(super) fn required_duration(&self, name: &str) -> Result<Duration, ApiError> {
        parse_duration(self.all(name).next().unwrap_or_default()).map_err(|why| ApiError::parameter(name, why))
    }

    /// 0 and absent are no limit.
    pub(super) fn limit(&self, name: &str) -> Result<usize, ApiError> {
        let Some(text) = self.get(name) else { return Ok(usize::MAX) };
        match integer(text) {
            Ok(0) => Ok(usize::MAX),
            Ok(limit) if limit > 0 => Ok(usize::try_from(limit).unwrap_or(usize::MAX)),
            Ok(_) => Err(ApiError::parameter(name, "limit must be non-negative")),
            Err(why) => Err(ApiError::parameter(name, why)),
        }
    }

    /// The limits of metadata, which have a meaning of their own for 0 and below; None where absent.
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        integer(text).map(Some).map_err(|_| ApiError::BadData(format!("{name} must be a number")))
    }

    /// As Go's `ParseBool` reads it.
    pub(super) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name).map(str::to_ascii_lowercase).as_deref() {
            None | Some("false" | "0" | "f") => Ok(false),
            Some("true" | "1" | "t") => Ok(true),
            Some(text) => {
                let why = format!("error converting {name}: strconv.ParseBool: parsing {text:?}: invalid syntax");
                Err(ApiError::parameter(name, why))
            }
        }
    }

    pub(super) fn query(&self) -> &str {
        self.all("query").next().unwrap_or_default()
    }

    /// The selectors of `match[]`. One that accepts all series is refused: it is always a mistake.
    pub(super) fn selectors(&self) -> Result<Vec<Vec<Matcher>>, String> {
        self.all("match[]").map(selector).collect()
    }
}

fn selector(text: &str) -> Result<Vec<Matcher>, String> {
    const EMPTY: &str = "must contain at least one non-empty matcher";
    match query::selector(text).map_err(|error| error.to_string()) {
        // The parser says the same of `{}` with the word for selectors in queries.
        Err(why) if !why.ends_with(EMPTY) => Err(why),
        Ok(matchers) if matchers.iter().any(|matcher| !matcher.matches("")) => Ok(matchers),
        Ok(_) | Err(_) => Err(format!("match[] {EMPTY}")),
    }
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    match text {
        BEGINNING => return Ok(Timestamp::from_secs_f64(-SECONDS_MAX)),
        END => return Ok(Timestamp::from_secs_f64(SECONDS_MAX)),
        _ => {}
    }
    let seconds = text.parse::<f64>().ok().filter(|seconds| !seconds.is_nan());
    let seconds = seconds.map(|seconds| Timestamp::from_secs_f64(seconds.clamp(-SECONDS_MAX, SECONDS_MAX)));
    // Ours reads what loggers write as well; the API wants its `T`.
    let rfc3339 = || Timestamp::parse_rfc3339(text).filter(|_| text.as_bytes().get(10) == Some(&b'T'));
    seconds.or_else(rfc3339).ok_or_else(|| format!("cannot parse {text:?} to a valid timestamp"))
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let Ok(seconds) = text.parse::<f64>() else {
        return telemetry::duration::parse(text).map_err(|_| format!("cannot parse {text:?} to a valid duration"));
    };
    // What nanoseconds in 64 bits cannot hold.
    if seconds.is_nan() || seconds.abs() > 9_223_372_036.0 {
        return Err(format!("cannot parse {text:?} to a valid duration. It overflows int64"));
    }
    Ok(Duration::from_secs_f64(seconds.max(0.0)))
}

/// With the words of Go's `strconv.Atoi`.
fn integer(text: &str) -> Result<i64, String> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse::<i64>().map_err(|error| {
        let why = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.Atoi: parsing {text:?}: {why}")
    })
}

/// Shortens the list to the limit and says so.
pub(super) fn truncate<T>(list: &mut Vec<T>, limit: usize) -> Vec<String> {
    if list.len() <= limit {
        return Vec::new();
    }
    list.truncate(limit);
    vec!["results truncated due to limit".to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_rfc_3339_and_the_ends_of_time() {
        let millis = |text: &str| parse_time(text).map(Timestamp::as_millis);
        for (text, expected) in [
            ("0", 0),
            ("1435781430.781", 1_435_781_430_781),
            ("-5.5", -5_500),
            ("1e3", 1_000_000),
            ("2015-07-01T20:10:30.781Z", 1_435_781_430_781),
            ("2015-07-01T20:10:30+02:00", 1_435_774_230_000),
        ] {
            assert_eq!(millis(text), Ok(expected), "{text}");
        }
        for text in ["", "now", "NaN", "2015-07-01 20:10:30Z", "123.123.123"] {
            assert_eq!(millis(text), Err(format!("cannot parse {text:?} to a valid timestamp")));
        }
        let end = millis(END).unwrap();
        assert!(millis(BEGINNING).unwrap() == -end && end > i64::MAX / 4);
        assert_eq!(millis("1e300").unwrap(), end);
    }

    #[test]
    fn durations_are_seconds_or_prometheus_notation() {
        for (text, expected) in [("1.5", 1_500), ("1m30s", 90_000), ("100ms", 100), ("-3", 0), ("0", 0)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(expected)), "{text}");
        }
        assert_eq!(parse_duration("5 m").unwrap_err(), r#"cannot parse "5 m" to a valid duration"#);
        assert_eq!(
            parse_duration("1e300").unwrap_err(),
            r#"cannot parse "1e300" to a valid duration. It overflows int64"#
        );
        assert_eq!(parse_duration("9223372037").unwrap_err().split('.').nth(1), Some(" It overflows int64"));
    }

    #[test]
    fn a_selector_must_ask_for_something() {
        assert!(selector("up").is_ok() && selector(r#"{job=~".+"}"#).is_ok());
        for text in ["{}", r#"{job=""}"#, r#"{job=~".*"}"#] {
            assert!(selector(text).unwrap_err().contains("at least one non-empty matcher"), "{text}");
        }
        assert!(selector("").is_err());
    }
}
