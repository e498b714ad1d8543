//! The notification domain over HTTP.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::model::{ListQuery, Notification};
use super::{repo, service};
use crate::shared::Platform;
use crate::shared::auth::Caller;
use crate::shared::auth::internal::FromService;
use crate::shared::error::{ApiError, ApiResult};
use crate::shared::extract::{Asked, Id};
use crate::shared::outbox::Event;
use crate::shared::page::Page;

pub fn router() -> Router<Platform> {
    Router::new()
        .route("/api/v1/notifications", get(list))
        .route("/api/v1/notifications/{id}/read", post(read))
        .route("/internal/notification/events", post(receive))
}

/// Everybody sees their own, whatever else they may do.
async fn list(
    State(platform): State<Platform>,
    caller: Caller,
    Asked(asked): Asked<ListQuery>,
) -> ApiResult<Page<Notification>> {
    caller.owner("notifications:read")?;
    let unread = asked.unread;
    let page = asked.page();
    let rows = repo::notifications(&platform.db, caller.user_id, unread, page.start()?, page.rows_to_fetch()).await?;
    Ok(Page::new(rows, &page, Notification::cursor))
}

async fn read(State(platform): State<Platform>, caller: Caller, Id(id): Id) -> ApiResult<Json<Notification>> {
    caller.owner("notifications:update")?;
    let read = repo::read(&platform.db, caller.user_id, id).await?;
    read.map(Json).ok_or_else(|| ApiError::not_found("notification"))
}

async fn receive(State(platform): State<Platform>, FromService(event): FromService<Event>) -> ApiResult<Json<Value>> {
    let fresh = service::receive(&platform, &event).await?;
    Ok(Json(json!({ "fresh": fresh })))
}
