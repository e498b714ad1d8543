//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The platform's domain services: one image, one service per domain.
///
/// Settings come from the environment: DATABASE_URL, JWT_PRIVATE_KEY_PATH (user service),
/// JWT_PUBLIC_KEY_PATH or SERVICE_URL_USER (everyone), SERVICE_URL_PRODUCT (order service),
/// SERVICE_URL_ANALYTICS and SERVICE_URL_NOTIFICATION (worker), OTEL_EXPORTER_OTLP_ENDPOINT,
/// ENVIRONMENT, LOG_LEVEL, LOG_FORMAT. To try it: `platform-api dev`.
#[derive(Debug, Parser)]
#[command(name = "platform-api", version = service::cli::version(), max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve one domain, or all of them in one process.
    Serve(ServeArgs),
    /// Deliver events from the outbox to analytics and notification.
    Worker {
        /// Where /metrics and /health are answered.
        #[arg(long, default_value = "0.0.0.0:3000", value_name = "ADDR")]
        listen: SocketAddr,
    },
    /// Bring the database's schema up to date; creates the first administrator where
    /// BOOTSTRAP_ADMIN_EMAIL and BOOTSTRAP_ADMIN_PASSWORD are set.
    Migrate,
    /// Everything on this machine: a private PostgreSQL, keys, schema, products, all domains, the worker.
    Dev(DevArgs),
    /// Make an RSA key pair for tokens: DIR/private.pem and DIR/public.pem.
    Keygen {
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Leave a pair that is there already as it is, and succeed.
        #[arg(long)]
        if_missing: bool,
    },
    /// Send realistic traffic: people who register, browse, order and pay, and staff who ship and read reports.
    Loadgen(LoadgenArgs),
    /// Ask a running service how it is; exit 0 when it answers 200.
    Healthcheck {
        #[arg(long, default_value = "127.0.0.1:3000", value_name = "ADDR")]
        addr: SocketAddr,
        /// Liveness by default: a container is not restarted because its database is away.
        #[arg(long, default_value = "/health/live")]
        path: String,
    },
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    #[arg(long, value_enum, default_value_t = Domain::All)]
    pub domain: Domain,
    #[arg(long, default_value = "0.0.0.0:3000", value_name = "ADDR")]
    pub listen: SocketAddr,
}

#[derive(Debug, Args)]
pub struct DevArgs {
    /// Only the database: prints `DATABASE_URL=…` when it is ready and stays until SIGTERM or Ctrl-C.
    #[arg(long)]
    pub only_database: bool,
    /// PostgreSQL's port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Where the database lives; kept between runs. Keys are made beside it.
    #[arg(long, default_value = ".data/pg", value_name = "DIR")]
    pub data: PathBuf,
    #[arg(long, default_value = "127.0.0.1:3000", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Trade durability for speed and delete the data at the end: for tests.
    #[arg(long, hide = true, requires = "only_database")]
    pub throwaway: bool,
    /// Also stop when standard input closes, which it does when the parent dies.
    #[arg(long, hide = true, requires = "only_database")]
    pub until_stdin_closes: bool,
}

#[derive(Debug, Args)]
pub struct LoadgenArgs {
    /// All services behind one address.
    #[arg(long, default_value = "http://127.0.0.1:3000", value_name = "URL")]
    pub target: String,
    /// A service's own address, where it has one.
    #[arg(long, value_name = "URL")]
    pub user: Option<String>,
    #[arg(long, value_name = "URL")]
    pub product: Option<String>,
    #[arg(long, value_name = "URL")]
    pub order: Option<String>,
    #[arg(long, value_name = "URL")]
    pub analytics: Option<String>,
    #[arg(long, value_name = "URL")]
    pub notification: Option<String>,
    /// Requests per second, whatever the answers take.
    #[arg(long, default_value_t = 20.0, value_parser = positive_rate)]
    pub rate: f64,
    /// Stop after this time, such as 60s; without it, at Ctrl-C.
    #[arg(long, value_parser = telemetry::duration::parse)]
    pub duration: Option<std::time::Duration>,
    /// The same seed makes the same choices.
    #[arg(long)]
    pub seed: Option<u64>,
    /// The administrator who makes products, ships and reads reports.
    #[arg(long, env = "BOOTSTRAP_ADMIN_EMAIL", value_name = "EMAIL")]
    pub admin_email: Option<String>,
    /// Given by the environment only: command lines are visible to everybody on the machine.
    #[arg(skip)]
    pub admin_password: Option<service::config::Secret>,
}

fn positive_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    (rate > 0.0 && rate <= 10_000.0).then_some(rate).ok_or_else(|| "write a rate above 0 and up to 10000".to_owned())
}

/// What a process serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Domain {
    User,
    Product,
    Order,
    Analytics,
    Notification,
    All,
}

impl Domain {
    /// The service's name in logs and traces.
    pub fn service_name(self) -> &'static str {
        match self {
            Domain::User => "user",
            Domain::Product => "product",
            Domain::Order => "order",
            Domain::Analytics => "analytics",
            Domain::Notification => "notification",
            Domain::All => "platform-api",
        }
    }

    pub fn includes(self, other: Domain) -> bool {
        self == Domain::All || self == other
    }
}
