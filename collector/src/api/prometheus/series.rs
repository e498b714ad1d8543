//! `series`, `labels`, `label/<name>/values`: what there is to query.

use axum::extract::{Path, State};
use telemetry::{Labels, Timestamp};

use super::params::{Params, truncate};
use super::{ApiError, ApiResult, Success};
use crate::api::Sources;
use crate::query::Window;

pub(super) async fn series(State(sources): State<Sources>, params: Params) -> ApiResult<Vec<Labels>> {
    let selectors = params.selectors()?;
    if selectors.is_empty() {
        return Err(ApiError::BadData("no match[] parameter provided".to_owned()));
    }
    let (window, limit) = (window(&params)?, params.limit("limit")?);
    let mut series = sources.querier.series(selectors, window).await?;
    let warnings = truncate(&mut series, limit);
    Ok(Success::with_warnings(series, warnings))
}

pub(super) async fn label_names(State(sources): State<Sources>, params: Params) -> ApiResult<Vec<String>> {
    let (window, limit) = (window(&params)?, params.limit("limit")?);
    let mut names = sources.querier.label_names(params.selectors()?, window).await?;
    let warnings = truncate(&mut names, limit);
    Ok(Success::with_warnings(names, warnings))
}

pub(super) async fn label_values(
    State(sources): State<Sources>,
    Path(name): Path<String>,
    params: Params,
) -> ApiResult<Vec<String>> {
    let (window, limit) = (window(&params)?, params.limit("limit")?);
    let mut values = sources.querier.label_values(&name, params.selectors()?, window).await?;
    let warnings = truncate(&mut values, limit);
    Ok(Success::with_warnings(values, warnings))
}

/// Absent ends are open.
fn window(params: &Params) -> Result<Window, ApiError> {
    let start = params.time("start")?.unwrap_or(Timestamp::MIN);
    let end = params.time("end")?.unwrap_or(Timestamp::MAX);
    if end < start {
        return Err(ApiError::BadData("end timestamp must not be before start timestamp".to_owned()));
    }
    Ok(Window { start, end })
}
