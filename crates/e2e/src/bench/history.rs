//! The past of the fleet, pushed by remote write 1.0 before the first scrape: what is stored has a length then, and what
//! receiving costs can be told.

use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use telemetry::labels::METRIC_NAME;
use telemetry::remote_write::{Encoder, Message, Point, TimeSeries};
use telemetry::{Labels, Timestamp};

use super::exporter::{Exporter, each};

/// Samples of one series in a request; the requests follow each other in time, as a sender's do.
const SAMPLES_PER_REQUEST: u32 = 30;

/// What is pushed.
pub struct History {
    pub targets: usize,
    pub series: usize,
    pub length: Duration,
    /// Between two samples of a series.
    pub step: Duration,
}

impl History {
    fn steps(&self) -> u32 {
        u32::try_from(self.length.as_millis() / self.step.as_millis().max(1)).unwrap_or(u32::MAX)
    }

    /// All requests, the oldest first, and how many samples they hold.
    pub fn requests(&self, exporter: &Exporter) -> anyhow::Result<(Vec<Vec<u8>>, u64)> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("a clock before 1970")?;
        let (instance, age) = (exporter.address().to_string(), exporter.seconds());
        let (mut requests, mut samples) = (Vec::new(), 0);
        for first in (0..self.steps()).step_by(SAMPLES_PER_REQUEST as usize) {
            let steps = first..self.steps().min(first + SAMPLES_PER_REQUEST);
            for target in 0..self.targets {
                let (body, count) = self.request(target, &instance, (now, age), steps.clone());
                requests.push(body);
                samples += count;
            }
        }
        Ok((requests, samples))
    }

    fn request(
        &self,
        target: usize,
        instance: &str,
        (now, age): (Duration, f64),
        steps: std::ops::Range<u32>,
    ) -> (Vec<u8>, u64) {
        let (mut labels, mut points) = (Vec::new(), Vec::new());
        for step in steps {
            let back = self.length - step * self.step;
            let at = Timestamp::from_millis(i64::try_from((now - back).as_millis()).unwrap_or(i64::MAX));
            let mut index = 0;
            each(target, self.series, age - back.as_secs_f64(), |name, own, value| {
                if index == labels.len() {
                    labels.push(series(name, own, target, instance));
                    points.push(Vec::new());
                }
                points[index].push(Point::new(at, value));
                index += 1;
            });
        }
        let mut encoder = Encoder::new(Message::V1);
        labels.iter().zip(&points).for_each(|(labels, points)| encoder.series(&TimeSeries::of_samples(labels, points)));
        (encoder.finish(), points.iter().map(|points| points.len() as u64).sum())
    }
}

/// The labels that a scraped series of this target has.
fn series(name: &str, own: &[(&str, &str)], target: usize, instance: &str) -> Labels {
    let target = format!("t{target}");
    let scraped = [(METRIC_NAME, name), ("job", "bench"), ("instance", instance), ("target", &target)];
    Labels::from_pairs(own.iter().copied().chain(scraped))
}

/// Sends all requests to one server, one after the other.
///
/// # Errors
/// A request that is not accepted: the comparison would be worth nothing.
pub async fn push(url: &str, requests: &[Vec<u8>]) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).no_proxy().build()?;
    for body in requests {
        let request = client.post(format!("{url}/api/v1/write")).body(body.clone());
        let request = request.header("content-type", Message::V1.content_type());
        let request = request.header("content-encoding", Message::ENCODING);
        let answer = request.header("x-prometheus-remote-write-version", Message::V1.version()).send().await?;
        if !answer.status().is_success() {
            bail!("{url} answered a push with {}: {}", answer.status(), answer.text().await.unwrap_or_default());
        }
    }
    Ok(())
}
