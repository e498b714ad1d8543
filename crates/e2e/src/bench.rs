//! Ours beside Prometheus, in one run: the same synthetic exporters, the same queries, CPU time and memory
//! of each process as the kernel counts them.
//!
//! Ratios of one run are what counts; wall times and single figures depend on the machine and its other load.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;

use crate::client::Client;
use crate::process::{Process, Workplace};

pub mod alerts;
pub mod exporter;
pub mod usage;

use exporter::Exporter;
use usage::Usage;

/// Measures the collector beside Debian's Prometheus.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    /// Scrape targets.
    #[arg(long, default_value_t = 20)]
    pub targets: usize,
    /// Series of each target.
    #[arg(long, default_value_t = 1000)]
    pub series: usize,
    /// Seconds between scrapes.
    #[arg(long, default_value_t = 5)]
    pub interval: u64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 60)]
    pub window: u64,
    /// How often each query is asked.
    #[arg(long, default_value_t = 20)]
    pub rounds: u32,
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

/// A query and what it stands for.
const QUERIES: [(&str, &str); 5] = [
    ("up of all targets", r#"up{job="bench",instance=~".*:.*"} == 1"#),
    ("rate by service", "sum by (service) (rate(http_requests_total[1m]))"),
    (
        "error ratio by service",
        r#"sum by (service) (rate(http_requests_total{status=~"5.."}[1m])) / sum by (service) (rate(http_requests_total[1m]))"#,
    ),
    (
        "p95 by service",
        "histogram_quantile(0.95, sum by (service, le) (rate(http_request_duration_seconds_bucket[1m])))",
    ),
    ("top ten paths", "topk(10, sum by (service, path) (rate(http_requests_total[1m])))"),
];

/// A server under measurement.
struct Subject {
    name: &'static str,
    process: Process,
    url: String,
}

/// What one subject cost.
struct Cost {
    cpu_per_sample_us: f64,
    bytes_per_series: f64,
    query_cpu_ms: Vec<f64>,
}

/// Runs the measurement and prints the table.
///
/// # Errors
/// A server that does not start, or answers that differ.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let prometheus = find("prometheus")
        .context("no prometheus on PATH (Debian package prometheus): there is no peer to measure beside")?;
    let workplace = Workplace::prepare(&options.data)?;
    if options.alerts_only {
        return alerts::run(options, &workplace).await;
    }
    let client = Client::new()?;
    let exporter = Exporter::start(options.targets, options.series).await?;
    let mut subjects = vec![
        start_ours(options, &workplace, exporter.address()).await?,
        start_prometheus(&prometheus, options, &workplace, exporter.address()).await?,
    ];
    for subject in &mut subjects {
        wait_ready(&client, subject.name, &mut subject.process, &subject.url).await?;
    }
    eprintln!("{} targets of {} series every {} s; warming up", options.targets, options.series, options.interval);
    // A rate over 1m wants a minute of samples.
    tokio::time::sleep(Duration::from_secs(options.interval * 3 + 60)).await;
    eprintln!("measuring for {} s", options.window);
    let costs = measure(options, &client, &exporter, &mut subjects).await?;
    print_table(&costs);
    drop(subjects);
    alerts::run(options, &workplace).await
}

