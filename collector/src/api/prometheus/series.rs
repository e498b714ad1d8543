//! `series`, `labels`, `label/<name>/values`: what there is to query.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use telemetry::{Labels, Timestamp};

use super::params::{Params, truncate};
use super::{ApiError, ApiResult, Success};
use crate::api::Sources;
use crate::query::Window;

pub(super) async fn series(State(sources): State<Sources>, params: Params) -> ApiResult<Vec<Labels>> {
    if params.all("match[]").next().is_none() {
        return Err(ApiError::BadData("no match[] parameter provided".to_owned()));
    }
    let (limit, window) = (params.limit("limit")?, window(&params)?);
    let selectors = params.selectors().map_err(|why| ApiError::parameter("match[]", why))?;
    let Some(window) = window else { return Ok(Success::new(Vec::new())) };
    let mut series = sources.querier.series(selectors, window).await?;
    let warnings = truncate(&mut series, limit);
    Ok(Success::with_warnings(series, warnings))
}

pub(super) async fn label_names(State(sources): State<Sources>, params: Params) -> ApiResult<Vec<String>> {
    let (limit, window) = (params.limit("limit")?, window(&params)?);
    let selectors = params.selectors().map_err(ApiError::BadData)?;
    let Some(window) = window else { return Ok(Success::new(Vec::new())) };
    let mut names = sources.querier.label_names(selectors, window).await?;
    let warnings = truncate(&mut names, limit);
    Ok(Success::with_warnings(names, warnings))
}

pub(super) async fn label_values(
    State(sources): State<Sources>,
    name: Result<Path<String>, PathRejection>,
    params: Params,
) -> ApiResult<Vec<String>> {
    let Path(name) = name.map_err(|error| ApiError::BadData(format!("invalid label name: {error}")))?;
    let name = unescape(&name).unwrap_or(name);
    if name.is_empty() {
        return Err(ApiError::BadData(format!("invalid label name: {name:?}")));
    }
    let (limit, window) = (params.limit("limit")?, window(&params)?);
    let selectors = params.selectors().map_err(ApiError::BadData)?;
    let Some(window) = window else { return Ok(Success::new(Vec::new())) };
    let mut values = sources.querier.label_values(&name, selectors, window).await?;
    let warnings = truncate(&mut values, limit);
    Ok(Success::with_warnings(values, warnings))
}

/// Absent ends are open. None where the end comes before the start: there is nothing in between, which is no error.
fn window(params: &Params) -> Result<Option<Window>, ApiError> {
    let start = params.time("start")?.unwrap_or(Timestamp::MIN);
    let end = params.time("end")?.unwrap_or(Timestamp::MAX);
    Ok((start <= end).then_some(Window { start, end }))
}

/// A name in a path that holds more than letters, digits and `_`, as Prometheus' "value encoding" writes it: `U__`,
/// then `__` for `_` and `_2e_` for the character with that number. None where it is not written so.
fn unescape(name: &str) -> Option<String> {
    let mut rest = name.strip_prefix("U__")?;
    let mut plain = String::with_capacity(rest.len());
    while let Some((before, after)) = rest.split_once('_') {
        plain.push_str(before);
        rest = match after.strip_prefix('_') {
            Some(after) => {
                plain.push('_');
                after
            }
            None => {
                let (number, after) = after.split_once('_')?;
                let is_number = (1..=6).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_hexdigit());
                plain.push(char::from_u32(u32::from_str_radix(number, 16).ok().filter(|_| is_number)?)?);
                after
            }
        };
    }
    plain.push_str(rest);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_read_and_others_left_alone() {
        for (escaped, plain) in [
            ("U__service_2e_name", Some("service.name")),
            ("U__a__b", Some("a_b")),
            ("U__http_2e_status:sum", Some("http.status:sum")),
            ("U___1f600_", Some("\u{1f600}")),
            ("U__", Some("")),
            ("job", None),
            ("U__a_b", None),
            ("U__a_zz_", None),
            ("U__a_2e", None),
            ("U__a_d800_", None),
            ("U__a_+e_", None),
        ] {
            assert_eq!(unescape(escaped).as_deref(), plain, "{escaped}");
        }
    }
}
