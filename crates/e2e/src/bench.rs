//! Ours beside Prometheus and VictoriaMetrics, in one run: the same synthetic exporters, the same past pushed to each, the
//! same queries and rules; CPU time, memory and bytes of each process as the kernel counts them.
//!
//! Ratios of one run are what counts; wall times and single figures depend on the machine and its other load.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::client::Client;
use crate::process::Workplace;

pub mod alerts;
pub mod exporter;
pub mod fleet;
pub mod gates;
pub mod history;
pub mod noise;
pub mod questions;
pub mod rules;
pub mod servers;
pub mod table;
pub mod usage;

use exporter::{Exporter, seconds};
use fleet::Fleet;
use gates::Measure;
use history::History;
use servers::{Peer, Server};
use table::Table;
use usage::Usage;

/// Measures the collector beside Debian's Prometheus and VictoriaMetrics.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    /// Whom to measure beside: `prometheus`, `victoriametrics`, both with a comma between, or `none`.
    #[arg(long, value_delimiter = ',', default_values = ["prometheus", "victoriametrics"])]
    pub peers: Vec<Peer>,
    /// Scrape targets.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub targets: u32,
    /// Series of each target.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub series: u32,
    /// Seconds between scrapes.
    #[arg(long, default_value_t = 10)]
    pub interval: u64,
    /// Minutes of the past that are pushed first, less than an hour: Prometheus takes none that is older.
    #[arg(long, default_value_t = 55, value_parser = clap::value_parser!(u64).range(0..60))]
    pub history: u64,
    /// Seconds that are measured, and the same again with rules.
    #[arg(long, default_value_t = 120)]
    pub window: u64,
    /// Rules that are evaluated every 15 s in a second window, for what a rule costs; VictoriaMetrics has none.
    #[arg(long, default_value_t = 0)]
    pub rules: usize,
    /// How often each query is asked; 0 leaves them out.
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

/// What a server may still have to do with what it has just been given.
const SETTLE: Duration = Duration::from_secs(10);

impl Options {
    fn all_series(&self) -> f64 {
        f64::from(self.targets) * f64::from(self.series)
    }
}

/// Runs the measurement and prints the table.
///
/// # Errors
/// A server that does not start, or answers that differ.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    if !options.alerts_only {
        let mut table = Table::default();
        for repeat in 1..=options.repeats {
            eprintln!(
                "run {repeat} of {}: {} targets of {} series every {} s, {} minutes of history, {} rules",
                options.repeats, options.targets, options.series, options.interval, options.history, options.rules
            );
            compare(options, &mut table).await?;
        }
        println!("{table}");
    }
    if options.no_alerts { Ok(()) } else { alerts::run(options, &Workplace::prepare(&options.data)?).await }
}

/// One run: a past, scrapes, rules, questions, a kill.
async fn compare(options: &Options, table: &mut Table) -> anyhow::Result<()> {
    let workplace = Workplace::prepare(&options.data)?;
    let client = Client::with_patience(Duration::from_secs(120))?;
    let fleet = Fleet::new(options.targets as usize, options.series as usize);
    let length = Duration::from_secs(60 * options.history);
    let began = seconds();
    let exporter = Exporter::start(fleet, began - length.as_secs_f64() - 1.0).await?;
    let past = History::of(&exporter, length, began);
    let mut servers = Server::start_all(options, &workplace, exporter.address())?;
    table.begin(servers.iter().map(|server| server.name));
    for server in &mut servers {
        server.wait_ready(&client).await?;
    }
    if past.samples > 0 {
        push(&past, &mut servers, table).await?;
    }
    let pushed = past.samples;
    drop(past.requests);
    let at = scrape(options, &exporter, &mut servers, table).await?;
    if options.rules > 0 {
        let recorded = rules::file(options.rules).matches("- record:").count();
        questions::compare_recorded(&client, &servers, at, recorded).await?;
    }
    if options.rounds > 0 {
        if pushed > 0 {
            questions::compare_pushed(&client, &servers, past.end).await?;
        }
        questions::ask(options, &client, &mut servers, at, table).await?;
    }
    let (mut written, mut stored) = (Vec::new(), Vec::new());
    for server in &mut servers {
        let samples = (pushed + exporter.samples(server.name)).max(1) as f64;
        written.push(server.usage()?.written_bytes as f64 / samples);
        stored.push(server.stored_bytes() as f64 / samples);
    }
    table.row(Measure::WRITTEN, written);
    table.row(Measure::STORED, stored);
    restart(options, &client, &workplace, &mut servers, at, table).await
}

async fn push(past: &History, servers: &mut [Server], table: &mut Table) -> anyhow::Result<()> {
    eprintln!("pushing {} samples of the past", past.samples);
    let mut costs = Vec::new();
    for server in servers {
        let before = server.usage()?.cpu_seconds;
        history::push(&server.url, &past.requests).await?;
        tokio::time::sleep(SETTLE).await;
        costs.push((server.usage()?.cpu_seconds - before) * 1e6 / past.samples as f64);
    }
    table.row(Measure::RECEIVE, costs);
    Ok(())
}

