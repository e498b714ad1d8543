//! The history of scaling decisions: what was wanted, what was there, what was done, and why.

use telemetry::Timestamp;

use super::db::on;
use super::{State, StateError};

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalingEntry {
    pub at: Timestamp,
    /// `service/CLUSTER/SERVICE`.
    pub resource: String,
    /// The schedule (and window) that asked for it.
    pub schedule: String,
    /// `applied`, `held`, `failed`: a small closed set of the scaling stage.
    pub outcome: String,
    pub min_before: Option<i64>,
    pub max_before: Option<i64>,
    pub min_after: Option<i64>,
    pub max_after: Option<i64>,
    /// For people: why it was done, or what stood against it.
    pub reason: String,
}

#[derive(sqlx::FromRow)]
struct Stored {
    at: i64,
    resource: String,
    schedule: String,
    outcome: String,
    min_before: Option<i64>,
    max_before: Option<i64>,
    min_after: Option<i64>,
    max_after: Option<i64>,
    reason: String,
}

impl State {
    /// # Errors
    /// See [`StateError`].
    pub async fn append_scaling(&self, entry: &ScalingEntry) -> Result<(), StateError> {
        let work = async {
            on!(&self.db, pool, DB => {
                sqlx::query::<DB>(
                    "INSERT INTO scaling_history
                       (at, resource, schedule, outcome, min_before, max_before, min_after, max_after, reason)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                )
                .bind(entry.at.as_millis())
                .bind(entry.resource.clone())
                .bind(entry.schedule.clone())
                .bind(entry.outcome.clone())
                .bind(entry.min_before)
                .bind(entry.max_before)
                .bind(entry.min_after)
                .bind(entry.max_after)
                .bind(entry.reason.clone())
                .execute(pool)
                .await
                .map(drop)
            })
        };
        self.call("save scaling history", work).await
    }

    /// The newest `limit` decisions, newest first; of one resource when it is named.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn scaling_history(&self, resource: Option<&str>, limit: u32) -> Result<Vec<ScalingEntry>, StateError> {
        let resource = resource.map(str::to_owned);
        let work = async {
            on!(&self.db, pool, DB => {
                let query = sqlx::query_as::<DB, Stored>(
                    "SELECT at, resource, schedule, outcome, min_before, max_before, min_after, max_after, reason
                     FROM scaling_history WHERE (CAST($1 AS TEXT) IS NULL OR resource = $1) ORDER BY id DESC LIMIT $2",
                );
                query.bind(resource).bind(i64::from(limit)).fetch_all(pool).await
            })
        };
        let read = |row: Stored| ScalingEntry {
            at: Timestamp(row.at),
            resource: row.resource,
            schedule: row.schedule,
            outcome: row.outcome,
            min_before: row.min_before,
            max_before: row.max_before,
            min_after: row.min_after,
            max_after: row.max_after,
            reason: row.reason,
        };
        Ok(self.call("load scaling history", work).await?.into_iter().map(read).collect())
    }
}
