//! The collector's configuration in the demo: the repository's rules with every window and `for` shortened.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use jiff::tz::TimeZone;
use jiff::{RoundMode, SignedDuration, Timestamp, ToSpan, Unit, ZonedRound};
use regex::Regex;

use super::Suite;
use super::services::{CLUSTER, REGION, SCALED_SERVICE};

/// Demo timings: every duration of the rules is this many times shorter (5m -> 15s).
pub const TIME_FACTOR: u32 = 20;

/// The bounds of the scaled service outside and inside the demo's window.
pub(super) const BOUNDS_BEFORE: [i64; 2] = [1, 2];
pub(super) const BOUNDS_AFTER: [i64; 2] = [2, 4];

/// When the demo's schedule begins and ends, in UTC at full minutes.
#[derive(Clone, Debug)]
pub struct Window {
    pub from: Timestamp,
    pub to: Timestamp,
}

impl Window {
    /// The first full minute after the baseline; lasts an hour.
    pub(super) fn starting_soon(after: Duration) -> Self {
        let earliest = Timestamp::now() + SignedDuration::try_from(after).unwrap_or_default() + 20.seconds();
        let up = ZonedRound::new().smallest(Unit::Minute).mode(RoundMode::Ceil);
        let from = earliest.to_zoned(TimeZone::UTC).round(up).map_or(earliest, |zoned| zoned.timestamp());
        Window { from, to: from + 60.minutes() }
    }

    fn clock(at: Timestamp) -> String {
        at.to_zoned(TimeZone::UTC).strftime("%H:%M").to_string()
    }
}

impl Suite {
    pub(super) async fn start_collector(&mut self) -> anyhow::Result<()> {
        let rules = self.workplace.dir.join("rules");
        shorten_rules(&repository().join("alertmanager-rules"), &rules)?;
        let config = self.workplace.dir.join("collector.yml");
        std::fs::write(&config, self.configuration(&rules))
            .with_context(|| format!("failed to write {}", config.display()))?;
        let mut command = self.binary("collector")?;
        command.arg("serve").arg("--config").arg(&config);
        command.arg("--data").arg(self.workplace.dir.join("collector"));
        command.args(["--listen", &format!("127.0.0.1:{}", self.options.collector_port)]);
        command.env("AWS_ENDPOINT_URL", self.aws()).env("AWS_REGION", REGION);
        command.env("AWS_ACCESS_KEY_ID", "demo").env("AWS_SECRET_ACCESS_KEY", "demo");
        self.launch("collector", command)?;
        self.wait_for(&format!("{}/-/ready", self.collector())).await
    }

    fn configuration(&self, rules: &Path) -> String {
        let alertmanagers = match &self.alertmanager {
            Some(_) => format!(
                "alerting:\n  alertmanagers:\n    - static_configs:\n        - targets: [\"127.0.0.1:{}\"]\n",
                self.options.alertmanager_port
            ),
            None => String::new(),
        };
        let resource = format!("{CLUSTER}/{SCALED_SERVICE}");
        let ([min, max], [window_min, window_max]) = (BOUNDS_BEFORE, BOUNDS_AFTER);
        format!(
            "# Written by the demo. Rules are the repository's with every duration {TIME_FACTOR} times shorter.\n\
global:\n  scrape_interval: 2s\n  scrape_timeout: 2s\n  evaluation_interval: 2s\n  external_labels: {{cluster: {CLUSTER}}}\n\
scrape_configs:\n  - job_name: sidecar\n    honor_labels: true\n    file_sd_configs:\n      - files: [\"{targets}\"]\n  \
- job_name: collector\n    static_configs:\n      - targets: [\"127.0.0.1:{port}\"]\n        labels: {{service: collector, environment: dev}}\n\
rule_files: [\"{rules}/*.rules.yml\"]\n\
{alertmanagers}\
cloudwatch:\n  enabled: true\n  environment: dev\n  cluster: {CLUSTER}\n  services: [user, product, order, analytics, notification]\n  interval: 15s\n\
scaling:\n  interval: 5s\n  schedules:\n    - name: demo-peak\n      timezone: Etc/UTC\n      targets: [{resource}]\n      \
default: {{min: {min}, max: {max}}}\n      windows:\n        - {{from: \"{from}\", to: \"{to}\", min: {window_min}, max: {window_max}}}\n",
            targets = self.targets_file().display(),
            port = self.options.collector_port,
            rules = rules.display(),
            from = Window::clock(self.window.from),
            to = Window::clock(self.window.to),
        )
    }
}

/// The checkout this program was built from.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this crate lies in crates/e2e").to_owned()
}

/// Copies the rule files with every window, `for` and interval shortened.
fn shorten_rules(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("failed to make {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("failed to list {}", from.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".rules.yml") {
            std::fs::write(to.join(&name), shorten(&std::fs::read_to_string(&path)?))?;
        }
    }
    Ok(())
}

/// Shortens `[5m]`, `[1h:30s]`, `for: 5m`, `keep_firing_for: 1h` and `interval: 30s`.
fn shorten(text: &str) -> String {
    let places = Regex::new(r"(?m)(\[|:|(?:\b(?:for|keep_firing_for|interval): *))([0-9]+[smhdw])\b")
        .expect("a constant pattern");
    let shortened = places.replace_all(text, |found: &regex::Captures<'_>| {
        let duration = telemetry::duration::parse(&found[2]).expect("the pattern only finds durations");
        let short = (duration / TIME_FACTOR).max(Duration::from_secs(2));
        format!("{}{}", &found[1], telemetry::duration::format(short))
    });
    shortened.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_and_waits_are_shortened_and_names_are_not() {
        let rule = "    expr: service:rate5m / rate(x[5m]) > 0.05 and max_over_time(y[1h:5m]) > 300\n    for: 10m\n";
        assert_eq!(
            shorten(rule),
            "    expr: service:rate5m / rate(x[15s]) > 0.05 and max_over_time(y[3m:15s]) > 300\n    for: 30s\n"
        );
        assert_eq!(
            shorten("  - record: job:x:rate5m\n    interval: 15s\n"),
            "  - record: job:x:rate5m\n    interval: 2s\n"
        );
    }
}
