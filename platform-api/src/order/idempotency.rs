//! `Idempotency-Key` on order creation: a client that lost the answer asks again and gets the same order.
//!
//! The key's row is taken before anything happens and names the order's id from the start, so that an
//! attempt that died half-way is continued, not doubled. It is finished in the order's own transaction.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::http::{HeaderMap, StatusCode};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::shared::db::{Db, Query};
use crate::shared::error::{ApiError, ApiResult};

const HEADER: &str = "idempotency-key";
/// Longer than a request may take: then whoever held the key is gone.
const LOCK: Duration = Duration::from_secs(15);
/// A key is remembered this long.
const REMEMBERED: &str = "24 hours";

/// A key as the client sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

/// What the key says about this request.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// Go on, with this id for the order.
    Proceed(Uuid),
    /// It was done: answer with this order.
    Done(Uuid),
}

#[derive(sqlx::FromRow)]
struct Row {
    request_hash: Vec<u8>,
    order_id: Uuid,
    finished: bool,
    /// Nobody is at it any more.
    stale: bool,
}

impl Key {
    /// # Errors
    /// 400 for a key that is not 1 to 200 visible ASCII characters.
    pub fn of(headers: &HeaderMap) -> ApiResult<Option<Key>> {
        let Some(value) = headers.get(HEADER) else { return Ok(None) };
        let text = value.to_str().unwrap_or_default();
        let sane = (1..=200).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        sane.then(|| Some(Key(text.to_owned()))).ok_or_else(|| {
            ApiError::bad_request("invalid_idempotency_key", "Idempotency-Key takes 1 to 200 visible ASCII characters")
        })
    }
}

/// Takes the key for this request.
///
/// # Errors
/// 422 when the key came with another request, 409 while the first is still being worked on.
pub async fn claim(db: &Db, user_id: Uuid, key: &Key, request: &impl serde::Serialize) -> ApiResult<Claim> {
    let body = serde_json::to_vec(request).map_err(ApiError::internal)?;
    let hash = digest(&SHA256, &body);
    let order_id = Uuid::now_v7();
    let insert = sqlx::query(
        "INSERT INTO orders.idempotency_keys (user_id, key, request_hash, order_id, locked_until)
         VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5)) ON CONFLICT DO NOTHING",
    )
    .bind(user_id)
    .bind(&key.0)
    .bind(hash.as_ref())
    .bind(order_id)
    .bind(LOCK.as_secs_f64());
    if db.timed(Query::Insert, insert.execute(&db.pool)).await?.rows_affected() == 1 {
        return Ok(Claim::Proceed(order_id));
    }
    let mut tx = db.begin().await?;
    let select = sqlx::query_as(
        "SELECT request_hash, order_id, finished, locked_until < now() AS stale
         FROM orders.idempotency_keys WHERE user_id = $1 AND key = $2 FOR UPDATE",
    )
    .bind(user_id)
    .bind(&key.0);
    let row: Option<Row> = db.timed(Query::Select, select.fetch_optional(&mut *tx)).await?;
    let in_progress =
        || ApiError::conflict("idempotency_in_progress", "the first request with this key is not done yet");
    // Gone between the two statements: the first one failed just now.
    let row = row.ok_or_else(in_progress)?;
    if row.request_hash != hash.as_ref() {
        let detail = "this Idempotency-Key came with another request before";
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail));
    }
    if row.finished {
        return Ok(Claim::Done(row.order_id));
    }
    if !row.stale {
        return Err(in_progress());
    }
    let update = sqlx::query(
        "UPDATE orders.idempotency_keys SET locked_until = now() + make_interval(secs => $3)
         WHERE user_id = $1 AND key = $2",
    )
    .bind(user_id)
    .bind(&key.0)
    .bind(LOCK.as_secs_f64());
    db.timed(Query::Update, update.execute(&mut *tx)).await?;
    db.commit(tx).await?;
    Ok(Claim::Proceed(row.order_id))
}

/// Part of the order's transaction.
pub async fn finish(db: &Db, tx: &mut PgConnection, user_id: Uuid, key: &Key) -> sqlx::Result<()> {
    let update = sqlx::query("UPDATE orders.idempotency_keys SET finished = true WHERE user_id = $1 AND key = $2")
        .bind(user_id)
        .bind(&key.0);
    db.timed(Query::Update, update.execute(tx)).await.map(drop)
}

/// The request failed: the client may try again with the same key.
pub async fn forget(db: &Db, user_id: Uuid, key: &Key) -> sqlx::Result<()> {
    let delete = sqlx::query("DELETE FROM orders.idempotency_keys WHERE user_id = $1 AND key = $2 AND NOT finished")
        .bind(user_id)
        .bind(&key.0);
    db.timed(Query::Delete, delete.execute(&db.pool)).await.map(drop)
}

/// Throws away keys that are no longer remembered.
pub async fn prune(db: &Db) -> sqlx::Result<u64> {
    let delete = sqlx::query("DELETE FROM orders.idempotency_keys WHERE created_at < now() - $1::text::interval")
        .bind(REMEMBERED);
    Ok(db.timed(Query::Delete, delete.execute(&db.pool)).await?.rows_affected())
}
