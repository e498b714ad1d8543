//! From the moment a failing value exists in the target to the alert's arrival at an Alertmanager: a thousand rules
//! over fifty services, ours beside Prometheus in one run, over the same failures.
//!
//! The Alertmanager is played by the measurement: it takes `POST /api/v2/alerts` and notes when each alert first
//! came. What real Alertmanagers add (`group_wait`) is the same for both. The wait for the next scrape and the next
//! evaluation is most of every figure; it is named apart.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use axum::extract::{DefaultBodyLimit, Path as UrlPath, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::Value;
use service::Shutdown;

use super::usage::Usage;
use super::{Options, find, free_address, wait_ready};
use crate::client::Client;
use crate::process::{Process, Workplace};

const SERVICES: usize = 50;
const RULES: usize = 1000;
const GROUPS: usize = 20;
/// Failures that are measured: enough for a 99th percentile.
const FAILURES: usize = 200;

/// One alert: a rule about a service.
type Alert = (usize, usize);

/// Targets and receiver of one run.
#[derive(Default)]
struct Lab {
    /// Since when a value fails.
    failing: Mutex<HashMap<Alert, Instant>>,
    /// Per subject: when it first scraped the failing value.
    scraped: Mutex<HashMap<(String, Alert), Instant>>,
    /// Per subject: when the alert first arrived as firing.
    arrived: Mutex<HashMap<(String, Alert), Instant>>,
}

type Shared = State<Arc<Lab>>;

