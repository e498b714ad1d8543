//! What was last written to AWS under a name: the third side of a three-way comparison.

use telemetry::Timestamp;

use super::db::on;
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

#[derive(sqlx::FromRow)]
struct Stored {
    kind: String,
    name: String,
    hash: String,
    body: String,
    published_at: i64,
}

impl State {
    /// Everything of one kind, by name.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn published(&self, kind: &str) -> Result<Vec<Published>, StateError> {
        let work = async {
            on!(&self.db, pool, DB => {
                let query = sqlx::query_as::<DB, Stored>(
                    "SELECT kind, name, hash, body, published_at FROM published WHERE kind = $1 ORDER BY name",
                );
                query.bind(kind.to_owned()).fetch_all(pool).await
            })
        };
        let read = |row: Stored| Published {
            kind: row.kind,
            name: row.name,
            hash: row.hash,
            body: row.body,
            published_at: Timestamp(row.published_at),
        };
        Ok(self.call("load published", work).await?.into_iter().map(read).collect())
    }

    /// # Errors
    /// See [`StateError`].
    pub async fn save_published(&self, published: &Published) -> Result<(), StateError> {
        let work = async {
            on!(&self.db, pool, DB => {
                sqlx::query::<DB>(
                    "INSERT INTO published (kind, name, hash, body, published_at) VALUES ($1, $2, $3, $4, $5)
                     ON CONFLICT (kind, name) DO UPDATE SET hash = excluded.hash, body = excluded.body,
                       published_at = excluded.published_at",
                )
                .bind(published.kind.clone())
                .bind(published.name.clone())
                .bind(published.hash.clone())
                .bind(published.body.clone())
                .bind(published.published_at.as_millis())
                .execute(pool)
                .await
                .map(drop)
            })
        };
        self.call("save published", work).await
    }

    /// # Errors
    /// See [`StateError`].
    pub async fn forget_published(&self, kind: &str, name: &str) -> Result<(), StateError> {
        let work = async {
            on!(&self.db, pool, DB => {
                let query = sqlx::query::<DB>("DELETE FROM published WHERE kind = $1 AND name = $2");
                query.bind(kind.to_owned()).bind(name.to_owned()).execute(pool).await.map(drop)
            })
        };
        self.call("forget published", work).await
    }
}
