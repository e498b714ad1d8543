//! The product domain over HTTP.

use axum::extract::{FromRef, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};

use super::model::{Inventory, NewProduct, OfOrder, Product, Reservation, ReservationRequest, StockCount};
use super::repo;
use super::service::Products;
use crate::shared::Platform;
use crate::shared::auth::Caller;
use crate::shared::auth::internal::FromService;
use crate::shared::error::{ApiError, ApiResult};
use crate::shared::extract::{Asked, Body, Id};
use crate::shared::page::{Page, PageQuery};

impl FromRef<Products> for Platform {
    fn from_ref(products: &Products) -> Platform {
        products.platform.clone()
    }
}

pub fn router(products: Products) -> Router<Platform> {
    Router::new()
        .route("/api/v1/products", get(list).post(create))
        .route("/api/v1/products/{id}", get(show))
        .route("/api/v1/products/{id}/inventory", get(inventory).put(count))
        .route("/internal/product/reservations", post(reserve))
        .route("/internal/product/reservations/commit", post(commit))
        .route("/internal/product/reservations/release", post(release))
        .with_state(products)
}

async fn list(
    State(products): State<Products>,
    caller: Caller,
    Asked(page): Asked<PageQuery>,
) -> ApiResult<Page<Product>> {
    caller.scope("products:read")?;
    let rows = repo::products(&products.platform.db, caller.org_id, page.start()?, page.rows_to_fetch()).await?;
    Ok(Page::new(rows, &page, Product::cursor))
}

async fn create(
    State(products): State<Products>,
    caller: Caller,
    Body(new): Body<NewProduct>,
) -> ApiResult<(StatusCode, Json<Product>)> {
    caller.scope("products:create")?;
    Ok((StatusCode::CREATED, Json(products.create(&caller, &new).await?)))
}

async fn show(State(products): State<Products>, caller: Caller, Id(id): Id) -> ApiResult<Json<Product>> {
    caller.scope("products:read")?;
    products.product(caller.org_id, id).await.map(Json)
}

async fn inventory(State(products): State<Products>, caller: Caller, Id(id): Id) -> ApiResult<Json<Inventory>> {
    caller.scope("products:read")?;
    let found = repo::inventory(&products.platform.db, caller.org_id, id).await?;
    found.map(Json).ok_or_else(|| ApiError::not_found("product"))
}

async fn count(
    State(products): State<Products>,
    caller: Caller,
    Id(id): Id,
    Body(counted): Body<StockCount>,
) -> ApiResult<Json<Inventory>> {
    caller.scope("inventory:update")?;
    if let Some(inventory) = repo::set_on_hand(&products.platform.db, &caller, id, counted.on_hand).await? {
        return Ok(Json(inventory));
    }
    products.product(caller.org_id, id).await?;
    Err(ApiError::conflict("stock_is_held", "more pieces than that are held for orders"))
}

async fn reserve(
    State(products): State<Products>,
    FromService(asked): FromService<ReservationRequest>,
) -> ApiResult<Json<Reservation>> {
    products.reserve(asked).await.map(Json)
}

async fn commit(
    State(products): State<Products>,
    FromService(of): FromService<OfOrder>,
) -> ApiResult<Json<Reservation>> {
    products.commit(of.order_id).await.map(Json)
}

async fn release(
    State(products): State<Products>,
    FromService(of): FromService<OfOrder>,
) -> ApiResult<Json<Reservation>> {
    products.release(of.order_id).await.map(Json)
}
