//! What was last written to AWS under a name: the third side of a three-way comparison.

use sqlx::Row;
use telemetry::Timestamp;

use super::{State, StateError};

/// Something that was published: a dashboard, an alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// `dashboard`, `alarm`.
    pub kind: String,
    pub name: String,
    /// Of the canonical body.
    pub hash: String,
    /// The body as it was written.
    pub body: String,
    pub published_at: Timestamp,
}

impl State {
    /// Everything of one kind, by name.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn published(&self, kind: &str) -> Result<Vec<Published>, StateError> {
        let query = sqlx::query("SELECT * FROM published WHERE kind = ? ORDER BY name").bind(kind);
        let rows = self.call("load published", query.fetch_all(&self.pool)).await?;
        let read = |row: &sqlx::sqlite::SqliteRow| Published {
            kind: row.get("kind"),
            name: row.get("name"),
            hash: row.get("hash"),
            body: row.get("body"),
            published_at: Timestamp(row.get("published_at")),
        };
        Ok(rows.iter().map(read).collect())
    }

    /// # Errors
    /// See [`StateError`].
    pub async fn save_published(&self, published: &Published) -> Result<(), StateError> {
        let query = sqlx::query(
            "INSERT INTO published (kind, name, hash, body, published_at) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (kind, name) DO UPDATE SET hash = excluded.hash, body = excluded.body,
               published_at = excluded.published_at",
        )
        .bind(&published.kind)
        .bind(&published.name)
        .bind(&published.hash)
        .bind(&published.body)
        .bind(published.published_at.as_millis());
        self.call("save published", query.execute(&self.pool)).await?;
        Ok(())
    }

    /// # Errors
    /// See [`StateError`].
    pub async fn forget_published(&self, kind: &str, name: &str) -> Result<(), StateError> {
        let query = sqlx::query("DELETE FROM published WHERE kind = ? AND name = ?").bind(kind).bind(name);
        self.call("forget published", query.execute(&self.pool)).await?;
        Ok(())
    }
}
