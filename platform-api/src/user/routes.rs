//! The user domain over HTTP.

use axum::extract::{FromRef, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};

use super::model::{Login, Refresh, Registration, Tokens, User};
use super::repo;
use super::service::Users;
use crate::shared::Platform;
use crate::shared::auth::Caller;
use crate::shared::auth::keys::JwkSet;
use crate::shared::error::{ApiError, ApiResult};
use crate::shared::extract::{Asked, Body};
use crate::shared::page::{Page, PageQuery};

impl FromRef<Users> for Platform {
    fn from_ref(users: &Users) -> Platform {
        users.platform.clone()
    }
}

pub fn router(users: Users) -> Router<Platform> {
    Router::new()
        .route("/.well-known/jwks.json", get(jwks))
        .route("/api/v1/auth/register", post(register))
        .route("/api/v1/auth/login", post(login))
        .route("/api/v1/auth/refresh", post(refresh))
        .route("/api/v1/users/me", get(me))
        .route("/api/v1/users", get(list))
        .with_state(users)
}

async fn jwks(State(users): State<Users>) -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "public, max-age=300")], Json(JwkSet { keys: vec![users.signer.jwk.clone()] }))
}

async fn register(State(users): State<Users>, Body(asked): Body<Registration>) -> ApiResult<(StatusCode, Json<User>)> {
    Ok((StatusCode::CREATED, Json(users.register(asked).await?)))
}

async fn login(State(users): State<Users>, Body(asked): Body<Login>) -> ApiResult<impl IntoResponse> {
    Ok(unstored(users.login(asked).await?))
}

async fn refresh(State(users): State<Users>, Body(asked): Body<Refresh>) -> ApiResult<impl IntoResponse> {
    Ok(unstored(users.refresh(&asked.refresh_token).await?))
}

/// Tokens are in nobody's cache.
fn unstored(tokens: Tokens) -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "no-store")], Json(tokens))
}

async fn me(State(users): State<Users>, caller: Caller) -> ApiResult<Json<User>> {
    caller.owner("users:read")?;
    let user = repo::user(&users.platform.db, caller.org_id, caller.user_id).await?;
    user.map(Json).ok_or_else(|| ApiError::not_found("user"))
}

async fn list(State(users): State<Users>, caller: Caller, Asked(page): Asked<PageQuery>) -> ApiResult<Page<User>> {
    let only = caller.owner("users:read")?;
    let rows = repo::users(&users.platform.db, caller.org_id, only, page.start()?, page.rows_to_fetch()).await?;
    Ok(Page::new(rows, &page, User::cursor))
}