/// What a server used in a window.
struct Spent {
    cpu_seconds: f64,
    samples: f64,
    written_bytes: f64,
    /// The mean of some looks.
    resident_bytes: f64,
}

/// Scrapes for a while, then with rules; returns a moment in which everything has just been scraped.
async fn scrape(
    options: &Options,
    exporter: &Exporter,
    servers: &mut [Server],
    table: &mut Table,
) -> anyhow::Result<f64> {
    exporter.open(true);
    tokio::time::sleep(Duration::from_secs(options.interval * 3)).await;
    eprintln!("measuring scrapes for {} s", options.window);
    let own_before = Usage::of(std::process::id())?.cpu_seconds;
    let spent = window(options, exporter, servers).await?;
    let own = (Usage::of(std::process::id())?.cpu_seconds - own_before) / options.window as f64;
    eprintln!("the exporters took {:.1} % of a core", own * 100.0);
    table.row(Measure::SCRAPE, spent.iter().map(|spent| spent.cpu_seconds * 1e6 / spent.samples));
    table.row(Measure::RESIDENT, spent.iter().map(|spent| spent.resident_bytes / options.all_series()));
    let of_window = Measure::plain("bytes written per sample while scraping");
    table.row(of_window, spent.iter().map(|spent| spent.written_bytes / spent.samples));
    let with_rules = if options.rules > 0 { evaluate(options, exporter, servers, &spent, table).await? } else { spent };
    if options.peers.contains(&Peer::None) {
        let cores = with_rules.iter().map(|spent| spent.cpu_seconds / options.window as f64);
        table.row(Measure::SHARE_OF_CORE, cores);
        table.row(Measure::GIBIBYTES, with_rules.iter().map(|spent| spent.resident_bytes / f64::from(1 << 30)));
    }
    // A scrape that is on its way when the exporters close has its marker at the time of its beginning.
    let at = seconds() - 1.0;
    exporter.open(false);
    tokio::time::sleep(SETTLE).await;
    Ok(at)
}

async fn window(options: &Options, exporter: &Exporter, servers: &mut [Server]) -> anyhow::Result<Vec<Spent>> {
    const LOOKS: u32 = 12;
    let mut before = Vec::new();
    for server in &mut *servers {
        before.push((server.usage()?, exporter.samples(server.name)));
    }
    let mut resident = vec![0.0; servers.len()];
    for _ in 0..LOOKS {
        tokio::time::sleep(Duration::from_secs(options.window) / LOOKS).await;
        for (sum, server) in resident.iter_mut().zip(&mut *servers) {
            *sum += server.usage()?.resident_bytes as f64 / f64::from(LOOKS);
        }
    }
    let mut spent = Vec::new();
    for ((server, (before, samples)), resident_bytes) in servers.iter_mut().zip(before).zip(resident) {
        let usage = server.usage()?;
        spent.push(Spent {
            cpu_seconds: usage.cpu_seconds - before.cpu_seconds,
            samples: (exporter.samples(server.name) - samples).max(1) as f64,
            written_bytes: (usage.written_bytes - before.written_bytes) as f64,
            resident_bytes,
        });
    }
    Ok(spent)
}

/// The same with rules. What a rule takes is what is more than the same number of samples took without.
async fn evaluate(
    options: &Options,
    exporter: &Exporter,
    servers: &mut [Server],
    without: &[Spent],
    table: &mut Table,
) -> anyhow::Result<Vec<Spent>> {
    servers.iter().try_for_each(|server| server.give_rules(options.rules))?;
    // Plans and the first results are made.
    tokio::time::sleep(rules::INTERVAL * 2).await;
    eprintln!("measuring {} rules for {} s", options.rules, options.window);
    let with = window(options, exporter, servers).await?;
    let evaluations = options.rules as f64 * options.window as f64 / rules::INTERVAL.as_secs_f64();
    let cost = |((server, with), without): ((&Server, &Spent), &Spent)| {
        let scraping = without.cpu_seconds / without.samples * with.samples;
        server.has_rules().then_some((with.cpu_seconds - scraping) * 1e6 / evaluations)
    };
    table.row_of_some(Measure::RULE, servers.iter().zip(&with).zip(without).map(cost).collect());
    Ok(with)
}

async fn restart(
    options: &Options,
    client: &Client,
    workplace: &Workplace,
    servers: &mut [Server],
    at: f64,
    table: &mut Table,
) -> anyhow::Result<()> {
    eprintln!("killing each server");
    let (mut took, mut cpu, mut kept, mut resident) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for server in &mut *servers {
        let before = questions::series(client, server, at).await?;
        took.push(server.restart(client, workplace).await?.as_secs_f64());
        cpu.push(server.usage()?.cpu_seconds);
        kept.push(100.0 * questions::series(client, server, at).await? / before.max(1.0));
    }
    tokio::time::sleep(SETTLE).await;
    for server in servers {
        resident.push(server.usage()?.resident_bytes as f64 / options.all_series());
    }
    table.row(Measure::READY, took);
    table.row(Measure::plain("CPU of that start, s"), cpu);
    table.row(Measure::plain("resident bytes per series after it"), resident);
    table.row(Measure::KEPT, kept);
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
