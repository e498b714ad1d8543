//! One document per page of the web UI: status of the stages and answers of queries in, JSON out.
//!
//! What is not known is `null`, never zero and never "ok".

mod alerts;
mod changes;
mod operations;
mod overview;
mod services;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Sources;
use overview::{LastHour, Overview};

/// Any number of open browsers cost one round of queries in this time.
const OVERVIEW_FRESH: Duration = Duration::from_secs(1);
/// The hour behind the sparklines moves slowly and is the dearest question.
const LAST_HOUR_FRESH: Duration = Duration::from_secs(15);

/// What the handlers share.
pub(super) struct Shared {
    sources: Sources,
    overview: Cached<Overview>,
    last_hour: Cached<LastHour>,
}

pub(super) fn router(sources: Sources) -> Router {
    let shared = Shared { sources, overview: Cached::new(OVERVIEW_FRESH), last_hour: Cached::new(LAST_HOUR_FRESH) };
    Router::new()
        .route("/api/ui/v1/overview", get(overview))
        .route("/api/ui/v1/alerts", get(alerts))
        .route("/api/ui/v1/runbooks/{name}", get(runbook))
        .with_state(Arc::new(shared))
}

async fn overview(State(shared): State<Arc<Shared>>) -> Json<Arc<Overview>> {
    let assemble =
        async || Ok::<_, std::convert::Infallible>(overview::assemble(&shared.sources, &shared.last_hour).await);
    let Ok(document) = shared.overview.get(assemble).await;
    Json(document)
}

async fn alerts(State(shared): State<Arc<Shared>>) -> Json<alerts::Page> {
    Json(alerts::page(&shared.sources.rules, &shared.sources.notify))
}

async fn runbook(Path(name): Path<String>) -> Response {
    match crate::ui::runbook(&name) {
        Some(text) => Json(serde_json::json!({ "name": name, "text": text })).into_response(),
        None => {
            let error = format!("there is no runbook `{name}`");
            (StatusCode::NOT_FOUND, Json(serde_json::json!({ "status": "error", "error": error }))).into_response()
        }
    }
}

/// The last answer, shared by all who ask while it is fresh; those who ask while it is made wait for it.
pub(super) struct Cached<T> {
    fresh: Duration,
    last: Mutex<Option<(Instant, Arc<T>)>>,
}

impl<T> Cached<T> {
    fn new(fresh: Duration) -> Self {
        Cached { fresh, last: Mutex::const_new(None) }
    }

    async fn get<E>(&self, make: impl AsyncFnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        let mut last = self.last.lock().await;
        if let Some((made, value)) = &*last
            && made.elapsed() < self.fresh
        {
            return Ok(value.clone());
        }
        let value = Arc::new(make().await?);
        *last = Some((Instant::now(), value.clone()));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_made_again_only_when_it_is_old() {
        let cached = Cached::new(Duration::from_secs(1));
        let made = std::sync::atomic::AtomicUsize::new(0);
        let ask = || cached.get(async || Ok::<_, ()>(made.fetch_add(1, std::sync::atomic::Ordering::Relaxed)));
        assert_eq!((*ask().await.unwrap(), *ask().await.unwrap()), (0, 0));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(*ask().await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let cached = Cached::new(Duration::from_secs(60));
        assert_eq!(cached.get(async || Err::<u8, _>("busy")).await, Err("busy"));
        assert_eq!(cached.get(async || Ok::<_, &str>(7)).await, Ok(Arc::new(7)));
    }
}
