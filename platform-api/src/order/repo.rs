//! The order domain's SQL.

use uuid::Uuid;

use sqlx::PgConnection;

use super::model::{Line, OrderRow};
use super::state::State;
use crate::shared::db::{Db, Query};
use crate::shared::page::Cursor;

/// A payment that has begun.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Attempt {
    pub id: Uuid,
    pub attempt: i32,
}

pub async fn insert(db: &Db, tx: &mut PgConnection, order: &OrderRow, lines: &[Line]) -> sqlx::Result<OrderRow> {
    let insert = sqlx::query_as(
        "INSERT INTO orders.orders (id, created_by, updated_by, org_id, user_id, state, currency, total_minor, reserved_until)
         VALUES ($1, $2, $2, $3, $2, $4, $5, $6, $7)
         RETURNING id, org_id, user_id, state, failed_payments, currency, total_minor, reserved_until, created_at, updated_at, version",
    )
    .bind(order.id)
    .bind(order.user_id)
    .bind(order.org_id)
    .bind(&order.state)
    .bind(&order.currency)
    .bind(order.total_minor)
    .bind(order.reserved_until);
    let row = db.timed(Query::Insert, insert.fetch_one(&mut *tx)).await?;
    let insert = sqlx::query(
        "INSERT INTO orders.order_lines (order_id, line, product_id, name, quantity, unit_price_minor)
         SELECT $1, line, product_id, name, quantity, unit_price_minor
         FROM unnest($2::int[], $3::uuid[], $4::text[], $5::int[], $6::bigint[])
              AS l (line, product_id, name, quantity, unit_price_minor)",
    )
    .bind(order.id)
    .bind((1..=lines.len() as i32).collect::<Vec<_>>())
    .bind(lines.iter().map(|l| l.product_id).collect::<Vec<_>>())
    .bind(lines.iter().map(|l| l.name.clone()).collect::<Vec<_>>())
    .bind(lines.iter().map(|l| l.quantity).collect::<Vec<_>>())
    .bind(lines.iter().map(|l| l.unit_price_minor).collect::<Vec<_>>());
    db.timed(Query::Insert, insert.execute(tx)).await?;
    Ok(row)
}

/// `owner` narrows to the orders of one user.
pub async fn order(db: &Db, org_id: Uuid, owner: Option<Uuid>, id: Uuid) -> sqlx::Result<Option<OrderRow>> {
    let select = sqlx::query_as(
        "SELECT id, org_id, user_id, state, failed_payments, currency, total_minor, reserved_until, created_at, updated_at, version
         FROM orders.orders
         WHERE id = $1 AND org_id = $2 AND ($3::uuid IS NULL OR user_id = $3) AND deleted_at IS NULL",
    )
    .bind(id)
    .bind(org_id)
    .bind(owner);
    db.timed(Query::Select, select.fetch_optional(&db.pool)).await
}

/// The order, locked until the transaction ends.
pub async fn lock(
    db: &Db,
    tx: &mut PgConnection,
    org_id: Uuid,
    owner: Option<Uuid>,
    id: Uuid,
) -> sqlx::Result<Option<OrderRow>> {
    let select = sqlx::query_as(
        "SELECT id, org_id, user_id, state, failed_payments, currency, total_minor, reserved_until, created_at, updated_at, version
         FROM orders.orders
         WHERE id = $1 AND org_id = $2 AND ($3::uuid IS NULL OR user_id = $3) AND deleted_at IS NULL FOR UPDATE",
    )
    .bind(id)
    .bind(org_id)
    .bind(owner);
    db.timed(Query::Select, select.fetch_optional(tx)).await
}

/// The order that has been waiting for its payment for longest, and for too long, unless it is just
/// being paid; locked, and skipping those that somebody else has locked.
pub async fn lock_overdue(db: &Db, tx: &mut PgConnection, overdue_s: f64) -> sqlx::Result<Option<OrderRow>> {
    let select = sqlx::query_as(
        "SELECT id, org_id, user_id, state, failed_payments, currency, total_minor, reserved_until, created_at, updated_at, version
         FROM orders.orders o
         WHERE state IN ('reserved', 'payment_failed') AND reserved_until < now() - make_interval(secs => $1)
           AND NOT EXISTS (SELECT FROM orders.payment_attempts a WHERE a.order_id = o.id AND a.state = 'started')
         ORDER BY reserved_until LIMIT 1 FOR UPDATE OF o SKIP LOCKED",
    )
    .bind(overdue_s);
    db.timed(Query::Select, select.fetch_optional(tx)).await
}

