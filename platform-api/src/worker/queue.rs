//! The deliveries' SQL. A claim is a lease: `next_attempt_at` moves ahead, and a relay that dies gives
//! its claims back by doing nothing.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::shared::db::{Db, Query};
use crate::shared::outbox::Event;

/// Longer than a call may take, many times over.
const LEASE_S: f64 = 30.0;
/// The reason is for a person who looks at the dead letter.
const ERROR_CHARS_MAX: usize = 500;

/// A delivery that is ours for the time of the lease.
#[derive(Debug)]
pub struct Claimed {
    pub seq: i64,
    pub consumer: String,
    /// This one included.
    pub attempts: i32,
    pub traceparent: Option<String>,
    pub event: Event,
}

#[derive(sqlx::FromRow)]
struct Row {
    seq: i64,
    consumer: String,
    attempts: i32,
    id: Uuid,
    kind: String,
    key: Uuid,
    org_id: Uuid,
    payload: serde_json::Value,
    traceparent: Option<String>,
    occurred_at: DateTime<Utc>,
}

/// The oldest deliveries that are due and not another relay's. One whose key has an earlier delivery
/// open waits for it: a consumer sees the events of one order in their order.
pub async fn claim(db: &Db, limit: i64) -> sqlx::Result<Vec<Claimed>> {
    let update = sqlx::query_as(
        "WITH due AS (
             SELECT d.seq FROM shared.deliveries d
             WHERE d.delivered_at IS NULL AND d.dead_at IS NULL AND d.next_attempt_at <= now()
               AND NOT EXISTS (
                   SELECT FROM shared.deliveries earlier
                   WHERE earlier.consumer = d.consumer AND earlier.key = d.key AND earlier.seq < d.seq
                     AND earlier.delivered_at IS NULL AND earlier.dead_at IS NULL)
             ORDER BY d.seq LIMIT $1 FOR UPDATE OF d SKIP LOCKED
         )
         UPDATE shared.deliveries d
         SET attempts = d.attempts + 1, next_attempt_at = now() + make_interval(secs => $2)
         FROM due, shared.outbox o
         WHERE d.seq = due.seq AND o.id = d.event_id
         RETURNING d.seq, d.consumer, d.attempts, o.id, o.type AS kind, o.key, o.org_id, o.payload, o.traceparent,
                   o.occurred_at",
    )
    .bind(limit)
    .bind(LEASE_S);
    let mut rows: Vec<Row> = db.timed(Query::Update, update.fetch_all(&db.pool)).await?;
    rows.sort_by_key(|row| row.seq);
    Ok(rows.into_iter().map(Row::into_claimed).collect())
}

impl Row {
    fn into_claimed(self) -> Claimed {
        let event = Event {
            id: self.id,
            kind: self.kind,
            key: self.key,
            org_id: self.org_id,
            occurred_at: self.occurred_at,
            payload: self.payload,
        };
        Claimed {
            seq: self.seq,
            consumer: self.consumer,
            attempts: self.attempts,
            traceparent: self.traceparent,
            event,
        }
    }
}

pub async fn delivered(db: &Db, seq: i64) -> sqlx::Result<()> {
    let update =
        sqlx::query("UPDATE shared.deliveries SET delivered_at = now(), last_error = NULL WHERE seq = $1").bind(seq);
    db.timed(Query::Update, update.execute(&db.pool)).await.map(drop)
}

pub async fn failed(db: &Db, seq: i64, why: &str, pause: Duration) -> sqlx::Result<()> {
    let update = sqlx::query(
        "UPDATE shared.deliveries SET last_error = left($2, $4), next_attempt_at = now() + make_interval(secs => $3)
         WHERE seq = $1",
    )
    .bind(seq)
    .bind(why)
    .bind(pause.as_secs_f64())
    .bind(ERROR_CHARS_MAX as i32);
    db.timed(Query::Update, update.execute(&db.pool)).await.map(drop)
}

pub async fn dead(db: &Db, seq: i64, why: &str) -> sqlx::Result<()> {
    let update = sqlx::query("UPDATE shared.deliveries SET last_error = left($2, $3), dead_at = now() WHERE seq = $1")
        .bind(seq)
        .bind(why)
        .bind(ERROR_CHARS_MAX as i32);
    db.timed(Query::Update, update.execute(&db.pool)).await.map(drop)
}

/// Throws away events that all their consumers have had for a day; dead letters stay.
pub async fn prune(db: &Db) -> sqlx::Result<u64> {
    let delete = sqlx::query(
        "DELETE FROM shared.outbox o
         WHERE o.occurred_at < now() - interval '1 day'
           AND NOT EXISTS (SELECT FROM shared.deliveries d WHERE d.event_id = o.id AND d.delivered_at IS NULL)",
    );
    Ok(db.timed(Query::Delete, delete.execute(&db.pool)).await?.rows_affected())
}
