//! Evidence by alert fingerprint, so that every replica, and a restarted one, sends the same annotations.

use sqlx::Row;
use telemetry::{Labels, Timestamp};

use super::alerts::json;
use super::{State, StateError};

/// What was found when an alert fired.
#[derive(Clone, Debug, PartialEq)]
pub struct EvidenceRow {
    pub fingerprint: String,
    /// The firing that it belongs to: the next one gathers anew.
    pub fired_at: Timestamp,
    pub annotations: Labels,
    pub gathered_at: Timestamp,
}

impl State {
    /// # Errors
    /// See [`StateError`].
    pub async fn evidence(&self, fingerprint: &str) -> Result<Option<EvidenceRow>, StateError> {
        let operation = "load evidence";
        let query = sqlx::query("SELECT * FROM evidence WHERE fingerprint = ?").bind(fingerprint);
        let Some(row) = self.call(operation, query.fetch_optional(&self.pool)).await? else { return Ok(None) };
        let annotations = serde_json::from_str(row.get::<&str, _>("annotations"))
            .map_err(|source| StateError::Decode { operation, source })?;
        Ok(Some(EvidenceRow {
            fingerprint: row.get("fingerprint"),
            fired_at: Timestamp(row.get("fired_at")),
            annotations,
            gathered_at: Timestamp(row.get("gathered_at")),
        }))
    }

    /// Keeps the newest firing's evidence; of two replicas that gathered for one firing the first wins.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn save_evidence(&self, row: &EvidenceRow) -> Result<(), StateError> {
        let query = sqlx::query(
            "INSERT INTO evidence (fingerprint, fired_at, annotations, gathered_at) VALUES (?, ?, ?, ?)
             ON CONFLICT (fingerprint) DO UPDATE SET fired_at = excluded.fired_at,
               annotations = excluded.annotations, gathered_at = excluded.gathered_at
             WHERE excluded.fired_at > evidence.fired_at",
        )
        .bind(&row.fingerprint)
        .bind(row.fired_at.as_millis())
        .bind(json(&row.annotations))
        .bind(row.gathered_at.as_millis());
        self.call("save evidence", query.execute(&self.pool)).await?;
        Ok(())
    }

    /// Forgets evidence gathered before `before`.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn forget_evidence(&self, before: Timestamp) -> Result<u64, StateError> {
        let query = sqlx::query("DELETE FROM evidence WHERE gathered_at < ?").bind(before.as_millis());
        Ok(self.call("forget evidence", query.execute(&self.pool)).await?.rows_affected())
    }
}