async fn measure(
    options: &Options,
    client: &Client,
    exporter: &Exporter,
    subjects: &mut [Subject],
) -> anyhow::Result<Vec<(&'static str, Cost)>> {
    let before: Vec<_> = subjects.iter().map(|s| (Usage::of(s.process.id()), exporter.samples(s.name))).collect();
    tokio::time::sleep(Duration::from_secs(options.window)).await;
    let mut costs = Vec::new();
    for (subject, (usage, samples)) in subjects.iter_mut().zip(before) {
        subject.process.check_alive()?;
        let (now, scraped) = (Usage::of(subject.process.id())?, exporter.samples(subject.name) - samples);
        let cpu = now.cpu_seconds - usage?.cpu_seconds;
        costs.push((
            subject.name,
            Cost {
                cpu_per_sample_us: cpu * 1e6 / scraped.max(1) as f64,
                bytes_per_series: now.resident_bytes as f64 / (options.targets * options.series) as f64,
                query_cpu_ms: Vec::new(),
            },
        ));
    }
    for (name, expr) in QUERIES {
        let mut lengths = Vec::new();
        for (subject, (_, cost)) in subjects.iter().zip(&mut costs) {
            // The first one fills plans and caches; it is not counted.
            lengths.push(client.query(&subject.url, expr).await?.len());
            let before = Usage::of(subject.process.id())?;
            for _ in 0..options.rounds {
                client.query(&subject.url, expr).await?;
            }
            let spent = Usage::of(subject.process.id())?.cpu_seconds - before.cpu_seconds;
            cost.query_cpu_ms.push(spent * 1000.0 / f64::from(options.rounds));
        }
        if lengths.iter().any(|length| *length != lengths[0] || *length == 0) {
            bail!("`{name}` has answers of different or no length: {lengths:?}; the comparison would be worth nothing");
        }
    }
    Ok(costs)
}

fn print_table(costs: &[(&'static str, Cost)]) {
    let (ours, peer) = (&costs[0].1, &costs[1].1);
    println!("\n{:<32}{:>14}{:>14}{:>9}", "", costs[0].0, costs[1].0, "ratio");
    let row = |what: &str, ours: f64, peer: f64| println!("{what:<32}{ours:>14.2}{peer:>14.2}{:>9.2}", ours / peer);
    row("CPU per scraped sample, us", ours.cpu_per_sample_us, peer.cpu_per_sample_us);
    row("resident bytes per series", ours.bytes_per_series, peer.bytes_per_series);
    for (index, (name, _)) in QUERIES.iter().enumerate() {
        row(&format!("{name}, CPU ms"), ours.query_cpu_ms[index], peer.query_cpu_ms[index]);
    }
    println!(
        "CPU includes the query's share of scraping that went on meanwhile; resident memory includes the program itself."
    );
}

async fn start_ours(options: &Options, workplace: &Workplace, exporter: SocketAddr) -> anyhow::Result<Subject> {
    let (config, listen) = (workplace.dir.join("collector.yml"), free_address()?);
    std::fs::write(&config, scrape_config(options, exporter, "collector"))?;
    let mut command = Command::new(options.bin_dir.join("collector"));
    command.arg("serve").arg("--config").arg(&config).arg("--data").arg(workplace.dir.join("collector-data"));
    command.args(["--listen", &listen]);
    Ok(Subject {
        name: "collector",
        process: workplace.start("collector", &mut command)?,
        url: format!("http://{listen}"),
    })
}

async fn start_prometheus(
    program: &Path,
    options: &Options,
    workplace: &Workplace,
    exporter: SocketAddr,
) -> anyhow::Result<Subject> {
    let (config, listen, data) =
        (workplace.dir.join("prometheus.yml"), free_address()?, workplace.dir.join("prometheus-data"));
    std::fs::write(&config, scrape_config(options, exporter, "prometheus"))?;
    let _ = std::fs::remove_dir_all(&data);
    let mut command = Command::new(program);
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", data.display())).arg(format!("--web.listen-address={listen}"));
    Ok(Subject {
        name: "prometheus",
        process: workplace.start("prometheus", &mut command)?,
        url: format!("http://{listen}"),
    })
}

/// One job; the path's first part tells the exporter who scrapes.
fn scrape_config(options: &Options, exporter: SocketAddr, who: &str) -> String {
    let mut text = format!("global: {{scrape_interval: {}s}}\nscrape_configs:\n", options.interval);
    for target in 0..options.targets {
        text.push_str(&format!(
            "  - job_name: bench-{target}\n    metrics_path: /{who}/{target}\n    static_configs: [{{targets: ['{exporter}'], labels: {{job: bench, target: t{target}}}}}]\n"
        ));
    }
    text
}

async fn wait_ready(client: &Client, name: &str, process: &mut Process, url: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    while !client.is_ok(&format!("{url}/-/ready")).await {
        process.check_alive()?;
        if started.elapsed() > Duration::from_secs(60) {
            bail!("{name} was not ready within a minute");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
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
