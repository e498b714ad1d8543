//! The analytics domain's SQL.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::model::{Addition, Granularity, Sales};
use crate::shared::db::{Db, Query};
use crate::shared::page::Cursor;

/// False when the event stands in the inbox already: its effect is done.
pub async fn receive(db: &Db, tx: &mut PgConnection, event_id: Uuid) -> sqlx::Result<bool> {
    let insert =
        sqlx::query("INSERT INTO analytics.inbox (event_id) VALUES ($1) ON CONFLICT DO NOTHING").bind(event_id);
    Ok(db.timed(Query::Insert, insert.execute(tx)).await?.rows_affected() == 1)
}

/// Adds to the hour in which the event happened; one that comes late re-opens its hour.
pub async fn add(
    db: &Db,
    tx: &mut PgConnection,
    org_id: Uuid,
    at: DateTime<Utc>,
    currency: &str,
    add: Addition,
) -> sqlx::Result<()> {
    let upsert = sqlx::query(
        "INSERT INTO analytics.sales_hourly AS s
             (id, org_id, bucket, currency, orders_created, orders_paid, orders_shipped, units_sold, revenue_minor)
         VALUES ($1, $2, date_trunc('hour', $3, 'UTC'), $4, $5, $6, $7, $8, $9)
         ON CONFLICT (org_id, bucket, currency) DO UPDATE SET
             orders_created = s.orders_created + excluded.orders_created,
             orders_paid = s.orders_paid + excluded.orders_paid,
             orders_shipped = s.orders_shipped + excluded.orders_shipped,
             units_sold = s.units_sold + excluded.units_sold,
             revenue_minor = s.revenue_minor + excluded.revenue_minor",
    )
    .bind(Uuid::now_v7())
    .bind(org_id)
    .bind(at)
    .bind(currency)
    .bind(add.created)
    .bind(add.paid)
    .bind(add.shipped)
    .bind(add.units)
    .bind(add.revenue_minor);
    db.timed(Query::Insert, upsert.execute(tx)).await.map(drop)
}

/// Newest first. `position` tells currencies of one bucket apart for the cursor.
pub async fn sales(
    db: &Db,
    org_id: Uuid,
    span: (DateTime<Utc>, DateTime<Utc>),
    granularity: Granularity,
    after: Option<Cursor>,
    limit: i64,
) -> sqlx::Result<Vec<Sales>> {
    let select = sqlx::query_as(
        "WITH buckets AS (
             SELECT date_trunc($4, bucket, 'UTC') AS bucket, currency, md5(currency)::uuid AS position,
                    sum(orders_created)::bigint AS orders_created, sum(orders_paid)::bigint AS orders_paid,
                    sum(orders_shipped)::bigint AS orders_shipped, sum(units_sold)::bigint AS units_sold,
                    sum(revenue_minor)::bigint AS revenue_minor
             FROM analytics.sales_hourly
             WHERE org_id = $1 AND bucket >= $2 AND bucket < $3 AND deleted_at IS NULL
             GROUP BY 1, 2
         )
         SELECT * FROM buckets WHERE $5::timestamptz IS NULL OR (bucket, position) < ($5, $6)
         ORDER BY bucket DESC, position DESC LIMIT $7",
    )
    .bind(org_id)
    .bind(span.0)
    .bind(span.1)
    .bind(granularity.as_str())
    .bind(after.map(|c| c.created_at))
    .bind(after.map(|c| c.id))
    .bind(limit);
    db.timed(Query::Select, select.fetch_all(&db.pool)).await
}

pub async fn prune_inbox(db: &Db) -> sqlx::Result<u64> {
    let delete = sqlx::query("DELETE FROM analytics.inbox WHERE received_at < now() - interval '7 days'");
    Ok(db.timed(Query::Delete, delete.execute(&db.pool)).await?.rows_affected())
}
