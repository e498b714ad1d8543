//! The past of the fleet, pushed by remote write 1.0 before the first scrape: what is stored has a length then, and what
//! receiving costs can be told. The pushed series are the scraped ones, and go on without a seam.

use std::time::Duration;

use anyhow::bail;
use telemetry::remote_write::{Encoder, Message, Point, TimeSeries};
use telemetry::{Labels, Timestamp};

use super::exporter::Exporter;
use super::fleet::Fleet;

/// Between two samples of a series.
pub const STEP: Duration = Duration::from_secs(30);
/// Samples of one series in a request; the requests follow each other in time, as a sender's do.
const SAMPLES_PER_REQUEST: u32 = 30;
/// Series in a request: so many samples in all are what Prometheus sends at most.
const SERIES_PER_REQUEST: usize = 200;

/// What is pushed: everything, the oldest first.
pub struct History {
    pub requests: Vec<Vec<u8>>,
    pub samples: u64,
    /// When the last samples are, in seconds since 1970.
    pub end: f64,
}

impl History {
    /// So much of the past up to a time. The exporter's targets are at its beginning, and at its end afterwards.
    pub fn of(exporter: &Exporter, length: Duration, end: f64) -> Self {
        let steps = u32::try_from(length.as_millis() / STEP.as_millis()).unwrap_or(u32::MAX);
        let time = |step: u32| end - f64::from(steps - 1 - step) * STEP.as_secs_f64();
        let labels: Vec<Labels> = exporter.fleet().labels().map(own_labels).collect();
        let mut history = History { requests: Vec::new(), samples: 0, end };
        for first in (0..steps).step_by(SAMPLES_PER_REQUEST as usize) {
            let steps = first..steps.min(first + SAMPLES_PER_REQUEST);
            for target in 0..exporter.fleet().targets {
                let mut points = vec![Vec::with_capacity(steps.len()); labels.len()];
                for step in steps.clone() {
                    let at = Timestamp::from_millis((time(step) * 1000.0) as i64);
                    exporter.values(target, time(step), |values| {
                        points.iter_mut().zip(values).for_each(|(points, value)| points.push(Point::new(at, *value)));
                    });
                }
                history.push(target, &labels, &points);
            }
        }
        history
    }

    fn push(&mut self, target: usize, labels: &[Labels], points: &[Vec<Point>]) {
        let of_target = Fleet::target_labels(target);
        for (labels, points) in labels.chunks(SERIES_PER_REQUEST).zip(points.chunks(SERIES_PER_REQUEST)) {
            let mut encoder = Encoder::new(Message::V1);
            for (labels, points) in labels.iter().zip(points) {
                let all = labels.iter().chain(of_target.iter().map(|(name, value)| (*name, value.as_str())));
                encoder.series(&TimeSeries::of_samples(&Labels::from_pairs(all), points));
                self.samples += points.len() as u64;
            }
            self.requests.push(encoder.finish());
        }
    }
}

fn own_labels(line: &[(&'static str, String)]) -> Labels {
    Labels::from_pairs(line.iter().map(|(name, value)| (*name, value.as_str())))
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
