//! When alerts fired and resolved: what the noise report is made from.

use telemetry::{Labels, Timestamp};

use super::alerts::{json, labels};
use super::db::on;
use super::{State, StateError};

/// One time an alert fired.
#[derive(Clone, Debug, PartialEq)]
pub struct FiringRow {
    pub rule_group: String,
    pub alert: String,
    pub fingerprint: String,
    pub fired_at: Timestamp,
    /// None while it fires.
    pub resolved_at: Option<Timestamp>,
    pub labels: Labels,
}

#[derive(sqlx::FromRow)]
struct Stored {
    rule_group: String,
    alert: String,
    fingerprint: String,
    fired_at: i64,
    resolved_at: Option<i64>,
    labels: String,
}

impl State {
    /// Notes firings and their ends; one that is there already keeps its end if the new one has none.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn note_firings(&self, rows: &[FiringRow]) -> Result<(), StateError> {
        let work = async {
            on!(&self.db, pool, DB => {
                let mut transaction = pool.begin().await?;
                for row in rows {
                    sqlx::query::<DB>(
                        "INSERT INTO alert_history (rule_group, alert, fingerprint, fired_at, resolved_at, labels)
                         VALUES ($1, $2, $3, $4, $5, $6)
                         ON CONFLICT (fingerprint, fired_at) DO UPDATE
                           SET resolved_at = coalesce(excluded.resolved_at, alert_history.resolved_at)",
                    )
                    .bind(row.rule_group.clone())
                    .bind(row.alert.clone())
                    .bind(row.fingerprint.clone())
                    .bind(row.fired_at.as_millis())
                    .bind(row.resolved_at.map(Timestamp::as_millis))
                    .bind(json(&row.labels))
                    .execute(&mut *transaction)
                    .await?;
                }
                transaction.commit().await
            })
        };
        self.call("save alert history", work).await
    }

    /// What fired since then, the oldest first.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn firings(&self, since: Timestamp) -> Result<Vec<FiringRow>, StateError> {
        let operation = "load alert history";
        let work = async {
            on!(&self.db, pool, DB => {
                let query = sqlx::query_as::<DB, Stored>(
                    "SELECT rule_group, alert, fingerprint, fired_at, resolved_at, labels FROM alert_history
                     WHERE fired_at >= $1 OR resolved_at IS NULL OR resolved_at >= $1
                     ORDER BY fired_at, fingerprint",
                );
                query.bind(since.as_millis()).fetch_all(pool).await
            })
        };
        let read = |row: Stored| {
            Ok(FiringRow {
                labels: labels(operation, &row.labels)?,
                rule_group: row.rule_group,
                alert: row.alert,
                fingerprint: row.fingerprint,
                fired_at: Timestamp(row.fired_at),
                resolved_at: row.resolved_at.map(Timestamp),
            })
        };
        self.call(operation, work).await?.into_iter().map(read).collect()
    }

    /// Forgets what fired before `before`.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn forget_firings(&self, before: Timestamp) -> Result<u64, StateError> {
        let work = async {
            on!(&self.db, pool, DB => {
                let query = sqlx::query::<DB>("DELETE FROM alert_history WHERE fired_at < $1");
                query.bind(before.as_millis()).execute(pool).await.map(|done| done.rows_affected())
            })
        };
        self.call("forget alert history", work).await
    }
}
