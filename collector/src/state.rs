//! What must survive a replaced task, in SQL: the `state:` block.
//!
//! In and out: small typed rows for the stages that own them (alerts, evidence, publishing, scaling).
//! Promise: no call takes longer than [`CALL_TIMEOUT`], and every failure is counted by operation, so a
//! stage goes on without its memory and says so. Samples do not live here.

use std::future::Future;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use serde::{Deserialize, Serialize};
use service::metrics::Metrics;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

mod alerts;
mod evidence;
mod published;
mod scaling;

pub use alerts::{AlertRow, GroupRows};
pub use evidence::EvidenceRow;
pub use published::Published;
pub use scaling::ScalingEntry;

/// A statement that takes longer has failed: the caller's work is more urgent than its memory.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// SQLite has one writer at a time; more connections would only wait for each other.
const CONNECTIONS_MAX: u32 = 4;

/// The `state:` block.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the state lives; `sqlite://DATA/state.db` when absent.
    #[serde(default)]
    pub url: Option<String>,
}

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("state.url {0:?} is not supported: write sqlite://PATH")]
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
    pool: SqlitePool,
    errors: Family<Operation, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

impl Config {
    /// Opens the database, making it and the data directory where there is none, and brings it to the current schema.
    ///
    /// # Errors
    /// An unsupported URL, a file that cannot be opened, a schema from the future.
    pub async fn open(&self, data: &Path, metrics: &Metrics) -> Result<State, StateError> {
        let default = data.join("state.db");
        let options = match &self.url {
            None => SqliteConnectOptions::new().filename(&default),
            Some(url) if url.starts_with("sqlite:") => {
                SqliteConnectOptions::from_str(url).map_err(|_| StateError::Url(url.clone()))?
            }
            Some(url) => return Err(StateError::Url(without_password(url))),
        };
        if self.url.is_none() {
            // Where this fails, opening the file says so with the path.
            let _ = std::fs::create_dir_all(data);
        }
        let path = self.url.clone().unwrap_or_else(|| default.display().to_string());
        // NORMAL is enough with a write-ahead log: a crash of the machine loses the last moments, never the file.
        let options = options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(CALL_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(CALL_TIMEOUT)
            .connect_with(options)
            .await
            .map_err(|source| StateError::Open { path: path.clone(), source })?;
        sqlx::migrate!("./migrations").run(&pool).await.map_err(|source| StateError::Migrate { path, source })?;
        let errors = Family::<Operation, Counter>::default();
        metrics.register(|r| {
            r.register("collector_state_errors", "Calls of the state database that failed", errors.clone());
        });
        Ok(State { pool, errors })
    }
}

impl State {
    /// Runs one call under the timeout and counts its failure.
    async fn call<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StateError> {
        let result = match tokio::time::timeout(CALL_TIMEOUT, work).await {
            Ok(result) => result.map_err(|source| StateError::Sql { operation, source }),
            Err(_) => Err(StateError::Timeout { operation }),
        };
        if result.is_err() {
            self.errors.get_or_create(&Operation { operation }).inc();
        }
        result
    }

    /// Closes the connections; what was written is on disk afterwards.
    pub async fn close(&self) {
        self.pool.close().await;
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
