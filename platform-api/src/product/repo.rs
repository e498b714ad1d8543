//! The product domain's SQL. Stock changes only in statements that carry their own condition.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::model::{Inventory, NewProduct, Product, ReservedLine};
use crate::shared::auth::Caller;
use crate::shared::db::{Db, Query};
use crate::shared::page::Cursor;

/// The row of a hold.
#[derive(Debug, sqlx::FromRow)]
pub struct Hold {
    pub id: Uuid,
    pub org_id: Uuid,
    pub state: String,
    pub expires_at: DateTime<Utc>,
}

pub async fn insert(db: &Db, tx: &mut PgConnection, caller: &Caller, new: &NewProduct) -> sqlx::Result<Product> {
    let insert = sqlx::query_as(
        "INSERT INTO products.products (id, created_by, updated_by, org_id, sku, name, description, price_minor, currency)
         VALUES ($1, $2, $2, $3, $4, $5, $6, $7, $8)
         RETURNING id, sku, name, description, price_minor, currency, created_at, updated_at, version",
    )
    .bind(Uuid::now_v7())
    .bind(caller.user_id)
    .bind(caller.org_id)
    .bind(&new.sku)
    .bind(&new.name)
    .bind(&new.description)
    .bind(new.price_minor)
    .bind(&new.currency);
    let product: Product = db.timed(Query::Insert, insert.fetch_one(&mut *tx)).await?;
    let stock = sqlx::query(
        "INSERT INTO products.inventory (id, created_by, updated_by, product_id, on_hand) VALUES ($1, $2, $2, $3, $4)",
    )
    .bind(Uuid::now_v7())
    .bind(caller.user_id)
    .bind(product.id)
    .bind(new.on_hand);
    db.timed(Query::Insert, stock.execute(tx)).await?;
    Ok(product)
}

pub async fn product(db: &Db, org_id: Uuid, id: Uuid) -> sqlx::Result<Option<Product>> {
    let select = sqlx::query_as(
        "SELECT id, sku, name, description, price_minor, currency, created_at, updated_at, version
         FROM products.products WHERE id = $1 AND org_id = $2 AND deleted_at IS NULL",
    )
    .bind(id)
    .bind(org_id);
    db.timed(Query::Select, select.fetch_optional(&db.pool)).await
}

pub async fn products(db: &Db, org_id: Uuid, after: Option<Cursor>, limit: i64) -> sqlx::Result<Vec<Product>> {
    let select = sqlx::query_as(
        "SELECT id, sku, name, description, price_minor, currency, created_at, updated_at, version
         FROM products.products
         WHERE org_id = $1 AND deleted_at IS NULL AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3))
         ORDER BY created_at DESC, id DESC LIMIT $4",
    )
    .bind(org_id)
    .bind(after.map(|c| c.created_at))
    .bind(after.map(|c| c.id))
    .bind(limit);
    db.timed(Query::Select, select.fetch_all(&db.pool)).await
}

pub async fn inventory(db: &Db, org_id: Uuid, product_id: Uuid) -> sqlx::Result<Option<Inventory>> {
    let select = sqlx::query_as(
        "SELECT i.product_id, i.on_hand, i.reserved, i.on_hand - i.reserved AS available, i.updated_at, i.version
         FROM products.inventory i JOIN products.products p ON p.id = i.product_id
         WHERE p.id = $1 AND p.org_id = $2 AND p.deleted_at IS NULL",
    )
    .bind(product_id)
    .bind(org_id);
    db.timed(Query::Select, select.fetch_optional(&db.pool)).await
}

/// None when there is no such product, or more is held than `on_hand`.
pub async fn set_on_hand(db: &Db, caller: &Caller, product_id: Uuid, on_hand: i32) -> sqlx::Result<Option<Inventory>> {
    let update = sqlx::query_as(
        "UPDATE products.inventory i SET on_hand = $3, updated_by = $4
         FROM products.products p
         WHERE p.id = i.product_id AND p.id = $1 AND p.org_id = $2 AND p.deleted_at IS NULL AND i.reserved <= $3
         RETURNING i.product_id, i.on_hand, i.reserved, i.on_hand - i.reserved AS available, i.updated_at, i.version",
    )
    .bind(product_id)
    .bind(caller.org_id)
    .bind(on_hand)
    .bind(caller.user_id);
    db.timed(Query::Update, update.fetch_optional(&db.pool)).await
}

