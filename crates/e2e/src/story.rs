//! The story: healthy traffic, a fault, the alert with its evidence, the end of the fault, the scaling action.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use telemetry::trace::TraceId;

use crate::report::{Alert, Report, Scaling};
use crate::suite::{SCALED_SERVICE, Suite};
use crate::terminal::{Progress, Tone};

const ALERT: &str = "HighErrorRate";
const FAULTY: &str = "order";
const FAULT_RATIO: f64 = 0.1;
/// How often the story looks.
const LOOK: Duration = Duration::from_millis(500);
/// How often the live summary is drawn.
const DRAW: Duration = Duration::from_secs(1);
/// After the fault the windows must empty before the alert ends.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(90);
/// The window starts at a full minute, at most this long after the baseline.
const SCALING_TIMEOUT: Duration = Duration::from_secs(120);

/// Tells the story once.
///
/// # Errors
/// When a program of the suite ends or an API breaks; a story that does not come true is in the report.
pub async fn tell(suite: &mut Suite, progress: &Progress) -> anyhow::Result<Report> {
    let resource = format!("service/dev-enterprise-cluster/{SCALED_SERVICE}");
    let mut report = Report { alert: Alert { name: ALERT.to_owned(), ..Alert::default() }, ..Report::default() };
    report.scaling =
        Scaling { before: suite.client.scaling_bounds(&suite.aws(), &resource).await?, resource, after: None };
    if suite.alertmanager.is_none() {
        report.not_shown.push("delivery to Alertmanager: none installed".to_owned());
    }
    progress.event(Tone::Plain, &format!("healthy traffic for {} s", suite.options.baseline.as_secs()));
    let baseline = Instant::now();
    watch(suite, progress, suite.options.baseline, |_| false).await?;
    let looked_at = baseline.elapsed();
    progress.event(Tone::Plain, &format!("{} after {} s", summary(suite).await, looked_at.as_secs()));

    let fault_started = Instant::now();
    let tasks = set_fault(suite).await?;
    let length = suite.options.fault;
    progress.event(
        Tone::Bad,
        &format!("fault: {tasks} task(s) of {FAULTY} fail one request in ten for {} s", length.as_secs()),
    );
    while fault_started.elapsed() < length {
        look_at_alert(suite, progress, &mut report.alert, fault_started).await?;
        look_at_scaling(suite, progress, &mut report.scaling).await?;
        pause(suite, progress).await?;
    }
    let fault_ended = Instant::now();
    progress.event(Tone::Plain, "the fault has ended");
    while fault_ended.elapsed() < RESOLVE_TIMEOUT && report.alert.fired_after_s.is_some() {
        look_at_alert(suite, progress, &mut report.alert, fault_started).await?;
        look_at_scaling(suite, progress, &mut report.scaling).await?;
        if !is_firing(suite).await? {
            report.alert.resolved_after_s = Some(rounded(fault_ended.elapsed()));
            progress.event(
                Tone::Good,
                &format!("{ALERT} resolved {:.0} s after the fault", fault_ended.elapsed().as_secs_f64()),
            );
            break;
        }
        pause(suite, progress).await?;
    }
    let waited = Instant::now();
    while report.scaling.after.is_none() && waited.elapsed() < SCALING_TIMEOUT {
        look_at_scaling(suite, progress, &mut report.scaling).await?;
        pause(suite, progress).await?;
    }
    finish(suite, &mut report).await?;
    Ok(report)
}

/// Shows the live summary until the end of time (or until Ctrl-C ends the future).
///
/// # Errors
/// When a program of the suite ends.
pub async fn keep_showing(suite: &mut Suite, progress: &Progress) -> anyhow::Result<()> {
    loop {
        watch(suite, progress, Duration::from_secs(3600), |_| false).await?;
    }
}

/// Draws the live summary for a time, or until `done`.
async fn watch(
    suite: &mut Suite,
    progress: &Progress,
    time: Duration,
    done: impl Fn(&Suite) -> bool,
) -> anyhow::Result<()> {
    let started = Instant::now();
    while started.elapsed() < time && !done(suite) {
        pause(suite, progress).await?;
        tokio::time::sleep(DRAW.saturating_sub(LOOK)).await;
    }
    Ok(())
}

