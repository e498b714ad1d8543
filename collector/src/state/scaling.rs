//! The history of scaling decisions: what was wanted, what was there, what was done, and why.

use sqlx::Row;
use telemetry::Timestamp;

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

impl State {
    /// # Errors
    /// See [`StateError`].
    pub async fn append_scaling(&self, entry: &ScalingEntry) -> Result<(), StateError> {
        let query = sqlx::query(
            "INSERT INTO scaling_history
               (at, resource, schedule, outcome, min_before, max_before, min_after, max_after, reason)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(entry.at.as_millis())
        .bind(&entry.resource)
        .bind(&entry.schedule)
        .bind(&entry.outcome)
        .bind(entry.min_before)
        .bind(entry.max_before)
        .bind(entry.min_after)
        .bind(entry.max_after)
        .bind(&entry.reason);
        self.call("save scaling history", query.execute(&self.pool)).await?;
        Ok(())
    }

    /// The newest `limit` decisions, newest first; of one resource when it is named.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn scaling_history(&self, resource: Option<&str>, limit: u32) -> Result<Vec<ScalingEntry>, StateError> {
        let query =
            sqlx::query("SELECT * FROM scaling_history WHERE (?1 IS NULL OR resource = ?1) ORDER BY id DESC LIMIT ?2")
                .bind(resource)
                .bind(limit);
        let rows = self.call("load scaling history", query.fetch_all(&self.pool)).await?;
        let read = |row: &sqlx::sqlite::SqliteRow| ScalingEntry {
            at: Timestamp(row.get("at")),
            resource: row.get("resource"),
            schedule: row.get("schedule"),
            outcome: row.get("outcome"),
            min_before: row.get("min_before"),
            max_before: row.get("max_before"),
            min_after: row.get("min_after"),
            max_after: row.get("max_after"),
            reason: row.get("reason"),
        };
        Ok(rows.iter().map(read).collect())
    }
}
