//! `query`, `query_range`, `query_exemplars`, `format_query`.

use std::time::Duration;

use axum::extract::State;
use promql::{Answer, Value};
use serde_json::value::RawValue;
use telemetry::Timestamp;

use super::params::Params;
use super::{ApiError, ApiResult, Success, render};
use crate::api::Sources;
use crate::query::QueryError;

/// Prometheus' own limit: a week at one minute, and no screen has more pixels.
const POINTS_MAX: u128 = 11_000;

pub(super) async fn instant(State(sources): State<Sources>, params: Params) -> ApiResult<Box<RawValue>> {
    let at = params.time("time")?.unwrap_or_else(|| sources.clock.now());
    let (limit, timeout) = (params.limit("limit")?, params.duration("timeout")?);
    let answer = within(timeout, sources.querier.instant(params.query(), at)).await?;
    success(answer, limit)
}

pub(super) async fn range(State(sources): State<Sources>, params: Params) -> ApiResult<Box<RawValue>> {
    let (start, end) = (params.required_time("start")?, params.required_time("end")?);
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let step = params
        .duration("step")?
        .ok_or_else(|| ApiError::parameter("step", r#"cannot parse "" to a valid duration"#))?;
    if step.as_millis() == 0 {
        let why = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(ApiError::parameter("step", why));
    }
    if end.since(start).as_millis() / step.as_millis() > POINTS_MAX {
        let why = "exceeded maximum resolution of 11,000 points per timeseries. \
                   Try decreasing the query resolution (?step=XX)";
        return Err(ApiError::BadData(why.to_owned()));
    }
    let (limit, timeout) = (params.limit("limit")?, params.duration("timeout")?);
    let answer = within(timeout, sources.querier.range(params.query(), start, end, step)).await?;
    success(answer, limit)
}

/// Exemplars are not kept: the answer is an empty list, for which Grafana asks by default.
pub(super) async fn exemplars(State(_): State<Sources>, params: Params) -> ApiResult<[(); 0]> {
    let start = params.time("start")?.unwrap_or(Timestamp::MIN);
    let end = params.time("end")?.unwrap_or(Timestamp::MAX);
    if end < start {
        return Err(ApiError::BadData("end timestamp must not be before start timestamp".to_owned()));
    }
    promql::parse(params.query()).map_err(|e| ApiError::BadData(e.to_string()))?;
    Ok(Success::new([]))
}

pub(super) async fn format(params: Params) -> ApiResult<String> {
    let expr = promql::parse(params.query()).map_err(|e| ApiError::parameter("query", e))?;
    Ok(Success::new(expr.to_string()))
}

/// The asker may want less time than the configuration allows, not more.
async fn within(
    timeout: Option<Duration>,
    query: impl Future<Output = Result<Answer, QueryError>>,
) -> Result<Answer, ApiError> {
    let Some(timeout) = timeout else { return Ok(query.await?) };
    match tokio::time::timeout(timeout, query).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(QueryError::Timeout(timeout).into()),
    }
}

fn success(mut answer: Answer, limit: usize) -> ApiResult<Box<RawValue>> {
    let cut = match &mut answer.value {
        Value::Vector(samples) => super::params::truncate(samples, limit),
        Value::Matrix(series) => super::params::truncate(series, limit),
        Value::Scalar { .. } | Value::String { .. } => Vec::new(),
    };
    answer.warnings.extend(cut);
    let data = RawValue::from_string(render::data(&answer.value)).map_err(|e| ApiError::Internal(e.to_string()))?;
    Ok(Success { warnings: answer.warnings, infos: answer.infos, ..Success::new(data) })
}