async fn pause(suite: &mut Suite, progress: &Progress) -> anyhow::Result<()> {
    suite.check_alive()?;
    progress.block(&live_block(suite).await);
    tokio::time::sleep(LOOK).await;
    Ok(())
}

/// Sets the fault on every task of the faulty service; says how many.
async fn set_fault(suite: &Suite) -> anyhow::Result<usize> {
    let targets = std::fs::read_to_string(suite.workplace.dir.join("targets.json")).context("no targets file")?;
    let groups: Value = serde_json::from_str(&targets)?;
    let body = json!({"error_ratio": FAULT_RATIO, "duration": format!("{}s", suite.options.fault.as_secs())});
    let mut tasks = 0;
    for group in groups.as_array().into_iter().flatten().filter(|group| group["labels"]["service"] == FAULTY) {
        for target in group["targets"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let ip = target.split(':').next().unwrap_or_default();
            suite.client.post(&format!("http://{ip}:3000/internal/fault"), &body).await?;
            tasks += 1;
        }
    }
    anyhow::ensure!(tasks > 0, "no task of {FAULTY} is known to discovery");
    Ok(tasks)
}

async fn look_at_alert(suite: &Suite, progress: &Progress, alert: &mut Alert, since: Instant) -> anyhow::Result<()> {
    if alert.fired_after_s.is_none() && is_firing(suite).await? {
        alert.fired_after_s = Some(rounded(since.elapsed()));
        progress.event(
            Tone::Bad,
            &format!("{ALERT} fires for {FAULTY}, {:.0} s after the fault began", since.elapsed().as_secs_f64()),
        );
    }
    if alert.fired_after_s.is_none() || (alert.trace_exported && (alert.delivered || suite.alertmanager.is_none())) {
        return Ok(());
    }
    let annotations = match &suite.alertmanager {
        Some(url) => {
            let filter = format!("{url}/api/v2/alerts?filter=alertname%3D{ALERT}&filter=service%3D{FAULTY}");
            let found = suite.client.get(&filter).await?[0]["annotations"].clone();
            if !found.is_null() && !alert.delivered {
                alert.delivered = true;
                progress.event(Tone::Good, "Alertmanager has the alert");
            }
            found
        }
        None => firing_alert(suite).await?.map(|alert| alert["annotations"].clone()).unwrap_or_default(),
    };
    let lines = annotations["evidence_logs"].as_str().unwrap_or_default().lines().count() as u64;
    if lines > 0 && alert.evidence_lines == 0 {
        progress.event(
            Tone::Good,
            &format!(
                "the alert carries {lines} error line(s) of task {}:",
                annotations["evidence_task"].as_str().unwrap_or("?")
            ),
        );
        for line in annotations["evidence_logs"].as_str().unwrap_or_default().lines().take(3) {
            progress.note(&format!("    {line}"));
        }
    }
    alert.evidence_lines = alert.evidence_lines.max(lines);
    if let Some(id) = annotations["evidence_trace_id"].as_str().and_then(TraceId::parse) {
        let text = id.to_string();
        alert.trace_in_log |= is_in_log(&suite.logs(), &text);
        let exported = suite.traces.has(id);
        if exported && !alert.trace_exported {
            progress
                .event(Tone::Good, &format!("its trace {text} is in the service's log and came out of the sidecar"));
        }
        alert.trace_exported |= exported;
        alert.trace_id = Some(text);
    }
    Ok(())
}

async fn look_at_scaling(suite: &Suite, progress: &Progress, scaling: &mut Scaling) -> anyhow::Result<()> {
    if scaling.after.is_some() {
        return Ok(());
    }
    let now = suite.client.scaling_bounds(&suite.aws(), &scaling.resource).await?;
    if now.is_some() && now != scaling.before {
        scaling.after = now;
        let ([min, max], [old_min, old_max]) = (now.unwrap_or_default(), scaling.before.unwrap_or_default());
        progress.event(
            Tone::Good,
            &format!("scaling window began: {} from {old_min}-{old_max} to {min}-{max} tasks in AWS", scaling.resource),
        );
    }
    Ok(())
}

