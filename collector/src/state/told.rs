//! What webhook receivers were told of each alert.

use telemetry::Timestamp;

use super::db::on;
use super::{State, StateError};

/// The last word about an alert to one receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldRow {
    pub fingerprint: String,
    /// The firing it was about.
    pub starts_at: Timestamp,
    pub resolved: bool,
    pub told_at: Timestamp,
}

#[derive(sqlx::FromRow)]
struct Stored {
    fingerprint: String,
    starts_at: i64,
    resolved: i64,
    told_at: i64,
}

impl State {
    /// # Errors
    /// See [`StateError`].
    pub async fn told(&self, receiver: &str, fingerprint: &str) -> Result<Option<ToldRow>, StateError> {
        let work = async {
            on!(&self.db, pool, DB => {
                let query = sqlx::query_as::<DB, Stored>(
                    "SELECT fingerprint, starts_at, resolved, told_at FROM webhook_log
                     WHERE receiver = $1 AND fingerprint = $2",
                );
                query.bind(receiver.to_owned()).bind(fingerprint.to_owned()).fetch_optional(pool).await
            })
        };
        let read = |row: Stored| ToldRow {
            fingerprint: row.fingerprint,
            starts_at: Timestamp(row.starts_at),
            resolved: row.resolved != 0,
            told_at: Timestamp(row.told_at),
        };
        Ok(self.call("load webhook log", work).await?.map(read))
    }

    /// # Errors
    /// See [`StateError`].
    pub async fn note_told(&self, receiver: &str, rows: &[ToldRow]) -> Result<(), StateError> {
        let work = async {
            on!(&self.db, pool, DB => {
                let mut transaction = pool.begin().await?;
                for row in rows {
                    sqlx::query::<DB>(
                        "INSERT INTO webhook_log (receiver, fingerprint, starts_at, resolved, told_at)
                         VALUES ($1, $2, $3, $4, $5)
                         ON CONFLICT (receiver, fingerprint) DO UPDATE SET starts_at = excluded.starts_at,
                           resolved = excluded.resolved, told_at = excluded.told_at",
                    )
                    .bind(receiver.to_owned())
                    .bind(row.fingerprint.clone())
                    .bind(row.starts_at.as_millis())
                    .bind(i64::from(row.resolved))
                    .bind(row.told_at.as_millis())
                    .execute(&mut *transaction)
                    .await?;
                }
                transaction.commit().await
            })
        };
        self.call("save webhook log", work).await
    }
}