async fn expose(State(lab): Shared, UrlPath((who, service)): UrlPath<(String, usize)>) -> impl IntoResponse {
    let now = Instant::now();
    let mut text = String::with_capacity(RULES * 64);
    let failing = lab.failing.lock().expect("no one panics holding it");
    let mut scraped = lab.scraped.lock().expect("no one panics holding it");
    for rule in 0..RULES {
        let fails = failing.contains_key(&(rule, service));
        if fails {
            scraped.entry((who.clone(), (rule, service))).or_insert(now);
        }
        writeln!(text, "bench_failing{{service=\"s{service}\",kind=\"k{rule}\"}} {}", u8::from(fails))
            .expect("writing to a string cannot fail");
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

async fn take(State(lab): Shared, UrlPath(who): UrlPath<String>, Json(alerts): Json<Vec<Value>>) {
    let now = Instant::now();
    let mut arrived = lab.arrived.lock().expect("no one panics holding it");
    for alert in &alerts {
        let number = |label: &str, prefix: &str| -> Option<usize> {
            alert["labels"][label].as_str()?.strip_prefix(prefix)?.parse().ok()
        };
        if let (Some(rule), Some(service)) = (number("alertname", "Bench"), number("service", "s")) {
            arrived.entry((who.clone(), (rule, service))).or_insert(now);
        }
    }
}

/// A server under measurement.
struct Subject {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    url: String,
    process: Process,
}

/// Runs all measurements and prints them.
///
/// # Errors
/// A server that does not start, or an alert that never arrives.
pub async fn run(options: &Options, workplace: &Workplace) -> anyhow::Result<()> {
    println!(
        "\nfrom the failing value to the alert's arrival, {RULES} rules over {SERVICES} services, {FAILURES} failures"
    );
    println!(
        "{:<12}{:<12}{:>10}{:>10}{:>16}{:>16}{:>12}",
        "interval", "", "p50 s", "p99 s", "since scrape p50", "since scrape p99", "CPU s/min"
    );
    for interval in [Duration::from_secs(15), Duration::from_secs(1)] {
        latency(options, workplace, interval).await?;
    }
    killed_inside_for(options, workplace).await
}

async fn latency(options: &Options, workplace: &Workplace, interval: Duration) -> anyhow::Result<()> {
    let (lab, address, shutdown) = open_lab().await?;
    let mut subjects = start_all(options, workplace, address, interval, &rules(RULES, None)).await?;
    // Every series has been scraped and every rule evaluated before the first failure.
    tokio::time::sleep(interval * 2 + Duration::from_secs(5)).await;
    let started = Instant::now();
    let before: Vec<_> = subjects.iter().map(|subject| Usage::of(subject.process.id())).collect();
    // A failure every now and then, out of step with scrapes and evaluations: each meets another phase.
    let spread = (interval * 4).max(Duration::from_secs(20));
    let pause = spread / FAILURES as u32;
    let mut alerts = Vec::new();
    for number in 0..FAILURES {
        let alert = (number * 7 % RULES, number * 13 % SERVICES);
        lab.failing.lock().expect("no one panics holding it").insert(alert, Instant::now());
        alerts.push(alert);
        tokio::time::sleep(pause).await;
    }
    let deadline = Instant::now() + interval * 3 + Duration::from_secs(30);
    let all = subjects.len() * FAILURES;
    while lab.arrived.lock().expect("no one panics holding it").len() < all && Instant::now() < deadline {
        subjects.iter_mut().try_for_each(|subject| subject.process.check_alive())?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    for (subject, before) in subjects.iter().zip(before) {
        let cpu = (Usage::of(subject.process.id())?.cpu_seconds - before?.cpu_seconds) / minutes;
        print_latency(&lab, subject.name, interval, &alerts, cpu)?;
    }
    shutdown.request();
    Ok(())
}

fn print_latency(lab: &Lab, who: &str, interval: Duration, alerts: &[Alert], cpu: f64) -> anyhow::Result<()> {
    let failing = lab.failing.lock().expect("no one panics holding it");
    let scraped = lab.scraped.lock().expect("no one panics holding it");
    let arrived = lab.arrived.lock().expect("no one panics holding it");
    let (mut whole, mut since_scrape) = (Vec::new(), Vec::new());
    for alert in alerts {
        let key = (who.to_owned(), *alert);
        let Some(at) = arrived.get(&key) else { bail!("{who}: the alert of rule {} never arrived", alert.0) };
        whole.push(at.duration_since(failing[alert]).as_secs_f64());
        since_scrape.push(at.duration_since(scraped[&key]).as_secs_f64());
    }
    let (p50, p99) = (percentile(&mut whole, 0.5), percentile(&mut whole, 0.99));
    let (scrape50, scrape99) = (percentile(&mut since_scrape, 0.5), percentile(&mut since_scrape, 0.99));
    let interval = format!("{} s", interval.as_secs());
    println!("{interval:<12}{who:<12}{p50:>10.2}{p99:>10.2}{scrape50:>16.2}{scrape99:>16.2}{cpu:>12.2}");
    Ok(())
}

fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len());
    values[index - 1]
}

/// A process that is killed while an alert is pending, and back four seconds later.
async fn killed_inside_for(options: &Options, workplace: &Workplace) -> anyhow::Result<()> {
    const FOR: Duration = Duration::from_secs(20);
    println!(
        "\nkilled 8 s into a `for` of 20 s and started again 4 s later: from the failing value to the alert's arrival"
    );
    let (lab, address, shutdown) = open_lab().await?;
    let interval = Duration::from_secs(1);
    let mut subjects = start_all(options, workplace, address, interval, &rules(1, Some(FOR))).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let began = Instant::now();
    lab.failing.lock().expect("no one panics holding it").insert((0, 0), began);
    tokio::time::sleep(Duration::from_secs(8)).await;
    subjects.iter_mut().for_each(|subject| subject.process.kill());
    tokio::time::sleep(Duration::from_secs(4)).await;
    for subject in &mut subjects {
        let mut command = Command::new(&subject.program);
        command.args(&subject.arguments);
        subject.process = workplace.start(subject.name, &mut command)?;
    }
    let deadline = Instant::now() + FOR * 3;
    while lab.arrived.lock().expect("no one panics holding it").len() < subjects.len() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let arrived = lab.arrived.lock().expect("no one panics holding it");
    for subject in &subjects {
        match arrived.get(&(subject.name.to_owned(), (0, 0))) {
            Some(at) => println!("{:<24}{:>10.1} s", subject.name, at.duration_since(began).as_secs_f64()),
            None => println!("{:<24}  not within {:?}", subject.name, FOR * 3),
        }
    }
    shutdown.request();
    Ok(())
}

async fn open_lab() -> anyhow::Result<(Arc<Lab>, SocketAddr, Shutdown)> {
    let lab = Arc::new(Lab::default());
    let listener = service::http::bind(([127, 0, 0, 1], 0).into(), "the measurement's port").await?;
    let (address, shutdown) = (listener.local_addr()?, Shutdown::new());
    let router = Router::new()
        .route("/{who}/target/{service}", get(expose))
        .route("/{who}/api/v2/alerts", post(take))
        .layer(DefaultBodyLimit::max(64 << 20))
        .with_state(lab.clone());
    service::task::spawn("lab", service::http::serve(listener, router, shutdown.clone()));
    Ok((lab, address, shutdown))
}

fn rules(count: usize, hold: Option<Duration>) -> String {
    let mut text = String::from("groups:\n");
    let groups = GROUPS.min(count);
    for group in 0..groups {
        writeln!(text, "  - name: bench-{group}\n    rules:").expect("writing to a string cannot fail");
        for rule in (group..count).step_by(groups) {
            let hold = hold.map_or(String::new(), |hold| format!("        for: {}s\n", hold.as_secs()));
            writeln!(
                text,
                "      - alert: Bench{rule}\n        expr: max by (service) (bench_failing{{kind=\"k{rule}\"}}) > 0\n{hold}        \
                 labels: {{severity: critical}}\n        annotations: {{summary: '{{{{ $labels.service }}}} fails'}}"
            )
            .expect("writing to a string cannot fail");
        }
    }
    text
}

fn configuration(address: SocketAddr, who: &str, interval: Duration, rules: &Path, more: &str) -> String {
    let mut text = format!(
        "global: {{scrape_interval: {0}s, scrape_timeout: {0}s, evaluation_interval: {0}s}}\nrule_files: ['{1}']\n\
         alerting:\n  alertmanagers: [{{path_prefix: /{who}, static_configs: [{{targets: ['{address}']}}]}}]\n{more}scrape_configs:\n",
        interval.as_secs(),
        rules.display()
    );
    for service in 0..SERVICES {
        writeln!(
            text,
            "  - {{job_name: s{service}, metrics_path: /{who}/target/{service}, static_configs: [{{targets: ['{address}']}}]}}"
        )
        .expect("writing to a string cannot fail");
    }
    text
}

async fn start_all(
    options: &Options,
    workplace: &Workplace,
    address: SocketAddr,
    interval: Duration,
    rules: &str,
) -> anyhow::Result<Vec<Subject>> {
    let rule_file = workplace.dir.join("alerts.rules.yml");
    std::fs::write(&rule_file, rules)?;
    let mut subjects = vec![subject("collector", options, workplace, address, interval, &rule_file)?];
    if find("prometheus").is_some() {
        subjects.push(subject("prometheus", options, workplace, address, interval, &rule_file)?);
    }
    let client = Client::new()?;
    for subject in &mut subjects {
        wait_ready(&client, subject.name, &mut subject.process, &subject.url).await?;
    }
    Ok(subjects)
}

fn subject(
    name: &'static str,
    options: &Options,
    workplace: &Workplace,
    address: SocketAddr,
    interval: Duration,
    rules: &Path,
) -> anyhow::Result<Subject> {
    let (listen, config) = (free_address()?, workplace.dir.join(format!("alerts-{name}.yml")));
    let data = workplace.dir.join(format!("alerts-{name}-data"));
    let _ = std::fs::remove_dir_all(&data);
    let is_ours = name == "collector";
    // Nobody has sidecars here.
    let more = if is_ours { "  evidence: {enabled: false}\n" } else { "" };
    std::fs::write(&config, configuration(address, name, interval, rules, more))?;
    let (config, data) = (config.display().to_string(), data.display().to_string());
    let (program, arguments) = match is_ours {
        true => {
            let arguments = ["serve", "--config", &config, "--data", &data, "--listen", &listen].map(str::to_owned);
            (options.bin_dir.join("collector"), arguments.to_vec())
        }
        false => {
            let arguments = [
                format!("--config.file={config}"),
                format!("--storage.tsdb.path={data}"),
                format!("--web.listen-address={listen}"),
            ];
            (find("prometheus").context("prometheus was there a moment ago")?, arguments.to_vec())
        }
    };
    let mut command = Command::new(&program);
    command.args(&arguments);
    let process = workplace.start(name, &mut command)?;
    Ok(Subject { name, program, arguments, url: format!("http://{listen}"), process })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let mut values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut values, 0.5), 100.0);
        assert_eq!(percentile(&mut values, 0.99), 198.0);
        assert_eq!(percentile(&mut [7.0], 0.99), 7.0);
    }

    #[test]
    fn every_rule_is_in_a_group_and_none_twice() {
        let text = rules(RULES, Some(Duration::from_secs(20)));
        assert_eq!(text.matches("- alert: ").count(), RULES);
        assert_eq!(text.matches("  - name: ").count(), GROUPS);
        assert!(text.contains("alert: Bench999\n") && text.contains("for: 20s"));
    }
}
