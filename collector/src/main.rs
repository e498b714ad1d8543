//! `collector`: the command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use collector::app::{App, Options};
use collector::ask::Question;
use collector::clock::Clock;
use collector::config::Config;
use collector::rules::tools::{self as rule_tools, BacktestOptions, CheckOptions, NoiseOptions, TestOptions};
use service::Shutdown;
use service::cli::{Exit, finish};
use service::config::{ProcessEnv, Secret};
use service::logging::Logging;

/// Series come and go with every deployment: jemalloc gives the memory back where glibc keeps it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Discovers and scrapes the sidecars, keeps hours of samples, evaluates alert rules, publishes dashboards,
/// scales ECS services by schedule and answers Grafana.
#[derive(Parser)]
#[command(name = "collector", version = service::cli::version())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run until SIGTERM.
    Serve {
        /// Configuration file: Prometheus' YAML, with our blocks beside it.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Directory for what must survive a restart; made where it is missing.
        #[arg(long, value_name = "DIR", default_value = "data")]
        data: PathBuf,
        /// Address of the API and the UI.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
        listen: SocketAddr,
    },
    /// Read a configuration file and say what is wrong with it.
    CheckConfig {
        #[arg(value_name = "FILE")]
        config: PathBuf,
    },
    /// Read rule files and say what is wrong with them.
    Check {
        #[command(subcommand)]
        what: Check,
    },
    /// Run unit tests.
    Test {
        #[command(subcommand)]
        what: Test,
    },
    /// Say what a rule file would have done on the samples of a running collector or Prometheus.
    Backtest {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Another version of the file: say what differs.
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090/")]
        url: url::Url,
        /// Bearer token, where the collector asks for one.
        #[arg(long, value_name = "TOKEN", env = "COLLECTOR_TOKEN", hide_env_values = true)]
        token: Option<String>,
        /// How long ago to begin: `6h`, `7d`.
        #[arg(long, value_name = "DURATION", default_value = "6h", value_parser = telemetry::duration::parse)]
        since: std::time::Duration,
        /// Between evaluations, where a group does not say.
        #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = telemetry::duration::parse)]
        interval: std::time::Duration,
    },
    /// Say which alerts were worth their page: how often each fired, flapped, was over by itself, or never fired.
    Noise {
        /// The collector's configuration: its rules, and where its state is.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The collector's data directory.
        #[arg(long, value_name = "DIR", default_value = "data")]
        data: PathBuf,
        /// Read the ALERTS series of a running collector or Prometheus instead of the state.
        #[arg(long, value_name = "URL")]
        url: Option<url::Url>,
        /// Bearer token, where it asks for one.
        #[arg(long, value_name = "TOKEN", env = "COLLECTOR_TOKEN", hide_env_values = true)]
        token: Option<String>,
        #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = telemetry::duration::parse)]
        since: std::time::Duration,
    },
    /// Say why a warning of `check rules` matters, or why an ECS task is or is not scraped.
    Explain {
        /// R001 and so on, or a task's id or ARN.
        #[arg(value_name = "CODE|TASK")]
        what: String,
        /// Whom to ask about a task.
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090/")]
        url: url::Url,
        /// Bearer token, where the collector asks for one.
        #[arg(long, value_name = "TOKEN", env = "COLLECTOR_TOKEN", hide_env_values = true)]
        token: Option<String>,
    },
    /// Evaluate an expression in a running collector.
    Query {
        /// PromQL: `sum by (service) (rate(http_requests_total[5m]))`.
        #[arg(value_name = "EXPR")]
        expr: String,
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090/")]
        url: url::Url,
        /// Bearer token, where the collector asks for one.
        #[arg(long, value_name = "TOKEN", env = "COLLECTOR_TOKEN", hide_env_values = true)]
        token: Option<String>,
        /// Seconds since the epoch or RFC 3339; now when absent.
        #[arg(long, value_name = "TIME")]
        time: Option<String>,
    },
    /// Ask a running collector whether it is ready; for container health checks.
    Healthcheck {
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
        addr: SocketAddr,
    },
}

#[derive(Subcommand)]
enum Check {
    /// Prometheus rule files: syntax, expressions, templates, duplicates, and what is probably not meant.
    Rules {
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// Fail on warnings too.
        #[arg(long)]
        strict: bool,
        /// A running collector or Prometheus: name the metrics that it does not have (R008).
        #[arg(long, value_name = "URL")]
        url: Option<url::Url>,
        /// Bearer token, where it asks for one.
        #[arg(long, value_name = "TOKEN", env = "COLLECTOR_TOKEN", hide_env_values = true)]
        token: Option<String>,
    },
}

#[derive(Subcommand)]
enum Test {
    /// Unit-test files in promtool's format.
    Rules {
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// Name the alerts that no test made fire.
        #[arg(long)]
        coverage: bool,
        /// Write the results as JUnit XML.
        #[arg(long, value_name = "FILE")]
        junit: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    finish("collector", run(Cli::parse().command))
}

fn run(command: Command) -> Result<(), Exit> {
    match command {
        Command::Serve { config, data, listen } => serve(Options { config, data, listen }),
        Command::CheckConfig { config } => check_config(&config),
        Command::Check { what: Check::Rules { files, strict, url, token } } => {
            Ok(rule_tools::check(&CheckOptions { files, strict, url, token: token.map(Secret::new) })?)
        }
        Command::Test { what: Test::Rules { files, coverage, junit } } => {
            Ok(rule_tools::test(&files, &TestOptions { coverage, junit })?)
        }
        Command::Backtest { file, against, url, token, since, interval } => {
            let token = token.map(Secret::new);
            let options = BacktestOptions { file, against, url, token, since, interval };
            Ok(rule_tools::backtest(options, Clock::System.now())?)
        }
        Command::Noise { config, data, url, token, since } => {
            let options = NoiseOptions { config, data, url, token: token.map(Secret::new), since };
            Ok(rule_tools::noise(options, Clock::System.now())?)
        }
        Command::Explain { what, url, token } => explain(what, url, token.map(Secret::new)),
        Command::Query { expr, url, token, time } => query(Question { url, token: token.map(Secret::new), expr, time }),
        Command::Healthcheck { addr } => Ok(service::healthcheck::check(addr, "/health/ready")?),
    }
}

fn serve(options: Options) -> Result<(), Exit> {
    Logging::from_env("collector", &ProcessEnv).start();
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    runtime.block_on(async {
        let shutdown = Shutdown::on_signals().context("failed to listen for signals")?;
        let app = App::build(options, Clock::System, shutdown).await?;
        tracing::info!(addr = %app.addr(), version = service::cli::version(), "listening");
        Ok(app.run().await?)
    })
}

/// Codes are an R and digits; the ids of tasks are hexadecimal.
fn explain(what: String, url: url::Url, token: Option<Secret>) -> Result<(), Exit> {
    if what.strip_prefix(['R', 'r']).is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit())) {
        return Ok(rule_tools::explain(&what)?);
    }
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    println!("{}", runtime.block_on(collector::ask::explain_task(&url, token.as_ref(), &what))?);
    Ok(())
}

fn query(question: Question) -> Result<(), Exit> {
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    println!("{}", runtime.block_on(question.ask())?);
    Ok(())
}

fn check_config(path: &std::path::Path) -> Result<(), Exit> {
    let config = Config::load(path).map_err(|e| Exit::Config(e.into()))?;
    let rules = collector::rules::check(&config).map_err(|e| Exit::Config(e.into()))?;
    println!("{}: {} scrape configurations, {rules} rules, good", path.display(), config.scrape_configs.len());
    Ok(())
}
