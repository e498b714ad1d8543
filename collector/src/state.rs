//! What must survive a replaced task, in SQL: the `state:` block.
//!
//! In and out: small typed rows for the stages that own them (alerts, evidence, publishing, scaling).
//! Promise: no call takes longer than [`CALL_TIMEOUT`], and every failure is counted by operation, so a
//! stage goes on without its memory and says so. Samples do not live here.

use std::future::Future;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use serde::{Deserialize, Serialize};
use service::metrics::Metrics;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::sync::OnceCell;

mod db;

mod alerts;
mod evidence;
mod history;
mod published;
mod scaling;
mod told;

pub mod lease;

pub use alerts::{AlertRow, GroupRows};
use db::Db;
pub use evidence::EvidenceRow;
pub use history::FiringRow;
pub use published::Published;
pub use scaling::ScalingEntry;
pub use told::ToldRow;

/// A statement that takes longer has failed: the caller's work is more urgent than its memory.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// The `state:` block.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the state lives: `sqlite://PATH`, or `postgres://USER@HOST/DATABASE` for several replicas, whose
    /// password comes by `PGPASSWORD` rather than in the URL. `sqlite://DATA/state.db` when absent.
    #[serde(default, serialize_with = "shown")]
    pub url: Option<String>,
}

/// The configuration is shown to people; a password in it is not.
fn shown<S: serde::Serializer>(url: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    url.as_deref().map(without_password).serialize(serializer)
}

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("state.url {0:?} is not supported: write sqlite://PATH or postgres://USER@HOST/DATABASE")]
    Url(String),
    #[error("failed to open the state database `{path}`: check that its directory exists and is writable")]
    Open {
        path: String,
        #[source]
        source: sqlx::Error,
    },
    #[error("failed to bring the state database `{path}` to the current schema")]
    Migrate {
        path: String,
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    #[error("{operation}: the state database refused")]
    Sql {
        operation: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("{operation}: the state database did not answer within {CALL_TIMEOUT:?}")]
    Timeout { operation: &'static str },
    #[error("{operation}: a stored value cannot be read")]
    Decode {
        operation: &'static str,
        #[source]
        source: serde_json::Error,
    },
}

/// A handle to the database, cheap to clone.
#[derive(Clone)]
pub struct State {
    db: Db,
    /// Named in errors; without a password.
    path: Arc<str>,
    /// Done once per process, by whoever asks first: Postgres may be away at the start.
    migrated: Arc<OnceCell<()>>,
    errors: Family<Operation, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

impl Config {
    /// Opens SQLite, making file and data directory where there are none, and brings it to the current schema.
    /// Postgres is only looked at when it is first needed.
    ///
    /// # Errors
    /// An unsupported URL, a file that cannot be opened, a schema from the future.
    pub async fn open(&self, data: &Path, metrics: &Metrics) -> Result<State, StateError> {
        let default = data.join("state.db");
        let shown = self.url.as_deref().map_or_else(|| default.display().to_string(), without_password);
        let (db, migrated) = match self.url.as_deref() {
            None => {
                // Where this fails, opening the file says so with the path.
                let _ = std::fs::create_dir_all(data);
                (Db::sqlite(Db::sqlite_file(&default), &shown).await?, OnceCell::new_with(Some(())))
            }
            Some(url) if url.starts_with("sqlite:") => {
                let options = SqliteConnectOptions::from_str(url).map_err(|_| StateError::Url(shown.clone()))?;
                (Db::sqlite(options, &shown).await?, OnceCell::new_with(Some(())))
            }
            Some(url) if url.starts_with("postgres:") || url.starts_with("postgresql:") => {
                (Db::postgres(url).map_err(|_| StateError::Url(shown.clone()))?, OnceCell::new())
            }
            Some(_) => return Err(StateError::Url(shown)),
        };
        let errors = Family::<Operation, Counter>::default();
        metrics.register(|r| {
            r.register("collector_state_errors", "Calls of the state database that failed", errors.clone());
        });
        Ok(State { db, path: shown.into(), migrated: Arc::new(migrated), errors })
    }
}

impl State {
    /// Whether other replicas can be on this database.
    pub fn is_shared(&self) -> bool {
        matches!(self.db, Db::Postgres(_))
    }

    /// Runs one call under the timeout and counts its failure.
    async fn call<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StateError> {
        let result = match tokio::time::timeout(CALL_TIMEOUT, self.migrated()).await {
            Ok(Ok(())) => match tokio::time::timeout(CALL_TIMEOUT, work).await {
                Ok(result) => result.map_err(|source| StateError::Sql { operation, source }),
                Err(_) => Err(StateError::Timeout { operation }),
            },
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StateError::Timeout { operation }),
        };
        if result.is_err() {
            self.errors.get_or_create(&Operation { operation }).inc();
        }
        result
    }

    async fn migrated(&self) -> Result<(), StateError> {
        self.migrated.get_or_try_init(|| self.db.migrate(&self.path)).await.copied()
    }

    /// Closes the connections; what was written is on disk afterwards.
    pub async fn close(&self) {
        self.db.close().await;
    }
}

/// `postgres://user:secret@host` without the secret: the URL stands in an error message.
fn without_password(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(mut parsed) if parsed.password().is_some() => {
            let _ = parsed.set_password(Some("***"));
            parsed.to_string()
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests;