pub async fn orders(
    db: &Db,
    org_id: Uuid,
    owner: Option<Uuid>,
    after: Option<Cursor>,
    limit: i64,
) -> sqlx::Result<Vec<OrderRow>> {
    let select = sqlx::query_as(
        "SELECT id, org_id, user_id, state, failed_payments, currency, total_minor, reserved_until, created_at, updated_at, version
         FROM orders.orders
         WHERE org_id = $1 AND ($2::uuid IS NULL OR user_id = $2) AND deleted_at IS NULL
           AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4))
         ORDER BY created_at DESC, id DESC LIMIT $5",
    )
    .bind(org_id)
    .bind(owner)
    .bind(after.map(|c| c.created_at))
    .bind(after.map(|c| c.id))
    .bind(limit);
    db.timed(Query::Select, select.fetch_all(&db.pool)).await
}

pub async fn lines(db: &Db, order_ids: &[Uuid]) -> sqlx::Result<Vec<Line>> {
    let select = sqlx::query_as(
        "SELECT order_id, product_id, name, quantity, unit_price_minor
         FROM orders.order_lines WHERE order_id = ANY ($1) ORDER BY order_id, line",
    )
    .bind(order_ids);
    db.timed(Query::Select, select.fetch_all(&db.pool)).await
}

pub async fn set_state(db: &Db, tx: &mut PgConnection, id: Uuid, by: Uuid, state: State) -> sqlx::Result<OrderRow> {
    let update = sqlx::query_as(
        "UPDATE orders.orders SET state = $2, failed_payments = $3, updated_by = $4 WHERE id = $1
         RETURNING id, org_id, user_id, state, failed_payments, currency, total_minor, reserved_until, created_at, updated_at, version",
    )
    .bind(id)
    .bind(state.as_str())
    .bind(state.failures() as i32)
    .bind(by);
    db.timed(Query::Update, update.fetch_one(tx)).await
}

/// Pieces in the order.
pub async fn units(db: &Db, tx: &mut PgConnection, order_id: Uuid) -> sqlx::Result<i64> {
    let select = sqlx::query_scalar("SELECT coalesce(sum(quantity), 0) FROM orders.order_lines WHERE order_id = $1")
        .bind(order_id);
    db.timed(Query::Select, select.fetch_one(tx)).await
}

/// Begins a payment, or takes over one whose request died `stale_s` ago; None while another is at it.
pub async fn begin_attempt(
    db: &Db,
    tx: &mut PgConnection,
    order_id: Uuid,
    stale_s: f64,
) -> sqlx::Result<Option<Attempt>> {
    let takeover = sqlx::query_as(
        "UPDATE orders.payment_attempts SET updated_at = now()
         WHERE order_id = $1 AND state = 'started' AND updated_at < now() - make_interval(secs => $2)
         RETURNING id, attempt",
    )
    .bind(order_id)
    .bind(stale_s);
    if let Some(attempt) = db.timed(Query::Update, takeover.fetch_optional(&mut *tx)).await? {
        return Ok(Some(attempt));
    }
    let insert = sqlx::query_as(
        "INSERT INTO orders.payment_attempts (id, order_id, attempt, state)
         SELECT $1, $2, coalesce(max(attempt), 0) + 1, 'started' FROM orders.payment_attempts WHERE order_id = $2
         ON CONFLICT DO NOTHING RETURNING id, attempt",
    )
    .bind(Uuid::now_v7())
    .bind(order_id);
    db.timed(Query::Insert, insert.fetch_optional(tx)).await
}

pub async fn has_open_attempt(db: &Db, tx: &mut PgConnection, order_id: Uuid) -> sqlx::Result<bool> {
    let select = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM orders.payment_attempts WHERE order_id = $1 AND state = 'started')",
    )
    .bind(order_id);
    db.timed(Query::Select, select.fetch_one(tx)).await
}

pub async fn end_attempt(
    db: &Db,
    tx: &mut PgConnection,
    attempt_id: Uuid,
    state: &str,
    provider_ref: Option<&str>,
) -> sqlx::Result<()> {
    let update = sqlx::query(
        "UPDATE orders.payment_attempts SET state = $2, provider_ref = $3, updated_at = now() WHERE id = $1",
    )
    .bind(attempt_id)
    .bind(state)
    .bind(provider_ref);
    db.timed(Query::Update, update.execute(tx)).await.map(drop)
}
