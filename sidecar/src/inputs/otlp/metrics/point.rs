//! One data point of any kind.

use telemetry::exposition::{Exemplar, FamilySample, MetricKind};
use telemetry::{Labels, LabelsBuilder, Timestamp};

use super::super::wire::{NotProtobuf, Value, fields};
use super::PointLabels;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Point {
    Number { value: f64, exemplar: Option<Exemplar> },
    Histogram(Histogram),
    Summary { count: f64, sum: f64, quantiles: Vec<(f64, f64)> },
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Histogram {
    /// Upper bounds, ascending; the last bucket has none.
    bounds: Vec<f64>,
    /// Not cumulative, one more than there are bounds.
    counts: Vec<f64>,
    count: f64,
    sum: f64,
    exemplars: Vec<Exemplar>,
}

const NO_RECORDED_VALUE: u64 = 1;
/// Buckets of one series; more are a mistake.
const BUCKETS_MAX: usize = 200;
/// Powers of two beyond these are the last or the first.
const EXPONENT_MAX: i64 = 63;

impl Point {
    /// A point of the metric whose data is field `field`, and its attributes; None for "no recorded value".
    pub(super) fn of(
        field: u64,
        bytes: &[u8],
        origin: LabelsBuilder,
    ) -> Result<(Option<Point>, PointLabels), NotProtobuf> {
        let mut labels = PointLabels(origin);
        let (attributes, flags) = match field {
            9 => (9, 10),
            10 => (1, 10),
            _ => (7, 8),
        };
        let mut recorded = true;
        let mut walk = fields(bytes);
        for f in walk.by_ref() {
            match f.value {
                Value::Bytes(pair) if f.number == attributes => labels.set(pair),
                Value::Varint(bits) if f.number == flags => recorded = bits & NO_RECORDED_VALUE == 0,
                _ => {}
            }
        }
        if !walk.is_sound() {
            return Err(NotProtobuf);
        }
        let point = match field {
            9 => Point::Histogram(Histogram::explicit(bytes)),
            10 => Point::Histogram(Histogram::exponential(bytes)),
            11 => summary(bytes),
            _ => number(bytes),
        };
        Ok((recorded.then_some(point), labels))
    }

    /// A delta upon what there is.
    pub(super) fn add(&mut self, delta: Point) {
        match (self, delta) {
            (Point::Number { value, exemplar }, Point::Number { value: by, exemplar: newer }) => {
                *value += by;
                *exemplar = newer.or(exemplar.take());
            }
            (Point::Histogram(all), Point::Histogram(by)) => all.add(by),
            (this, other) => *this = other,
        }
    }

    pub(super) fn expose(&self, out: &mut Vec<FamilySample>, family: &str, labels: &Labels, kind: MetricKind) {
        let sample = |name: String, labels: Labels, value: f64, exemplar: Option<Exemplar>| FamilySample {
            name,
            labels,
            value,
            timestamp: None,
            exemplar,
        };
        match self {
            Point::Number { value, exemplar } => {
                let suffix = if kind == MetricKind::Counter { "_total" } else { "" };
                let exemplar = exemplar.clone().filter(|_| kind == MetricKind::Counter);
                out.push(sample(format!("{family}{suffix}"), labels.clone(), *value, exemplar));
            }
            Point::Histogram(histogram) => {
                let (name, mut below, mut lower) = (format!("{family}_bucket"), 0.0, f64::NEG_INFINITY);
                for (index, count) in histogram.counts.iter().enumerate() {
                    below += count;
                    let upper = histogram.bounds.get(index).copied().unwrap_or(f64::INFINITY);
                    let within = |e: &&Exemplar| e.value > lower && e.value <= upper;
                    let exemplar = histogram.exemplars.iter().rfind(within).cloned();
                    let le = if upper.is_finite() { format!("{upper:?}") } else { "+Inf".to_owned() };
                    out.push(sample(name.clone(), labels.with("le", &le), below, exemplar));
                    lower = upper;
                }
                out.push(sample(format!("{family}_sum"), labels.clone(), histogram.sum, None));
                out.push(sample(format!("{family}_count"), labels.clone(), histogram.count, None));
            }
            Point::Summary { count, sum, quantiles } => {
                for (quantile, value) in quantiles {
                    let labels = labels.with("quantile", &format!("{quantile:?}"));
                    out.push(sample(family.to_owned(), labels, *value, None));
                }
                out.push(sample(format!("{family}_sum"), labels.clone(), *sum, None));
                out.push(sample(format!("{family}_count"), labels.clone(), *count, None));
            }
        }
    }
}

fn number(bytes: &[u8]) -> Point {
    let (mut value, mut exemplar) = (0.0, None);
    for field in fields(bytes) {
        match (field.number, field.value) {
            (4, Value::Fixed64(bits)) => value = f64::from_bits(bits),
            (6, Value::Fixed64(bits)) => value = bits.cast_signed() as f64,
            (5, Value::Bytes(bytes)) => exemplar = exemplar_of(bytes).or(exemplar),
            _ => {}
        }
    }
    Point::Number { value, exemplar }
}

fn summary(bytes: &[u8]) -> Point {
    let (mut count, mut sum, mut quantiles) = (0.0, 0.0, Vec::new());
    for field in fields(bytes) {
        match (field.number, field.value) {
            (4, Value::Fixed64(n)) => count = n as f64,
            (5, Value::Fixed64(bits)) => sum = f64::from_bits(bits),
            (6, Value::Bytes(at)) if quantiles.len() < BUCKETS_MAX => {
                let value = |number| fields(at).find(|f| f.number == number).map(|f| f.value);
                let double = |value| if let Some(Value::Fixed64(bits)) = value { f64::from_bits(bits) } else { 0.0 };
                quantiles.push((double(value(1)), double(value(2))));
            }
            _ => {}
        }
    }
    Point::Summary { count, sum, quantiles }
}

impl Histogram {
    fn explicit(bytes: &[u8]) -> Self {
        let mut out = Histogram::default();
        for field in fields(bytes) {
            match (field.number, field.value) {
                (4, Value::Fixed64(n)) => out.count = n as f64,
                (5, Value::Fixed64(bits)) => out.sum = f64::from_bits(bits),
                (6, Value::Bytes(packed)) => out.counts.extend(fixed(packed).map(|n| n as f64)),
                (6, Value::Fixed64(n)) => out.counts.push(n as f64),
                (7, Value::Bytes(packed)) => out.bounds.extend(fixed(packed).map(f64::from_bits)),
                (7, Value::Fixed64(bits)) => out.bounds.push(f64::from_bits(bits)),
                (8, Value::Bytes(bytes)) => out.exemplars.extend(exemplar_of(bytes)),
                _ => {}
            }
        }
        let ascending = out.bounds.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || out.counts.len() != out.bounds.len() + 1 || out.bounds.len() > BUCKETS_MAX {
            // No buckets, or buckets that make no sense: the count is all there is.
            (out.bounds, out.counts) = (Vec::new(), vec![out.count]);
        }
        out.trim();
        out
    }

    /// With powers of two as bounds: they stay the same whatever scale the sender chooses.
    fn exponential(bytes: &[u8]) -> Self {
        let mut out = Histogram::default();
        let (mut scale, mut zero, mut positive, mut negative) = (0, 0.0, Vec::new(), 0.0);
        for field in fields(bytes) {
            match (field.number, field.value) {
                (4, Value::Fixed64(n)) => out.count = n as f64,
                (5, Value::Fixed64(bits)) => out.sum = f64::from_bits(bits),
                (6, Value::Varint(n)) => scale = zigzag(n).clamp(-40, 40),
                (7, Value::Fixed64(n)) => zero = n as f64,
                (8, Value::Bytes(buckets)) => positive = buckets_of(buckets),
                (9, Value::Bytes(buckets)) => negative = buckets_of(buckets).iter().map(|(_, n)| n).sum(),
                (11, Value::Bytes(bytes)) => out.exemplars.extend(exemplar_of(bytes)),
                _ => {}
            }
        }
        // Bucket i ends at 2^((i + 1) / 2^scale): the power of two at or above.
        let mut by_power = std::collections::BTreeMap::new();
        for (index, count) in positive {
            let end = index.saturating_add(1);
            let power = if scale >= 0 {
                let per_power = 1i64 << scale;
                end.div_euclid(per_power) + i64::from(end.rem_euclid(per_power) != 0)
            } else {
                end.saturating_mul(1i64 << -scale)
            };
            *by_power.entry(power.clamp(-EXPONENT_MAX, EXPONENT_MAX)).or_insert(0.0) += count;
        }
        out.bounds.push(0.0);
        out.counts.push(zero + negative);
        if let (Some((first, _)), Some((last, _))) = (by_power.first_key_value(), by_power.last_key_value()) {
            for power in *first..=*last {
                out.bounds.push(2f64.powi(i32::try_from(power).unwrap_or(0)));
                out.counts.push(by_power.get(&power).copied().unwrap_or(0.0));
            }
        }
        let inside: f64 = out.counts.iter().sum();
        out.counts.push((out.count - inside).max(0.0));
        out.trim();
        out
    }

    fn add(&mut self, delta: Histogram) {
        if self.bounds != delta.bounds {
            // The buckets were changed, or grew: what can be told apart is kept.
            let mut all: Vec<f64> = self.bounds.iter().chain(&delta.bounds).copied().collect();
            all.sort_unstable_by(f64::total_cmp);
            all.dedup();
            all.truncate(BUCKETS_MAX);
            let spread = |histogram: &Histogram| -> Vec<f64> {
                let mut counts = vec![0.0; all.len() + 1];
                for (index, count) in histogram.counts.iter().enumerate() {
                    let place = match histogram.bounds.get(index) {
                        Some(bound) => all.partition_point(|other| other < bound),
                        None => all.len(),
                    };
                    counts[place] += count;
                }
                counts
            };
            let (mine, theirs) = (spread(self), spread(&delta));
            self.counts = mine.iter().zip(theirs).map(|(a, b)| a + b).collect();
            self.bounds = all;
        } else {
            self.counts.iter_mut().zip(&delta.counts).for_each(|(a, b)| *a += b);
        }
        self.count += delta.count;
        self.sum += delta.sum;
        self.exemplars.extend(delta.exemplars);
        self.trim();
    }

    /// Few exemplars are enough: one for each bucket is shown at most.
    fn trim(&mut self) {
        let excess = self.exemplars.len().saturating_sub(16);
        self.exemplars.drain(..excess);
    }
}

fn fixed(packed: &[u8]) -> impl Iterator<Item = u64> {
    packed.chunks_exact(8).take(BUCKETS_MAX + 2).map(|c| u64::from_le_bytes(c.try_into().unwrap_or_default()))
}

/// Index and count of the buckets that are not empty.
fn buckets_of(message: &[u8]) -> Vec<(i64, f64)> {
    let (mut offset, mut counts) = (0, Vec::new());
    for field in fields(message) {
        match (field.number, field.value) {
            (1, Value::Varint(n)) => offset = zigzag(n),
            (2, Value::Varint(n)) => counts.push(n),
            (2, Value::Bytes(packed)) => counts.extend(varints(packed)),
            _ => {}
        }
    }
    let of_one = |(index, count): (usize, u64)| Some((offset.checked_add(i64::try_from(index).ok()?)?, count as f64));
    counts.into_iter().enumerate().filter(|(_, count)| *count > 0).filter_map(of_one).collect()
}

fn varints(packed: &[u8]) -> Vec<u64> {
    let (mut out, mut value, mut shift) = (Vec::new(), 0u64, 0);
    for byte in packed {
        if shift < 64 {
            value |= u64::from(byte & 0x7f) << shift;
        }
        shift += 7;
        if byte & 0x80 == 0 {
            out.push(value);
            (value, shift) = (0, 0);
            // As many as any SDK has; more are a mistake.
            if out.len() >= 4096 {
                break;
            }
        }
    }
    out
}

fn zigzag(n: u64) -> i64 {
    (n >> 1).cast_signed() ^ -(n & 1).cast_signed()
}

/// With the ids of its trace; without one it points to nothing.
fn exemplar_of(bytes: &[u8]) -> Option<Exemplar> {
    let (mut value, mut nanos, mut trace, mut span) = (0.0, 0, None, None);
    let hex = |id: &[u8]| id.iter().map(|b| format!("{b:02x}")).collect::<String>();
    for field in fields(bytes) {
        match (field.number, field.value) {
            (2, Value::Fixed64(n)) => nanos = n,
            (3, Value::Fixed64(bits)) => value = f64::from_bits(bits),
            (6, Value::Fixed64(bits)) => value = bits.cast_signed() as f64,
            (4, Value::Bytes(id)) if id.len() == 8 => span = Some(hex(id)),
            (5, Value::Bytes(id)) if id.len() == 16 => trace = Some(hex(id)),
            _ => {}
        }
    }
    let labels = Labels::from_pairs([("trace_id", trace?), ("span_id", span.unwrap_or_default())]);
    let millis = i64::try_from(nanos / 1_000_000).unwrap_or(0);
    Some(Exemplar { labels, value, timestamp: (millis > 0).then(|| Timestamp::from_millis(millis)) })
}
