//! The connection pool, and the time that queries take.
//!
//! The pool connects lazily: a service answers its probes while the database is still away, and
//! readiness tells. A statement that runs away is ended by the server.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, PgPool};

use super::metrics::AppMetrics;

/// A request that cannot get a connection within this time is answered 503.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// Connections are renewed, so that a failover or a rotated password is noticed.
const CONNECTION_LIFETIME_MAX: Duration = Duration::from_secs(30 * 60);
/// Between two attempts to reach a database that is down at start.
pub const CONNECT_RETRY: Duration = Duration::from_millis(500);

/// SQLSTATE of a table that is not there.
const UNDEFINED_TABLE: &str = "42P01";

pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// What a query does; the label `query_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    Select,
    Insert,
    Update,
    Delete,
    Transaction,
}

impl Query {
    pub fn as_str(self) -> &'static str {
        match self {
            Query::Select => "select",
            Query::Insert => "insert",
            Query::Update => "update",
            Query::Delete => "delete",
            Query::Transaction => "transaction",
        }
    }
}

/// The pool with its stop watch.
#[derive(Clone)]
pub struct Db {
    pub pool: PgPool,
    metrics: Arc<AppMetrics>,
}

impl Db {
    pub fn new(pool: PgPool, metrics: Arc<AppMetrics>) -> Self {
        Db { pool, metrics }
    }

    /// Runs one query and notes how long it took, also when it fails.
    pub async fn timed<T, E>(&self, query: Query, run: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let started = Instant::now();
        let result = run.await;
        self.metrics.db_query(query, started.elapsed());
        result
    }

    /// Begins a transaction; the wait for a connection counts.
    pub async fn begin(&self) -> sqlx::Result<sqlx::Transaction<'static, sqlx::Postgres>> {
        self.timed(Query::Transaction, self.pool.begin()).await
    }

    pub async fn commit(&self, transaction: sqlx::Transaction<'static, sqlx::Postgres>) -> sqlx::Result<()> {
        self.timed(Query::Transaction, transaction.commit()).await
    }
}

/// A database address as it may be shown: host, port and name, never user or password.
#[derive(Clone, Debug)]
pub struct Address {
    options: PgConnectOptions,
}

impl Address {
    /// # Errors
    /// The URL is not one; its text is not repeated, since it holds the password.
    pub fn parse(url: &str) -> anyhow::Result<Self> {
        let options: PgConnectOptions = url
            .parse()
            .ok()
            .filter(|_| url.starts_with("postgres://") || url.starts_with("postgresql://"))
            .context("DATABASE_URL is not of the form postgres://user:password@host:port/database")?;
        Ok(Address { options: options.application_name("platform-api").disable_statement_logging() })
    }

    /// For serving: what hangs is ended by the server.
    pub fn pool(&self, connections_max: u32) -> PgPool {
        let limits =
            [("statement_timeout", "10s"), ("lock_timeout", "5s"), ("idle_in_transaction_session_timeout", "30s")];
        self.pool_with(self.options.clone().options(limits), connections_max)
    }

    /// For migrations, which may take their time and wait for each other.
    pub fn unlimited_pool(&self) -> PgPool {
        self.pool_with(self.options.clone(), 1)
    }

    fn pool_with(&self, options: PgConnectOptions, connections_max: u32) -> PgPool {
        PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .max_lifetime(CONNECTION_LIFETIME_MAX)
            .connect_lazy_with(options)
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (host, port) = (self.options.get_host(), self.options.get_port());
        write!(f, "{host}:{port}/{}", self.options.get_database().unwrap_or("postgres"))
    }
}

/// Returns once the database answers and has the schema this build needs.
///
/// # Errors
/// After `patience`: what was missing and what to do.
pub async fn wait_until_usable(address: &Address, patience: Duration) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + patience;
    let mut told = false;
    loop {
        let problem = match schema_is_current(address).await {
            Ok(()) => return Ok(()),
            Err(problem) => problem,
        };
        if tokio::time::Instant::now() >= deadline {
            return Err(anyhow::anyhow!("{problem}").context(format!(
                "gave up on the database at {address} after {}",
                telemetry::duration::format(patience)
            )));
        }
        if !told {
            tracing::warn!(
                "database at {address} is not usable yet ({problem}), trying for {}",
                telemetry::duration::format(patience)
            );
            told = true;
        }
        tokio::time::sleep(CONNECT_RETRY).await;
    }
}

/// The newest migration of this build has been applied; a newer schema is fine, it only ever grows.
/// Asks on a connection of its own: the pool would hide why none can be made.
async fn schema_is_current(address: &Address) -> Result<(), String> {
    let wanted = MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0);
    let mut connection = connect(address).await?;
    let applied: Result<Option<i64>, sqlx::Error> =
        sqlx::query_scalar("SELECT max(version) FROM public._sqlx_migrations WHERE success")
            .fetch_one(&mut connection)
            .await;
    match applied {
        Ok(Some(applied)) if applied >= wanted => Ok(()),
        Ok(applied) => Err(format!(
            "its schema is at version {}, this build needs {wanted}: run `platform-api migrate`",
            applied.unwrap_or(0)
        )),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNDEFINED_TABLE) => {
            Err("it has no schema yet: run `platform-api migrate`".to_owned())
        }
        Err(error) => Err(why(&error)),
    }
}

/// One connection outside the pool.
///
/// # Errors
/// Why there is none, in one line.
pub async fn connect(address: &Address) -> Result<sqlx::PgConnection, String> {
    match tokio::time::timeout(ACQUIRE_TIMEOUT, address.options.connect()).await {
        Ok(connected) => connected.map_err(|error| why(&error)),
        Err(_) => Err(format!("no connection within {ACQUIRE_TIMEOUT:?}")),
    }
}

/// A connection error in one line.
pub fn why(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(io) => io.to_string(),
        sqlx::Error::PoolTimedOut => "no connection could be made or had in time".to_owned(),
        other => other.to_string(),
    }
}

/// The name of the constraint that refused a row.
pub fn violated(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error()?.constraint()
}
