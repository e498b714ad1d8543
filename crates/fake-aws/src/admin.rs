//! What AWS does not have: looking at the tasks and calls, ordering faults, killing a container. Under `/_fake`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};

use crate::{Account, Fault};

pub(crate) fn router(account: Arc<Account>) -> Router<Arc<Account>> {
    Router::new()
        .route("/tasks", get(async |State(account): State<Arc<Account>>| Json(account.ecs.overview())))
        .route("/tasks/{task_id}/kill/{container}", post(kill))
        .route("/calls", get(async |State(account): State<Arc<Account>>| Json(account.throttle.calls())))
        .route("/faults", post(order).delete(clear))
        .with_state(account)
}

async fn kill(State(account): State<Arc<Account>>, Path((task_id, container)): Path<(String, String)>) -> StatusCode {
    match account.ecs.kill(&task_id, &container) {
        true => StatusCode::NO_CONTENT,
        false => StatusCode::NOT_FOUND,
    }
}

async fn order(State(account): State<Arc<Account>>, Json(fault): Json<Fault>) -> StatusCode {
    account.throttle.order(fault);
    StatusCode::NO_CONTENT
}

async fn clear(State(account): State<Arc<Account>>) -> StatusCode {
    account.throttle.clear();
    StatusCode::NO_CONTENT
}