/// Begins a hold; None when the order has one already.
pub async fn insert_hold(
    db: &Db,
    tx: &mut PgConnection,
    org_id: Uuid,
    order_id: Uuid,
    ttl_s: u32,
) -> sqlx::Result<Option<Hold>> {
    let insert = sqlx::query_as(
        "INSERT INTO products.reservations (id, org_id, order_id, state, expires_at)
         VALUES ($1, $2, $3, 'held', now() + make_interval(secs => $4))
         ON CONFLICT (order_id) DO NOTHING RETURNING id, org_id, state, expires_at",
    )
    .bind(Uuid::now_v7())
    .bind(org_id)
    .bind(order_id)
    .bind(f64::from(ttl_s));
    db.timed(Query::Insert, insert.fetch_optional(tx)).await
}

/// Takes `quantity` pieces for the hold at today's price; None when there are not as many, or no such product.
pub async fn reserve_line(
    db: &Db,
    tx: &mut PgConnection,
    hold: &Hold,
    product_id: Uuid,
    quantity: i32,
) -> sqlx::Result<Option<ReservedLine>> {
    let update = sqlx::query_as(
        "WITH taken AS (
             UPDATE products.inventory i SET reserved = i.reserved + $3
             FROM products.products p
             WHERE p.id = i.product_id AND p.id = $2 AND p.org_id = $4 AND p.deleted_at IS NULL
               AND i.on_hand - i.reserved >= $3
             RETURNING p.id, p.name, p.price_minor, p.currency
         )
         INSERT INTO products.reservation_lines (reservation_id, product_id, quantity, unit_price_minor, currency, name)
         SELECT $1, id, $3, price_minor, currency, name FROM taken
         RETURNING product_id, name, quantity, unit_price_minor, currency",
    )
    .bind(hold.id)
    .bind(product_id)
    .bind(quantity)
    .bind(hold.org_id);
    db.timed(Query::Update, update.fetch_optional(tx)).await
}

pub async fn lines(db: &Db, tx: &mut PgConnection, hold_id: Uuid) -> sqlx::Result<Vec<ReservedLine>> {
    let select = sqlx::query_as(
        "SELECT product_id, name, quantity, unit_price_minor, currency
         FROM products.reservation_lines WHERE reservation_id = $1 ORDER BY product_id",
    )
    .bind(hold_id);
    db.timed(Query::Select, select.fetch_all(tx)).await
}

/// The order's hold, locked until the transaction ends.
pub async fn lock_hold(db: &Db, tx: &mut PgConnection, order_id: Uuid) -> sqlx::Result<Option<Hold>> {
    let select = sqlx::query_as(
        "SELECT id, org_id, state, expires_at FROM products.reservations WHERE order_id = $1 FOR UPDATE",
    )
    .bind(order_id);
    db.timed(Query::Select, select.fetch_optional(tx)).await
}

/// The hold that has been over for longest; locked, and skipping those that somebody else is ending.
pub async fn lock_expired(db: &Db, tx: &mut PgConnection) -> sqlx::Result<Option<Hold>> {
    let select = sqlx::query_as(
        "SELECT id, org_id, state, expires_at FROM products.reservations
         WHERE state = 'held' AND expires_at <= now() ORDER BY expires_at LIMIT 1 FOR UPDATE SKIP LOCKED",
    );
    db.timed(Query::Select, select.fetch_optional(tx)).await
}

/// Puts the pieces of a committed hold back on the shelf.
pub async fn restock(db: &Db, tx: &mut PgConnection, hold_id: Uuid, state: &str) -> sqlx::Result<()> {
    for line in lines(db, tx, hold_id).await? {
        let update = sqlx::query("UPDATE products.inventory SET on_hand = on_hand + $2 WHERE product_id = $1")
            .bind(line.product_id)
            .bind(line.quantity);
        db.timed(Query::Update, update.execute(&mut *tx)).await?;
    }
    set_hold_state(db, tx, hold_id, state).await
}

async fn set_hold_state(db: &Db, tx: &mut PgConnection, hold_id: Uuid, state: &str) -> sqlx::Result<()> {
    let update = sqlx::query("UPDATE products.reservations SET state = $2 WHERE id = $1").bind(hold_id).bind(state);
    db.timed(Query::Update, update.execute(tx)).await.map(drop)
}

/// Ends a hold. What was sold leaves the stock, what was not is free again. Rows are taken in the order
/// of product ids, as when they were reserved, so that two transactions never wait for each other.
pub async fn end_hold(db: &Db, tx: &mut PgConnection, hold_id: Uuid, state: &str, sold: bool) -> sqlx::Result<()> {
    for line in lines(db, tx, hold_id).await? {
        let update = sqlx::query(
            "UPDATE products.inventory SET reserved = reserved - $2, on_hand = on_hand - $3 WHERE product_id = $1",
        )
        .bind(line.product_id)
        .bind(line.quantity)
        .bind(if sold { line.quantity } else { 0 });
        db.timed(Query::Update, update.execute(&mut *tx)).await?;
    }
    set_hold_state(db, tx, hold_id, state).await
}
