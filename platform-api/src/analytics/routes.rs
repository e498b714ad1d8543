//! The analytics domain over HTTP.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use super::model::{ReportQuery, Sales};
use super::{repo, service};
use crate::shared::Platform;
use crate::shared::auth::Caller;
use crate::shared::auth::internal::FromService;
use crate::shared::error::{ApiError, ApiResult};
use crate::shared::extract::Asked;
use crate::shared::outbox::Event;
use crate::shared::page::{Page, PageQuery};

pub fn router() -> Router<Platform> {
    Router::new().route("/api/v1/reports/sales", get(sales)).route("/internal/analytics/events", post(receive))
}

async fn sales(
    State(platform): State<Platform>,
    caller: Caller,
    Asked(asked): Asked<ReportQuery>,
) -> ApiResult<Page<Sales>> {
    caller.scope("reports:read")?;
    let to = asked.to.unwrap_or_else(Utc::now);
    let from = asked.from.unwrap_or(to - TimeDelta::days(1));
    if from >= to {
        return Err(ApiError::bad_request("invalid_query", "`from` must be before `to`"));
    }
    let page = PageQuery { cursor: asked.cursor, limit: asked.limit };
    let rows =
        repo::sales(&platform.db, caller.org_id, (from, to), asked.granularity, page.start()?, page.rows_to_fetch())
            .await?;
    Ok(Page::new(rows, &page, Sales::cursor))
}

async fn receive(State(platform): State<Platform>, FromService(event): FromService<Event>) -> ApiResult<Json<Value>> {
    let fresh = service::receive(&platform, &event).await?;
    Ok(Json(json!({ "fresh": fresh })))
}
