//! The servers under measurement: ours and Prometheus over the same targets and rules.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use super::{GROUPS, SERVICES};
use crate::bench::servers::wait_ready;
use crate::bench::{Options, find, free_address};
use crate::client::Client;
use crate::process::{Process, Workplace};

/// A server under measurement.
pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) process: Process,
    url: String,
}

pub(super) async fn start_all(
    options: &Options,
    workplace: &Workplace,
    address: SocketAddr,
    interval: Duration,
    rules: &str,
    round: u32,
) -> anyhow::Result<Vec<Subject>> {
    // Phases hang on the file's name, too: each round meets others.
    let rule_file = workplace.dir.join(format!("alerts-{round}.rules.yml"));
    std::fs::write(&rule_file, rules)?;
    let mut subjects = vec![subject("collector", options, workplace, address, interval, &rule_file)?];
    if find("prometheus").is_some() {
        subjects.push(subject("prometheus", options, workplace, address, interval, &rule_file)?);
    }
    let client = Client::new()?;
    for subject in &mut subjects {
        wait_ready(&client, subject.name, &mut subject.process, &format!("{}/-/ready", subject.url)).await?;
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

pub(super) fn rules(count: usize, hold: Option<Duration>) -> String {
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
