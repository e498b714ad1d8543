//! `query`, `query_range`, `format_query`, `parse_query`.

use axum::extract::State;
use promql::{Answer, Value};
use serde_json::value::RawValue;

use super::params::{Params, truncate};
use super::{ApiError, ApiResult, Success, render, tree};
use crate::api::Sources;
use crate::query::QueryOptions;

/// Prometheus' own limit: a week at one minute, and no screen has more pixels.
const POINTS_MAX: u128 = 11_000;

pub(super) async fn instant(State(sources): State<Sources>, params: Params) -> ApiResult<Box<RawValue>> {
    let limit = params.limit("limit")?;
    let at = params.time("time")?.unwrap_or_else(|| sources.clock.now());
    let options = options(&params)?;
    let answer = sources.querier.instant_with(params.query(), at, options).await?;
    success(answer, limit, &params)
}

pub(super) async fn range(State(sources): State<Sources>, params: Params) -> ApiResult<Box<RawValue>> {
    let limit = params.limit("limit")?;
    let (start, end) = (params.required_time("start")?, params.required_time("end")?);
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let step = params.required_duration("step")?;
    if step.as_millis() == 0 {
        let why = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(ApiError::parameter("step", why));
    }
    if end.since(start).as_millis() / step.as_millis() > POINTS_MAX {
        let why = "exceeded maximum resolution of 11,000 points per timeseries. \
                   Try decreasing the query resolution (?step=XX)";
        return Err(ApiError::BadData(why.to_owned()));
    }
    let options = options(&params)?;
    let answer = sources.querier.range_with(params.query(), start, end, step, options).await?;
    success(answer, limit, &params)
}

fn options(params: &Params) -> Result<QueryOptions, ApiError> {
    let lookback = params.duration("lookback_delta").map_err(|error| match error {
        ApiError::BadData(_) => {
            let text = params.get("lookback_delta").unwrap_or_default();
            let why = format!("error parsing lookback delta duration: cannot parse {text:?} to a valid duration");
            ApiError::BadData(why)
        }
        other => other,
    })?;
    // Zero and less: as if it were not there.
    Ok(QueryOptions {
        timeout: params.duration("timeout")?,
        lookback: lookback.filter(|lookback| !lookback.is_zero()),
        step_stats: params.get("stats") == Some("all"),
    })
}

pub(super) async fn format(params: Params) -> ApiResult<String> {
    let expr = promql::parse(params.query()).map_err(|e| ApiError::parameter("query", e))?;
    Ok(Success::new(expr.pretty()))
}

pub(super) async fn parse(params: Params) -> ApiResult<serde_json::Value> {
    let expr = promql::parse(params.query()).map_err(|e| ApiError::parameter("query", e))?;
    Ok(Success::new(tree::node(expr.root())))
}

fn success(mut answer: Answer, limit: usize, params: &Params) -> ApiResult<Box<RawValue>> {
    let cut = match &mut answer.value {
        Value::Vector(samples) => truncate(samples, limit),
        Value::Matrix(series) => truncate(series, limit),
        Value::Scalar { .. } | Value::String { .. } => Vec::new(),
    };
    answer.warnings.extend(cut);
    let stats = params.get("stats");
    if let Some(other) = stats.filter(|wanted| !["true", "all"].contains(wanted)) {
        answer.warnings.push(format!(
            "value {other:?} for parameter \"stats\" is deprecated and will be rejected in the next major release, \
             use \"true\" or \"all\""
        ));
    }
    let stats = stats.map(|_| render::stats(&answer.stats));
    let json = render::data(&answer.value, stats.as_ref());
    let data = RawValue::from_string(json).map_err(|e| ApiError::Internal(e.to_string()))?;
    let (warnings, infos) = (bounded(answer.warnings, "warning"), bounded(answer.infos, "info"));
    Ok(Success { warnings, infos, ..Success::new(data) })
}

/// Ten of a kind tell enough; how many more there were is said.
fn bounded(mut notes: Vec<String>, kind: &str) -> Vec<String> {
    const NOTES_MAX: usize = 10;
    if notes.len() > NOTES_MAX {
        let more = notes.len() - NOTES_MAX;
        notes.truncate(NOTES_MAX);
        notes.push(format!("{more} more {kind} annotations omitted"));
    }
    notes
}
