//! The order domain over HTTP.

use std::collections::HashMap;

use axum::extract::{FromRef, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use uuid::Uuid;

use super::idempotency::Key;
use super::model::{Line, NewOrder, Order};
use super::repo;
use super::service::Orders;
use crate::shared::Platform;
use crate::shared::auth::Caller;
use crate::shared::error::ApiResult;
use crate::shared::extract::{Asked, Body, Id};
use crate::shared::page::{Page, PageQuery};

impl FromRef<Orders> for Platform {
    fn from_ref(orders: &Orders) -> Platform {
        orders.platform.clone()
    }
}

pub fn router(orders: Orders) -> Router<Platform> {
    Router::new()
        .route("/api/v1/orders", get(list).post(create))
        .route("/api/v1/orders/{id}", get(show))
        .route("/api/v1/orders/{id}/pay", post(pay))
        .route("/api/v1/orders/{id}/ship", post(ship))
        .route("/api/v1/orders/{id}/cancel", post(cancel))
        .with_state(orders)
}

/// 201 for a new order, 200 for the one that an earlier request with this Idempotency-Key has created.
async fn create(
    State(orders): State<Orders>,
    caller: Caller,
    headers: HeaderMap,
    Body(new): Body<NewOrder>,
) -> ApiResult<(StatusCode, Json<Order>)> {
    caller.owner("orders:create")?;
    let (order, created) = orders.create(&caller, Key::of(&headers)?, new).await?;
    Ok((if created { StatusCode::CREATED } else { StatusCode::OK }, Json(order)))
}

async fn list(State(orders): State<Orders>, caller: Caller, Asked(page): Asked<PageQuery>) -> ApiResult<Page<Order>> {
    let owner = caller.owner("orders:read")?;
    let db = &orders.platform.db;
    let rows = repo::orders(db, caller.org_id, owner, page.start()?, page.rows_to_fetch()).await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let mut lines: HashMap<Uuid, Vec<Line>> = HashMap::new();
    for line in repo::lines(db, &ids).await? {
        lines.entry(line.order_id).or_default().push(line);
    }
    let shown = rows.into_iter().map(|row| {
        let lines = lines.remove(&row.id).unwrap_or_default();
        Order::new(row, lines)
    });
    Ok(Page::new(shown.collect(), &page, Order::cursor))
}

async fn show(State(orders): State<Orders>, caller: Caller, Id(id): Id) -> ApiResult<Json<Order>> {
    let owner = caller.owner("orders:read")?;
    orders.order(caller.org_id, owner, id).await.map(Json)
}

async fn pay(State(orders): State<Orders>, caller: Caller, Id(id): Id) -> ApiResult<Json<Order>> {
    let owner = caller.owner("orders:update")?;
    orders.pay(&caller, owner, id).await.map(Json)
}

async fn ship(State(orders): State<Orders>, caller: Caller, Id(id): Id) -> ApiResult<Json<Order>> {
    let owner = caller.owner("orders:execute")?;
    orders.ship(&caller, owner, id).await.map(Json)
}

async fn cancel(State(orders): State<Orders>, caller: Caller, Id(id): Id) -> ApiResult<Json<Order>> {
    let owner = caller.owner("orders:update")?;
    orders.cancel(&caller, owner, id).await.map(Json)
}
