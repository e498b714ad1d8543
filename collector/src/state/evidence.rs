//! Evidence by alert fingerprint, so that every replica, and a restarted one, sends the same annotations.

use telemetry::{Labels, Timestamp};

use super::alerts::{json, labels};
use super::db::on;
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

#[derive(sqlx::FromRow)]
struct Stored {
    fingerprint: String,
    fired_at: i64,
    annotations: String,
    gathered_at: i64,
}

impl State {
    /// # Errors
    /// See [`StateError`].
    pub async fn evidence(&self, fingerprint: &str) -> Result<Option<EvidenceRow>, StateError> {
        let operation = "load evidence";
        let work = async {
            on!(&self.db, pool, DB => {
                let query = sqlx::query_as::<DB, Stored>(
                    "SELECT fingerprint, fired_at, annotations, gathered_at FROM evidence WHERE fingerprint = $1",
                );
                query.bind(fingerprint.to_owned()).fetch_optional(pool).await
            })
        };
        let Some(row) = self.call(operation, work).await? else { return Ok(None) };
        Ok(Some(EvidenceRow {
            fingerprint: row.fingerprint,
            fired_at: Timestamp(row.fired_at),
            annotations: labels(operation, &row.annotations)?,
            gathered_at: Timestamp(row.gathered_at),
        }))
    }

    /// Keeps the newest firing's evidence; of two replicas that gathered for one firing the first wins.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn save_evidence(&self, row: &EvidenceRow) -> Result<(), StateError> {
        let work = async {
            on!(&self.db, pool, DB => {
                sqlx::query::<DB>(
                    "INSERT INTO evidence (fingerprint, fired_at, annotations, gathered_at) VALUES ($1, $2, $3, $4)
                     ON CONFLICT (fingerprint) DO UPDATE SET fired_at = excluded.fired_at,
                       annotations = excluded.annotations, gathered_at = excluded.gathered_at
                     WHERE excluded.fired_at > evidence.fired_at",
                )
                .bind(row.fingerprint.clone())
                .bind(row.fired_at.as_millis())
                .bind(json(&row.annotations))
                .bind(row.gathered_at.as_millis())
                .execute(pool)
                .await
                .map(drop)
            })
        };
        self.call("save evidence", work).await
    }

    /// Forgets evidence gathered before `before`.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn forget_evidence(&self, before: Timestamp) -> Result<u64, StateError> {
        let work = async {
            on!(&self.db, pool, DB => {
                let query = sqlx::query::<DB>("DELETE FROM evidence WHERE gathered_at < $1");
                query.bind(before.as_millis()).execute(pool).await.map(|done| done.rows_affected())
            })
        };
        self.call("forget evidence", work).await
    }
}
