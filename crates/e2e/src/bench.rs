//! Ours beside Prometheus and VictoriaMetrics, in one run: the same synthetic exporters, the same past pushed to each, the
//! same queries; CPU time, memory and bytes of each process as the kernel counts them.
//!
//! Ratios of one run are what counts; wall times and single figures depend on the machine and its other load.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use clap::Parser;

use crate::client::Client;
use crate::process::Workplace;

pub mod alerts;
pub mod exporter;
pub mod history;
pub mod servers;
pub mod table;
pub mod usage;

use exporter::Exporter;
use history::History;
use servers::Server;
use table::Table;

/// Measures the collector beside Debian's Prometheus and VictoriaMetrics.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    /// Scrape targets.
    #[arg(long, default_value_t = 100)]
    pub targets: usize,
    /// Series of each target.
    #[arg(long, default_value_t = 1000)]
    pub series: usize,
    /// Seconds between scrapes.
    #[arg(long, default_value_t = 10)]
    pub interval: u64,
    /// Minutes of the past that are pushed first, less than an hour: Prometheus takes none that is older.
    #[arg(long, default_value_t = 55, value_parser = clap::value_parser!(u64).range(0..60))]
    pub history: u64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 120)]
    pub window: u64,
    /// How often each query is asked.
    #[arg(long, default_value_t = 20)]
    pub rounds: u32,
    /// How often all of it is done, each time from the beginning; printed are medians and the spread.
    #[arg(long, default_value_t = 1)]
    pub repeats: u32,
    /// Leave out the way of an alert.
    #[arg(long, conflicts_with = "alerts_only")]
    pub no_alerts: bool,
    /// Measure the way of an alert alone.
    #[arg(long)]
    pub alerts_only: bool,
    /// How often the way of an alert is measured for each interval, with other phases each time.
    #[arg(long, default_value_t = 3)]
    pub alert_rounds: u32,
    /// Seconds between scrapes and between evaluations where the way of an alert is measured.
    #[arg(long, value_delimiter = ',', default_values_t = [15, 1])]
    pub alert_intervals: Vec<u64>,
    #[arg(long, hide = true)]
    pub bin_dir: PathBuf,
    /// Where data and logs go.
    #[arg(long, default_value = "target/bench")]
    pub data: PathBuf,
}

/// Between two pushed samples of a series.
const HISTORY_STEP: Duration = Duration::from_secs(30);
/// What a server may still have to do with what it has just been given.
const SETTLE: Duration = Duration::from_secs(10);

/// Instant queries and what they stand for.
const QUERIES: [(&str, &str); 5] = [
    ("up of all targets", r#"up{job="bench",instance=~".*:.*"} == 1"#),
    ("rate by service", "sum by (service) (rate(http_requests_total[5m]))"),
    (
        "error ratio by service",
        r#"sum by (service) (rate(http_requests_total{status=~"5.."}[5m])) / sum by (service) (rate(http_requests_total[5m]))"#,
    ),
    (
        "p95 by service",
        "histogram_quantile(0.95, sum by (service, le) (rate(http_request_duration_seconds_bucket[5m])))",
    ),
    ("top ten paths", "topk(10, sum by (service, path) (rate(http_requests_total[5m])))"),
];
/// Asked over the hour that was pushed, every 30 s.
const RANGE_QUERY: &str =
    "histogram_quantile(0.99, sum by (service, le) (rate(http_request_duration_seconds_bucket[5m])))";
const ALL_SERIES: &str = r#"count({job="bench",target=~".+",service=~".+"})"#;

/// Runs the measurement and prints the table.
///
/// # Errors
/// A server that does not start, or answers that differ.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    if !options.alerts_only {
        let mut table = Table::default();
        for repeat in 1..=options.repeats {
            eprintln!(
                "run {repeat} of {}: {} targets of {} series every {} s, {} minutes of history",
                options.repeats, options.targets, options.series, options.interval, options.history
            );
            compare(options, &mut table).await?;
        }
        println!("{table}");
    }
    if options.no_alerts { Ok(()) } else { alerts::run(options, &Workplace::prepare(&options.data)?).await }
}

/// One run: a past, scrapes, questions, a kill.
async fn compare(options: &Options, table: &mut Table) -> anyhow::Result<()> {
    let workplace = Workplace::prepare(&options.data)?;
    let client = Client::with_patience(Duration::from_secs(60))?;
    let exporter = Exporter::start(options.targets, options.series).await?;
    let mut servers = Server::start_all(options, &workplace, exporter.address())?;
    table.begin(servers.iter().map(|server| server.name));
    for server in &mut servers {
        server.wait_ready(&client).await?;
    }
    let pushed = push(options, &exporter, &mut servers, table).await?;
    let at = scrape(options, &exporter, &mut servers, table).await?;
    ask(options, &client, &mut servers, at, table).await?;

    let mut written = Vec::new();
    let mut stored = Vec::new();
    for server in &mut servers {
        let samples = (pushed + exporter.samples(server.name)).max(1) as f64;
        written.push(server.usage()?.written_bytes as f64 / samples);
        stored.push(server.stored_bytes() as f64 / samples);
    }
    table.row("bytes written per sample", written);
    table.row("bytes stored per sample", stored);
    restart(&client, &workplace, &mut servers, at, table).await
}

