//! What reserving, committing and releasing stock mean.

use std::sync::Arc;
use std::time::Duration;

use service::Shutdown;
use uuid::Uuid;

use super::model::{NewProduct, Product, RequestedLine, Reservation, ReservationRequest};
use super::repo::{self, Hold};
use crate::shared::Platform;
use crate::shared::auth::Caller;
use crate::shared::cache::Cache;
use crate::shared::db;
use crate::shared::error::{ApiError, ApiResult};

/// Products change rarely; another task's change is seen this much later.
const CACHE_TTL: Duration = Duration::from_secs(30);
const CACHE_ENTRIES_MAX: usize = 10_000;
/// How often holds that are over are looked for, and how many are ended in one round.
const EXPIRE_EVERY: Duration = Duration::from_secs(5);
const EXPIRE_AT_ONCE: usize = 100;
/// A hold is for minutes: an order that nobody pays must not keep the stock.
const HOLD_TTL_S_MAX: u32 = 3600;

/// The product service with its cache.
#[derive(Clone)]
pub struct Products {
    pub platform: Platform,
    cache: Arc<Cache<(Uuid, Uuid), Product>>,
}

impl Products {
    pub fn new(platform: Platform) -> Self {
        let cache = Arc::new(Cache::new("product", CACHE_TTL, CACHE_ENTRIES_MAX, platform.metrics.clone()));
        Products { platform, cache }
    }

    pub async fn create(&self, caller: &Caller, new: &NewProduct) -> ApiResult<Product> {
        let db = &self.platform.db;
        let mut tx = db.begin().await?;
        let product = repo::insert(db, &mut tx, caller, new).await.map_err(|error| match db::violated(&error) {
            Some("products_sku_live") => {
                ApiError::conflict("sku_taken", format!("a product with the SKU {} exists", new.sku))
            }
            _ => error.into(),
        })?;
        db.commit(tx).await?;
        self.platform.metrics.operation("product_create");
        Ok(product)
    }

    pub async fn product(&self, org_id: Uuid, id: Uuid) -> ApiResult<Product> {
        if let Some(product) = self.cache.get(&(org_id, id)) {
            return Ok(product);
        }
        let product = repo::product(&self.platform.db, org_id, id).await?;
        let product = product.ok_or_else(|| ApiError::not_found("product"))?;
        self.cache.put((org_id, id), product.clone());
        Ok(product)
    }

    /// Holds stock for an order, all lines or none. Asked again for the same order, the answer is the same.
    pub async fn reserve(&self, asked: ReservationRequest) -> ApiResult<Reservation> {
        let db = &self.platform.db;
        let lines = in_lock_order(asked.lines)?;
        let mut tx = db.begin().await?;
        let ttl_s = asked.ttl_s.clamp(1, HOLD_TTL_S_MAX);
        let Some(hold) = repo::insert_hold(db, &mut tx, asked.org_id, asked.order_id, ttl_s).await? else {
            let hold = self.hold(&mut tx, asked.order_id).await?;
            return self.answer(&mut tx, asked.order_id, hold).await;
        };
        for line in &lines {
            let taken = repo::reserve_line(db, &mut tx, &hold, line.product_id, line.quantity).await?;
            if taken.is_none() {
                // Dropping the transaction gives back what the lines before took.
                drop(tx);
                return Err(self.refuse(asked.org_id, line).await);
            }
        }
        let answer = self.answer(&mut tx, asked.order_id, hold).await?;
        db.commit(tx).await?;
        self.platform.metrics.operation("stock_reserve");
        Ok(answer)
    }

    async fn refuse(&self, org_id: Uuid, line: &RequestedLine) -> ApiError {
        match self.product(org_id, line.product_id).await {
            Ok(product) => {
                self.platform.metrics.operation("stock_refuse");
                let detail = format!("fewer than {} pieces of {} are left", line.quantity, product.sku);
                ApiError::conflict("out_of_stock", detail).with("product_id", line.product_id.to_string())
            }
            Err(error) if error.code == "not_found" => {
                ApiError::conflict("unknown_product", format!("there is no product {}", line.product_id))
                    .with("product_id", line.product_id.to_string())
            }
            Err(error) => error,
        }
    }

