//! The two databases that the state may live in. Every statement is the same text for both: SQLite reads
//! Postgres' `$1` too, and the schemas differ in one column's way to count.

use std::path::Path;
use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{PgPool, SqlitePool};

use super::{CALL_TIMEOUT, StateError};

/// SQLite has one writer at a time; more connections would only wait for each other. Postgres has more to do
/// than to serve us.
const CONNECTIONS_MAX: u32 = 4;

/// A closed set, cheap to clone.
#[derive(Clone)]
pub(super) enum Db {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// Runs the expression for whichever database there is: `$pool` is its pool, `$db` its type.
macro_rules! on {
    ($which:expr, $pool:ident, $db:ident => $body:expr) => {
        match $which {
            $crate::state::db::Db::Sqlite($pool) => {
                type $db = ::sqlx::Sqlite;
                $body
            }
            $crate::state::db::Db::Postgres($pool) => {
                type $db = ::sqlx::Postgres;
                $body
            }
        }
    };
}
pub(super) use on;

impl Db {
    /// Opens the file, making it where there is none, and brings it to the current schema.
    pub(super) async fn sqlite(options: SqliteConnectOptions, path: &str) -> Result<Db, StateError> {
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
            .map_err(|source| StateError::Open { path: path.to_owned(), source })?;
        let db = Db::Sqlite(pool);
        db.migrate(path).await?;
        Ok(db)
    }

    pub(super) fn sqlite_file(path: &Path) -> SqliteConnectOptions {
        SqliteConnectOptions::new().filename(path)
    }

    /// Connects when it is first asked: a database that is away keeps nobody from starting.
    pub(super) fn postgres(url: &str) -> Result<Db, sqlx::Error> {
        // A statement that was given up by us shall not go on there.
        let timeout = CALL_TIMEOUT.as_millis().to_string();
        let options = PgConnectOptions::from_str(url)?.options([("statement_timeout", timeout)]);
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(CALL_TIMEOUT);
        Ok(Db::Postgres(pool.connect_lazy_with(options)))
    }

    pub(super) async fn migrate(&self, path: &str) -> Result<(), StateError> {
        let done = match self {
            Db::Sqlite(pool) => sqlx::migrate!("./migrations/sqlite").run(pool).await,
            Db::Postgres(pool) => sqlx::migrate!("./migrations/postgres").run(pool).await,
        };
        done.map_err(|source| StateError::Migrate { path: path.to_owned(), source })
    }

    /// The database's own clock, in milliseconds since the epoch: replicas' clocks differ.
    pub(super) fn now(&self) -> &'static str {
        match self {
            Db::Sqlite(_) => "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
            Db::Postgres(_) => "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }

    pub(super) async fn close(&self) {
        on!(self, pool, DB => {
            let pool: &sqlx::Pool<DB> = pool;
            pool.close().await;
        });
    }
}