async fn finish(suite: &Suite, report: &mut Report) -> anyhow::Result<()> {
    let number = async |expr: &str| suite.client.number(&suite.collector(), expr).await.unwrap_or(0.0) as u64;
    report.services_up = number(r#"count(count by (service) (up{job="sidecar"} == 1))"#).await;
    report.targets_up = number("count(up == 1)").await;
    report.dashboards_published = suite.client.dashboards(&suite.aws()).await?.len() as u64;
    report.trace_exports = suite.traces.exports();
    report.requests = requests(&suite.logs().join("loadgen.log"));
    Ok(())
}

async fn firing_alert(suite: &Suite) -> anyhow::Result<Option<Value>> {
    let answer = suite.client.get(&format!("{}/api/v1/alerts", suite.collector())).await?;
    let mut alerts = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
    alerts.retain(|alert| {
        alert["state"] == "firing" && alert["labels"]["alertname"] == ALERT && alert["labels"]["service"] == FAULTY
    });
    Ok(alerts.pop())
}

async fn is_firing(suite: &Suite) -> anyhow::Result<bool> {
    Ok(firing_alert(suite).await?.is_some())
}

fn is_in_log(logs: &Path, trace_id: &str) -> bool {
    let entries = std::fs::read_dir(logs).into_iter().flatten().flatten();
    let of_service = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{FAULTY}-")));
    of_service.filter_map(|entry| std::fs::read_to_string(entry.path()).ok()).any(|text| text.contains(trace_id))
}

/// The load generator's newest count of requests.
fn requests(log: &Path) -> u64 {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let mut counts = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["requests"].as_u64());
    counts.next_back().unwrap_or(0)
}

fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

async fn summary(suite: &Suite) -> String {
    let up = suite.client.number(&suite.collector(), "count(up == 1)").await.unwrap_or(0.0);
    let rate = suite.client.number(&suite.collector(), "sum(service:http_requests:rate5m)").await.unwrap_or(0.0);
    format!("{up:.0} targets up, {rate:.1} requests/s")
}

/// A small table of the services as the collector sees them.
async fn live_block(suite: &Suite) -> Vec<String> {
    let base = suite.collector();
    let ask = async |expr: &str| -> Vec<(String, f64)> {
        let samples = suite.client.query(&base, expr).await.unwrap_or_default();
        samples
            .into_iter()
            .filter_map(|(labels, value)| Some((labels["service"].as_str()?.to_owned(), value)))
            .collect()
    };
    let rates = ask("sum by (service) (service:http_requests:rate5m)").await;
    let errors = ask("max by (service) (service:http_error_ratio:rate5m)").await;
    let latencies = ask("max by (service) (service:http_request_duration_seconds:p95_5m)").await;
    let tasks = ask(r#"count by (service) (up{job="sidecar"} == 1)"#).await;
    let of =
        |list: &[(String, f64)], name: &str| list.iter().find(|(service, _)| service == name).map(|(_, value)| *value);
    let mut lines =
        vec![String::new(), format!("  {:<14}{:>8}{:>9}{:>9}{:>7}", "service", "req/s", "errors", "p95", "tasks")];
    for service in crate::suite::SERVICES.into_iter().chain(["worker"]) {
        let text = |value: Option<f64>, show: fn(f64) -> String| {
            value.filter(|v| v.is_finite()).map_or_else(|| "-".to_owned(), show)
        };
        lines.push(format!(
            "  {service:<14}{:>8}{:>9}{:>9}{:>7}",
            text(of(&rates, service), |v| format!("{v:.1}")),
            text(of(&errors, service), |v| format!("{:.1} %", v * 100.0)),
            text(of(&latencies, service), |v| format!("{:.0} ms", v * 1000.0)),
            text(of(&tasks, service), |v| format!("{v:.0}")),
        ));
    }
    lines.push(format!("  web UI {base}   Ctrl-C ends everything"));
    lines
}
