//! The synthetic service that is scraped: which series a target has, and how their values go on.
//!
//! All targets have the same lines, as the tasks of a fleet have; job, service and instance are labels of the target.
//! Values go on by chance: counters by as many events as happen in the time passed, buckets agree with their count, sums
//! are floats of all their digits, gauges wander, and the load of each target rises and falls. Even counters would cost a
//! store that keeps differences next to nothing, and say nothing about a real one.

mod lines;

use std::io::Write as _;

use super::noise::Chance;
use lines::{Kind, Line, lines};

pub const SERVICES: usize = 20;

/// The lines of a target, and what they do.
pub struct Fleet {
    pub targets: usize,
    lines: Vec<Line>,
    /// Comments, names and labels of the lines.
    text: Vec<u8>,
}

impl Fleet {
    /// Exactly so many series for each target.
    pub fn new(targets: usize, series: usize) -> Self {
        let (lines, text) = lines(series);
        Fleet { targets, lines, text }
    }

    pub fn series(&self) -> usize {
        self.lines.len()
    }

    /// A target as it is at a time, in seconds, having run for a while.
    pub fn target(&self, number: usize, at: f64) -> Target {
        const AGE: f64 = 6.0 * 3600.0;
        let mut target = Target {
            at: at - AGE,
            load: 1.0,
            chance: Chance::new(number as u64 + 1),
            values: self.lines.iter().map(|line| line.kind.begin()).collect(),
        };
        self.go_on(&mut target, at);
        target
    }

    /// Lets time pass; none if the target is further already.
    pub fn go_on(&self, target: &mut Target, to: f64) {
        let passed = to - target.at;
        if passed <= 0.0 {
            return;
        }
        target.at = to;
        let Target { load, chance, values, .. } = target;
        // Comes back to 1 within some minutes.
        let memory = (-passed / 300.0).exp();
        *load = (1.0 + (*load - 1.0) * memory + 0.2 * (1.0 - memory * memory).sqrt() * chance.normal()).max(0.1);
        let mut observed = (0.0, 0.0);
        for (line, value) in self.lines.iter().zip(values) {
            line.kind.go_on(value, passed, *load, chance, &mut observed);
        }
    }