    async fn hold(&self, tx: &mut sqlx::PgConnection, order_id: Uuid) -> ApiResult<Hold> {
        let hold = repo::lock_hold(&self.platform.db, tx, order_id).await?;
        hold.ok_or_else(|| ApiError::not_found("reservation"))
    }

    async fn answer(&self, tx: &mut sqlx::PgConnection, order_id: Uuid, hold: Hold) -> ApiResult<Reservation> {
        let lines = repo::lines(&self.platform.db, tx, hold.id).await?;
        Ok(Reservation { order_id, state: hold.state, expires_at: hold.expires_at, lines })
    }

    /// The order is paid: the pieces leave the stock. A hold that is over has lost its pieces.
    pub async fn commit(&self, order_id: Uuid) -> ApiResult<Reservation> {
        self.end(order_id, "committed", true).await
    }

    /// The order will not be: the pieces are free again. The order service never releases what is paid.
    pub async fn release(&self, order_id: Uuid) -> ApiResult<Reservation> {
        self.end(order_id, "released", false).await
    }

    async fn end(&self, order_id: Uuid, wanted: &'static str, sold: bool) -> ApiResult<Reservation> {
        let db = &self.platform.db;
        let mut tx = db.begin().await?;
        let mut hold = self.hold(&mut tx, order_id).await?;
        match hold.state.as_str() {
            "held" => {
                repo::end_hold(db, &mut tx, hold.id, wanted, sold).await?;
                hold.state = wanted.to_owned();
                self.platform.metrics.operation(if sold { "stock_commit" } else { "stock_release" });
            }
            state if state == wanted => {}
            // The stock had left the shelf, but the money never came: it goes back.
            "committed" if !sold => {
                repo::restock(db, &mut tx, hold.id, wanted).await?;
                hold.state = wanted.to_owned();
                self.platform.metrics.operation("stock_restock");
            }
            // Released and expired are the same to somebody who wants it released.
            "expired" if !sold => {}
            state => {
                let detail = format!("the reservation of this order is {state}");
                return Err(ApiError::conflict("reservation_ended", detail).with("state", state.to_owned()));
            }
        }
        let answer = self.answer(&mut tx, order_id, hold).await?;
        db.commit(tx).await?;
        Ok(answer)
    }

    /// Frees the stock of holds that are over, until the order to stop.
    pub async fn expire(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut every = tokio::time::interval(EXPIRE_EVERY);
        loop {
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                _ = every.tick() => {}
            }
            match self.expire_some().await {
                Ok(0) => {}
                Ok(ended) => tracing::info!(ended, "reservations expired, their stock is free again"),
                Err(error) => tracing::debug!(%error, "expired reservations could not be ended"),
            }
        }
    }

    /// One round of [`Products::expire`]; how many holds it ended. Each in its own transaction: the rows of
    /// two holds together would not be taken in one order.
    pub async fn expire_some(&self) -> sqlx::Result<usize> {
        let db = &self.platform.db;
        let mut ended = 0;
        while ended < EXPIRE_AT_ONCE {
            let mut tx = db.begin().await?;
            let Some(hold) = repo::lock_expired(db, &mut tx).await? else { break };
            repo::end_hold(db, &mut tx, hold.id, "expired", false).await?;
            db.commit(tx).await?;
            ended += 1;
        }
        Ok(ended)
    }
}

/// Lines in the order of their product ids, one per product: transactions that take rows in one order
/// never wait for each other in a circle.
fn in_lock_order(mut lines: Vec<RequestedLine>) -> ApiResult<Vec<RequestedLine>> {
    lines.sort_by_key(|line| line.product_id);
    let twice = lines.windows(2).any(|pair| pair[0].product_id == pair[1].product_id);
    if lines.is_empty() || twice || lines.iter().any(|line| line.quantity < 1) {
        let detail = "a reservation needs lines of different products with quantities above zero";
        return Err(ApiError::bad_request("invalid_lines", detail));
    }
    Ok(lines)
}
