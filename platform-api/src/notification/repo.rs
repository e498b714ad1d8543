//! The notification domain's SQL.

use sqlx::PgConnection;
use uuid::Uuid;

use super::model::{Message, Notification};
use crate::shared::db::{Db, Query};
use crate::shared::outbox::Event;
use crate::shared::page::Cursor;

/// False when the event stands in the inbox already: its effect is done.
pub async fn receive(db: &Db, tx: &mut PgConnection, event_id: Uuid) -> sqlx::Result<bool> {
    let insert =
        sqlx::query("INSERT INTO notifications.inbox (event_id) VALUES ($1) ON CONFLICT DO NOTHING").bind(event_id);
    Ok(db.timed(Query::Insert, insert.execute(tx)).await?.rows_affected() == 1)
}

/// The notification is as old as its event, however late it arrives.
pub async fn insert(db: &Db, tx: &mut PgConnection, event: &Event, message: &Message) -> sqlx::Result<()> {
    let insert = sqlx::query(
        "INSERT INTO notifications.notifications (id, created_at, org_id, user_id, kind, title, body)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(Uuid::now_v7())
    .bind(event.occurred_at)
    .bind(event.org_id)
    .bind(message.user_id)
    .bind(&event.kind)
    .bind(&message.title)
    .bind(&message.body);
    db.timed(Query::Insert, insert.execute(tx)).await.map(drop)
}

pub async fn notifications(
    db: &Db,
    user_id: Uuid,
    unread: bool,
    after: Option<Cursor>,
    limit: i64,
) -> sqlx::Result<Vec<Notification>> {
    let select = sqlx::query_as(
        "SELECT id, kind, title, body, read_at, created_at FROM notifications.notifications
         WHERE user_id = $1 AND deleted_at IS NULL AND (NOT $2 OR read_at IS NULL)
           AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4))
         ORDER BY created_at DESC, id DESC LIMIT $5",
    )
    .bind(user_id)
    .bind(unread)
    .bind(after.map(|c| c.created_at))
    .bind(after.map(|c| c.id))
    .bind(limit);
    db.timed(Query::Select, select.fetch_all(&db.pool)).await
}

/// Marks it read, once; None when the user has no such notification.
pub async fn read(db: &Db, user_id: Uuid, id: Uuid) -> sqlx::Result<Option<Notification>> {
    let update = sqlx::query_as(
        "UPDATE notifications.notifications SET read_at = coalesce(read_at, now()), updated_by = $1
         WHERE id = $2 AND user_id = $1 AND deleted_at IS NULL
         RETURNING id, kind, title, body, read_at, created_at",
    )
    .bind(user_id)
    .bind(id);
    db.timed(Query::Update, update.fetch_optional(&db.pool)).await
}

pub async fn prune_inbox(db: &Db) -> sqlx::Result<u64> {
    let delete = sqlx::query("DELETE FROM notifications.inbox WHERE received_at < now() - interval '7 days'");
    Ok(db.timed(Query::Delete, delete.execute(&db.pool)).await?.rows_affected())
}