    /// What a target says at the moment, in the text format.
    pub fn render(&self, target: &Target) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.text.len() + 16 * self.lines.len());
        let mut start = 0;
        for (line, value) in self.lines.iter().zip(&target.values) {
            body.extend_from_slice(&self.text[start..line.text_end]);
            start = line.text_end;
            push_value(&mut body, *value);
            body.push(b'\n');
        }
        body
    }

    /// Name and own labels of each line, the name first.
    pub fn labels(&self) -> impl Iterator<Item = &[(&'static str, String)]> {
        self.lines.iter().map(|line| line.labels.as_slice())
    }

    /// The labels that a target has by its configuration.
    pub fn target_labels(number: usize) -> [(&'static str, String); 3] {
        let service = format!("svc-{:02}", number % SERVICES);
        [("job", "bench".to_owned()), ("instance", format!("{service}-{number:05}")), ("service", service)]
    }
}

/// The state of one target.
pub struct Target {
    at: f64,
    load: f64,
    chance: Chance,
    values: Vec<f64>,
}

impl Target {
    pub fn values(&self) -> &[f64] {
        &self.values
    }
}

impl Kind {
    fn begin(self) -> f64 {
        match self {
            Kind::Level { low, high, .. } => (low + high) / 2.0,
            Kind::Fixed(value) => value,
            _ => 0.0,
        }
    }

    /// `observed` are the observations of the histogram whose lines are being gone through, and their sum.
    fn go_on(self, value: &mut f64, passed: f64, load: f64, chance: &mut Chance, observed: &mut (f64, f64)) {
        match self {
            Kind::Events { rate } => *value += chance.events(rate * load * passed),
            Kind::Bucket { rate, usual, is_first } => {
                if is_first {
                    *observed = (0.0, 0.0);
                }
                let events = chance.events(rate * load * passed);
                // What falls into one bucket is not all the same.
                observed.1 += events * usual + events.sqrt() * usual * 0.2 * chance.normal();
                observed.0 += events;
                *value += observed.0;
            }
            Kind::Sum => *value += observed.1.max(0.0),
            Kind::Count => *value += observed.0,
            Kind::Amount { rate, mean, unit } => {
                let events = chance.events(rate * load * passed);
                let amount = (events * mean + events.sqrt() * mean * 0.5 * chance.normal()).max(0.0);
                *value += if unit > 0.0 { (amount / unit).round() * unit } else { amount };
                *observed = (events, amount);
            }
            Kind::Level { low, high, unit } => {
                let (middle, width) = ((low + high) / 2.0, (high - low) / 2.0);
                let memory = (-passed / 120.0).exp();
                let drift = 0.5 * width * (1.0 - memory * memory).sqrt() * chance.normal();
                let wandered = middle + (*value - middle) * memory + drift;
                *value = (wandered.clamp(low, high) / unit).round() * unit;
            }
            Kind::Fixed(_) => {}
        }
    }
}

/// As short as it can be read back, as clients write it.
fn push_value(body: &mut Vec<u8>, value: f64) {
    const WHOLE_MAX: f64 = 9e15;
    if value.fract() != 0.0 || value.abs() > WHOLE_MAX {
        write!(body, "{value}").expect("writing to memory cannot fail");
        return;
    }
    let (mut digits, mut at, mut rest) = ([0; 20], 20, value.abs() as u64);
    while rest > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    if value < 0.0 {
        body.push(b'-');
    }
    body.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use telemetry::exposition::{Format, Line, Parser};

    use super::*;

    /// By series, without the comments.
    fn read(body: &[u8]) -> BTreeMap<String, f64> {
        let text = std::str::from_utf8(body).expect("text");
        let (mut parser, mut found) = (Parser::new(text, Format::Prometheus), BTreeMap::new());
        while let Some(line) = parser.next_line().expect("valid") {
            if let Line::Sample(sample) = line {
                let before = found.insert(sample.to_labels().to_string(), sample.value);
                assert_eq!(before, None, "a series twice");
            }
        }
        found
    }

    #[test]
    fn a_body_has_exactly_the_wanted_series() {
        for series in [1, 7, 20, 151, 152, 1000, 1001] {
            let fleet = Fleet::new(3, series);
            let target = fleet.target(2, 1e9);
            assert_eq!((read(&fleet.render(&target)).len(), fleet.series()), (series, series));
            let names = fleet.labels().map(|labels| labels[0].0);
            assert!(names.into_iter().all(|name| name == telemetry::labels::METRIC_NAME));
        }
    }

    #[test]
    fn counters_rise_and_buckets_agree_with_their_count() {
        let fleet = Fleet::new(1, 1000);
        let mut target = fleet.target(0, 1e9);
        let mut before = read(&fleet.render(&target));
        for round in 1..30 {
            fleet.go_on(&mut target, 1e9 + 10.0 * f64::from(round));
            let now = read(&fleet.render(&target));
            for (series, value) in &now {
                let is_counter = ["_total", "_bucket", "_sum", "_count"].iter().any(|end| series.contains(end));
                assert!(!is_counter || *value >= before[series], "{series} went back");
                if series.contains("le=\"+Inf\"") {
                    let of = |wanted: &str| {
                        let name = series.replace("_bucket", wanted);
                        let labels = name.replace(", le=\"+Inf\"", "").replace("le=\"+Inf\", ", "");
                        now[&labels.replace("{le=\"+Inf\"}", "")]
                    };
                    assert_eq!(of("_count"), *value, "{series}");
                    let below = now[&series.replace("+Inf", "10.0")];
                    assert!(below <= *value && of("_sum") > 0.0, "{series}");
                }
            }
            before = now;
        }
    }

    #[test]
    fn values_are_read_back_as_they_are() {
        for value in [0.0, 7.0, -3.0, 1e15, 1e18, 0.1, 1.0 / 3.0, 123_456.789] {
            let mut text = Vec::new();
            push_value(&mut text, value);
            assert_eq!(std::str::from_utf8(&text).expect("text").parse(), Ok(value));
        }
    }
}
