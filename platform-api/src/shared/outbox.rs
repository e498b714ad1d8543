//! Events, written in the transaction of the change that they tell of, so that one never stands
//! without the other. The worker delivers them (`crate::worker`).

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use service::Shutdown;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Platform;
use super::db::{Db, Query};
use super::trace;

/// What the worker listens on; the notification is only a wake-up, the table is the truth.
pub const CHANNEL: &str = "outbox";

/// Between two looks at how much waits.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// An event as consumers receive it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    pub id: Uuid,
    #[serde(rename = "type")]
    pub kind: String,
    /// Events of one key (an order, a user) arrive in order.
    pub key: Uuid,
    pub org_id: Uuid,
    pub occurred_at: DateTime<Utc>,
    pub payload: serde_json::Value,
}

/// Something that can be told: its type name is its contract, with a version.
pub trait Tell: Serialize {
    const TYPE: &'static str;
    fn key(&self) -> Uuid;
    fn org_id(&self) -> Uuid;
}

/// Stores the event and one delivery per subscribed consumer, and wakes the worker at commit.
///
/// # Errors
/// The database refuses.
pub async fn tell<T: Tell>(connection: &mut PgConnection, told: &T) -> sqlx::Result<()> {
    let payload = serde_json::to_value(told).map_err(|e| sqlx::Error::Encode(Box::new(e)))?;
    sqlx::query(
        "WITH event AS (
             INSERT INTO shared.outbox (id, type, key, org_id, payload, traceparent)
             VALUES ($1, $2, $3, $4, $5, $6) RETURNING id, type, key
         ), routed AS (
             INSERT INTO shared.deliveries (event_id, consumer, key)
             SELECT event.id, s.consumer, event.key
             FROM event JOIN shared.subscriptions s ON s.event_type = event.type
         )
         SELECT pg_notify($7, '')",
    )
    .bind(Uuid::now_v7())
    .bind(T::TYPE)
    .bind(told.key())
    .bind(told.org_id())
    .bind(payload)
    .bind(trace::current().map(|t| t.to_string()))
    .bind(CHANNEL)
    .execute(connection)
    .await?;
    Ok(())
}

/// What waits for one consumer.
#[derive(Debug, sqlx::FromRow)]
pub struct Backlog {
    pub consumer: String,
    pub depth: i64,
    pub oldest_age_s: f64,
}

/// What waits, for every consumer that subscribes to anything.
///
/// # Errors
/// The database refuses.
pub async fn backlog(db: &Db) -> sqlx::Result<Vec<Backlog>> {
    let select = sqlx::query_as(
        "SELECT s.consumer, count(d.seq) AS depth,
                coalesce(extract(epoch FROM now() - min(d.created_at)), 0)::float8 AS oldest_age_s
         FROM (SELECT DISTINCT consumer FROM shared.subscriptions) s
         LEFT JOIN shared.deliveries d ON d.consumer = s.consumer AND d.delivered_at IS NULL AND d.dead_at IS NULL
         GROUP BY s.consumer",
    );
    db.timed(Query::Select, select.fetch_all(&db.pool)).await
}

/// Keeps the queue's gauges current until the order to stop. Whoever fills the queue measures it as
/// well as whoever empties it: a queue must be seen to grow also when the worker is away.
pub async fn measure(platform: Platform, shutdown: Shutdown) -> anyhow::Result<()> {
    let mut every = tokio::time::interval(MEASURE_EVERY);
    loop {
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            _ = every.tick() => {}
        }
        match backlog(&platform.db).await {
            Ok(queues) => queues.iter().for_each(|q| platform.metrics.queue(&q.consumer, q.depth, q.oldest_age_s)),
            Err(error) => tracing::debug!(%error, "the queue could not be measured"),
        }
    }
}
