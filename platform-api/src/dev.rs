//! Everything on one machine: `platform-api dev`, and the schema: `platform-api migrate`.

pub mod account;
pub mod postgres;
pub mod seed;

use std::collections::HashMap;
use std::io::Write;

use anyhow::Context;
use service::Shutdown;
use service::cli::Exit;
use service::config::{Env, ProcessEnv};
use sqlx::PgPool;

use crate::app::{App, Role};
use crate::cli::DevArgs;
use crate::config::Config;
use crate::shared::auth::keys;
use crate::shared::db::{self, CONNECT_RETRY, Db, MIGRATIONS};
use crate::shared::metrics::AppMetrics;
use crate::telemetry::Telemetry;
use postgres::{Durability, Server};

/// Applies the migrations and makes the first administrator. Waits for a database that is coming up.
///
/// # Errors
/// The database cannot be reached in time, or a migration fails.
pub async fn migrate(config: Config) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + config.database_patience;
    while let Err(why) = db::connect(&config.database).await {
        if tokio::time::Instant::now() >= deadline {
            let patience = telemetry::duration::format(config.database_patience);
            anyhow::bail!("gave up on the database at {} after {patience}: {why}", config.database);
        }
        tokio::time::sleep(CONNECT_RETRY).await;
    }
    let pool = config.database.unlimited_pool();
    MIGRATIONS.run(&pool).await.with_context(|| format!("failed to migrate the database at {}", config.database))?;
    let newest = MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0);
    println!("schema of {} is at version {newest}", config.database);
    if let Some(admin) = &config.bootstrap_admin {
        let created = crate::user::service::bootstrap_admin(&quiet(pool), &admin.email, admin.password.clone()).await?;
        println!("administrator {} {}", admin.email, if created { "created" } else { "is there already" });
    }
    Ok(())
}

/// A database handle whose figures nobody reads.
fn quiet(pool: PgPool) -> Db {
    Db::new(pool, std::sync::Arc::new(AppMetrics::register(&mut Default::default())))
}

/// # Errors
/// PostgreSQL is not there or does not start, a port is taken, or a part fails.
pub async fn run(args: DevArgs) -> Result<(), Exit> {
    if args.only_database {
        return only_database(args).await.map_err(Exit::from);
    }
    let telemetry = Telemetry::start("platform-api", &ProcessEnv).map_err(Exit::Config)?;
    let shutdown = Shutdown::on_signals().context("signals cannot be heard")?;
    let result = everything(&args, shutdown).await;
    telemetry.stop().await;
    result
}

async fn only_database(args: DevArgs) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals().context("signals cannot be heard")?;
    let durability = if args.throwaway { Durability::Throwaway } else { Durability::Kept };
    let server = Server::start(&args.data, args.port, durability).await?;
    println!("DATABASE_URL={}", server.url());
    std::io::stdout().flush().context("failed to write to stdout")?;
    let result = tokio::select! {
        () = shutdown.requested() => Ok(()),
        () = stdin_closed(), if args.until_stdin_closes => Ok(()),
        ended = server.ended() => Err(ended),
    };
    server.stop().await;
    result
}

/// Returns when whoever holds the other end is gone.
async fn stdin_closed() {
    let (tell, told) = tokio::sync::oneshot::channel();
    // A thread of its own: a read of stdin cannot be cancelled, and the runtime would wait for it at the end.
    std::thread::spawn(move || {
        let closed = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = tell.send(closed.is_ok());
    });
    let _ = told.await;
}

async fn everything(args: &DevArgs, shutdown: Shutdown) -> Result<(), Exit> {
    let own = match ProcessEnv.get("DATABASE_URL").filter(|url| !url.is_empty()) {
        Some(_) => None,
        None => Some(Server::start(&args.data, args.port, Durability::Kept).await?),
    };
    let env = DevEnv::new(args, own.as_ref())?;
    let config = Config::from_env(&env)?;
    migrate(config.clone()).await?;
    let seeded = seed::products(&config.database.pool(2)).await.map_err(anyhow::Error::from)?;
    let app = App::build(config, Role::Everything, args.listen).await?;
    tracing::info!(seeded, "all domains and the worker on http://{}", app.local_addr());
    tracing::info!(
        "traffic: platform-api loadgen --target http://{} --admin-email {}",
        app.local_addr(),
        DEV_ADMIN_EMAIL
    );
    let result = match &own {
        None => app.run(shutdown).await,
        Some(server) => tokio::select! {
            result = app.run(shutdown) => result,
            ended = server.ended() => Err(ended),
        },
    };
    if let Some(server) = own {
        server.stop().await;
    }
    result.map_err(Exit::from)
}

pub const DEV_ADMIN_EMAIL: &str = "admin@example.com";
/// For a database that listens on loopback and holds nothing of value.
const DEV_ADMIN_PASSWORD: &str = "only-for-development";

/// The process' environment with what `dev` provides where nothing is set.
struct DevEnv(HashMap<&'static str, String>);

impl DevEnv {
    fn new(args: &DevArgs, server: Option<&Server>) -> anyhow::Result<Self> {
        let mut provided = HashMap::from([
            ("BOOTSTRAP_ADMIN_EMAIL", DEV_ADMIN_EMAIL.to_owned()),
            ("BOOTSTRAP_ADMIN_PASSWORD", DEV_ADMIN_PASSWORD.to_owned()),
            ("DRAIN_DELAY", "0s".to_owned()),
        ]);
        if let Some(server) = server {
            provided.insert("DATABASE_URL", server.url().to_owned());
        }
        if ProcessEnv.get("JWT_PRIVATE_KEY_PATH").is_none() {
            let dir = args.data.parent().unwrap_or(&args.data).join("keys");
            let private = dir.join(keys::PRIVATE_KEY_FILE);
            if !private.exists() {
                keys::generate(&dir)?;
            }
            provided.insert("JWT_PRIVATE_KEY_PATH", private.display().to_string());
        }
        Ok(DevEnv(provided))
    }
}

impl Env for DevEnv {
    fn get(&self, key: &str) -> Option<String> {
        ProcessEnv.get(key).filter(|v| !v.is_empty()).or_else(|| self.0.get(key).cloned())
    }

    fn names(&self) -> Vec<String> {
        let mut names = ProcessEnv.names();
        names.extend(self.0.keys().map(|name| (*name).to_owned()));
        names
    }
}
