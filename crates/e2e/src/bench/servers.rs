//! The servers under measurement: ours, Prometheus, and VictoriaMetrics where it is installed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::fleet::Fleet;
use super::gates::{PROMETHEUS, VICTORIA_METRICS};
use super::usage::{Usage, stored_bytes};
use super::{Options, find, free_address, rules};
use crate::client::Client;
use crate::process::{Process, Workplace};

/// Whom the collector is measured beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    Prometheus,
    #[value(name = "victoriametrics")]
    VictoriaMetrics,
    /// Ours alone, against what is demanded of it by itself.
    None,
}

/// A server under measurement.
pub struct Server {
    pub name: &'static str,
    pub url: String,
    program: PathBuf,
    arguments: Vec<String>,
    data: PathBuf,
    rules: PathBuf,
    process: Process,
}

impl Server {
    /// The collector first, then the peers.
    pub fn start_all(options: &Options, workplace: &Workplace, exporter: SocketAddr) -> anyhow::Result<Vec<Server>> {
        let mut programs = vec![("collector", options.bin_dir.join("collector"))];
        for peer in &options.peers {
            let (name, program, package) = match peer {
                Peer::Prometheus => (PROMETHEUS, "prometheus", "prometheus"),
                Peer::VictoriaMetrics => (VICTORIA_METRICS, "victoria-metrics", "victoria-metrics"),
                Peer::None if options.peers.len() == 1 => continue,
                Peer::None => bail!("`--peers none` stands alone"),
            };
            let found = find(program);
            let missing =
                || format!("no {program} on PATH (Debian package {package}); install it, or choose other --peers");
            programs.push((name, found.with_context(missing)?));
        }
        let start = |(name, program)| Server::start(name, program, options, workplace, exporter);
        programs.into_iter().map(start).collect()
    }

    fn start(
        name: &'static str,
        program: PathBuf,
        options: &Options,
        workplace: &Workplace,
        exporter: SocketAddr,
    ) -> anyhow::Result<Server> {
        let (config, listen) = (workplace.dir.join(format!("{name}.yml")), free_address()?);
        let (data, rules) =
            (workplace.dir.join(format!("{name}-data")), workplace.dir.join(format!("{name}-rules.yml")));
        if data.exists() {
            std::fs::remove_dir_all(&data).with_context(|| format!("failed to remove {}", data.display()))?;
        }
        std::fs::write(&rules, "groups: []\n")?;
        let rule_file = (name != VICTORIA_METRICS).then_some(rules.as_path());
        std::fs::write(&config, scrape_config(options, exporter, name, rule_file))?;
        let arguments = arguments(name, &config, &data, &listen);
        let process = workplace.start(name, Command::new(&program).args(&arguments))?;
        Ok(Server { name, url: format!("http://{listen}"), program, arguments, data, rules, process })
    }

    /// VictoriaMetrics leaves them to another program.
    pub fn has_rules(&self) -> bool {
        self.name != VICTORIA_METRICS
    }

    /// Lets it evaluate so many rules from now on.
    pub fn give_rules(&self, count: usize) -> anyhow::Result<()> {
        if self.has_rules() {
            std::fs::write(&self.rules, rules::file(count))?;
            kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGHUP)?;
        }
        Ok(())
    }

    pub fn usage(&mut self) -> anyhow::Result<Usage> {
        self.process.check_alive()?;
        Usage::of(self.process.id())
    }

    /// What lies in its data directory.
    pub fn stored_bytes(&self) -> u64 {
        stored_bytes(&self.data)
    }

    /// Kills it and starts it again; returns when it says that it is ready, and how long that took.
    pub async fn restart(&mut self, client: &Client, workplace: &Workplace) -> anyhow::Result<Duration> {
        self.process.kill();
        let began = Instant::now();
        self.process = workplace.start(self.name, Command::new(&self.program).args(&self.arguments))?;
        self.wait_ready(client).await?;
        Ok(began.elapsed())
    }

    pub async fn wait_ready(&mut self, client: &Client) -> anyhow::Result<()> {
        let path = if self.name == "victoriametrics" { "health" } else { "-/ready" };
        wait_ready(client, self.name, &mut self.process, &format!("{}/{path}", self.url)).await
    }
}

fn arguments(name: &str, config: &Path, data: &Path, listen: &str) -> Vec<String> {
    let (config, data) = (config.display().to_string(), data.display().to_string());
    match name {
        "collector" => ["serve", "--config", &config, "--data", &data, "--listen", listen].map(str::to_owned).to_vec(),
        "prometheus" => vec![
            format!("--config.file={config}"),
            format!("--storage.tsdb.path={data}"),
            format!("--web.listen-address={listen}"),
            "--web.enable-remote-write-receiver".to_owned(),
        ],
        _ => vec![
            format!("-promscrape.config={config}"),
            format!("-storageDataPath={data}"),
            format!("-httpListenAddr={listen}"),
            "-retentionPeriod=1d".to_owned(),
            // Answers about the last scrape, as those of the others; and no answer from a cache.
            "-search.latencyOffset=0s".to_owned(),
            "-search.disableCache".to_owned(),
            // Its own limit is 300,000 for one query.
            "-search.maxUniqueTimeseries=10000000".to_owned(),
        ],
    }
}

/// One job; the path's first part tells the exporter who scrapes.
fn scrape_config(options: &Options, exporter: SocketAddr, who: &str, rules: Option<&Path>) -> String {
    let mut text = format!("global: {{scrape_interval: {}s}}\n", options.interval);
    if let Some(rules) = rules {
        text.push_str(&format!("rule_files: ['{}']\n", rules.display()));
    }
    text.push_str("scrape_configs:\n  - job_name: bench\n    static_configs:\n");
    for number in 0..options.targets as usize {
        let labels = Fleet::target_labels(number).map(|(name, value)| format!("{name}: {value}")).join(", ");
        text.push_str(&format!(
            "      - {{targets: ['{exporter}'], labels: {{__metrics_path__: /{who}/{number}, {labels}}}}}\n"
        ));
    }
    text
}

/// Until the server answers at `url` with 2xx.
///
/// # Errors
/// When it ends, or does not within two minutes.
pub async fn wait_ready(client: &Client, name: &str, process: &mut Process, url: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    while !client.is_ok(url).await {
        process.check_alive()?;
        if started.elapsed() > Duration::from_secs(120) {
            bail!("{name} was not ready within two minutes");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