async fn push(
    options: &Options,
    exporter: &Exporter,
    servers: &mut [Server],
    table: &mut Table,
) -> anyhow::Result<u64> {
    let (targets, series) = (options.targets, options.series);
    let past = History { targets, series, length: Duration::from_secs(60 * options.history), step: HISTORY_STEP };
    let (requests, samples) = past.requests(exporter)?;
    eprintln!("pushing {samples} samples of the past");
    let mut costs = Vec::new();
    for server in servers {
        let before = server.usage()?.cpu_seconds;
        history::push(&server.url, &requests).await?;
        tokio::time::sleep(SETTLE).await;
        costs.push((server.usage()?.cpu_seconds - before) * 1e6 / samples.max(1) as f64);
    }
    if samples > 0 {
        table.row("CPU per received sample, us", costs);
    }
    Ok(samples)
}

/// Scrapes for a while; returns a moment in which everything has just been scraped.
async fn scrape(
    options: &Options,
    exporter: &Exporter,
    servers: &mut [Server],
    table: &mut Table,
) -> anyhow::Result<f64> {
    exporter.open(true);
    tokio::time::sleep(Duration::from_secs(options.interval * 3)).await;
    eprintln!("measuring scrapes for {} s", options.window);
    let mut before = Vec::new();
    for server in &mut *servers {
        before.push((server.usage()?.cpu_seconds, exporter.samples(server.name)));
    }
    tokio::time::sleep(Duration::from_secs(options.window)).await;
    let (mut cpu, mut memory) = (Vec::new(), Vec::new());
    for (server, (cpu_before, samples_before)) in servers.iter_mut().zip(before) {
        let (usage, samples) = (server.usage()?, exporter.samples(server.name) - samples_before);
        cpu.push((usage.cpu_seconds - cpu_before) * 1e6 / samples.max(1) as f64);
        memory.push(usage.resident_bytes as f64 / (options.targets * options.series) as f64);
    }
    table.row("CPU per scraped sample, us", cpu);
    table.row("resident bytes per series", memory);
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("a clock before 1970")?.as_secs_f64();
    exporter.open(false);
    tokio::time::sleep(SETTLE).await;
    Ok(at)
}

/// Every query, while nothing is scraped; each time another moment, as rules ask.
async fn ask(
    options: &Options,
    client: &Client,
    servers: &mut [Server],
    at: f64,
    table: &mut Table,
) -> anyhow::Result<()> {
    for (name, expr) in QUERIES {
        let (mut costs, mut lengths) = (Vec::new(), Vec::new());
        for server in &mut *servers {
            // The first one fills plans and caches; it is not counted.
            lengths.push(client.query_at(&server.url, expr, at).await?.len());
            let before = server.usage()?.cpu_seconds;
            for round in 0..options.rounds {
                client.query_at(&server.url, expr, at - f64::from(round) / 10.0).await?;
            }
            costs.push((server.usage()?.cpu_seconds - before) * 1000.0 / f64::from(options.rounds));
        }
        same(name, &lengths)?;
        table.row(&format!("{name}, CPU ms"), costs);
    }
    let (mut costs, mut lengths) = (Vec::new(), Vec::new());
    let rounds = options.rounds.div_ceil(4);
    for server in servers {
        let before = server.usage()?.cpu_seconds;
        for round in 0..rounds {
            let end = at - f64::from(round);
            lengths.push(client.range(&server.url, RANGE_QUERY, (end - 3600.0, end, 30)).await?);
        }
        costs.push((server.usage()?.cpu_seconds - before) * 1000.0 / f64::from(rounds));
    }
    same("p99 by service over an hour", &lengths)?;
    table.row("p99 by service, 1 h every 30 s, CPU ms", costs);
    Ok(())
}

async fn restart(
    client: &Client,
    workplace: &Workplace,
    servers: &mut [Server],
    at: f64,
    table: &mut Table,
) -> anyhow::Result<()> {
    eprintln!("killing each server");
    let (mut took, mut kept) = (Vec::new(), Vec::new());
    for server in servers {
        let before = client.query_at(&server.url, ALL_SERIES, at).await?;
        took.push(server.restart(client, workplace).await?.as_secs_f64());
        let after = client.query_at(&server.url, ALL_SERIES, at).await?;
        let count = |answer: &[(serde_json::Value, f64)]| answer.first().map_or(0.0, |(_, value)| *value);
        kept.push(100.0 * count(&after) / count(&before).max(1.0));
    }
    table.row("ready after kill -9, s", took);
    table.row("series at the last scrape that it still has, %", kept);
    Ok(())
}

fn same(name: &str, lengths: &[usize]) -> anyhow::Result<()> {
    if lengths.iter().any(|length| *length != lengths[0] || *length == 0) {
        bail!("`{name}` has answers of different or no length: {lengths:?}; the comparison would be worth nothing");
    }
    Ok(())
}

fn free_address() -> anyhow::Result<String> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn find(program: &str) -> Option<PathBuf> {
    use service::config::{Env, ProcessEnv};
    let path = ProcessEnv.get("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}
