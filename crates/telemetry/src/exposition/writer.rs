//! Families to text, in either format; what is written parses, and in OpenMetrics passes the strict check as far as
//! the families themselves are sound.

use std::fmt::Write as _;

use super::{Exemplar, Family, Format, MetricKind};
use crate::Timestamp;
use crate::labels::{METRIC_NAME, is_plain_name};

/// The families as one body, `# EOF` included where the format wants it.
pub fn write(families: &[Family], format: Format) -> String {
    let mut writer = Writer::new(format);
    families.iter().for_each(|family| writer.family(family));
    writer.finish()
}

/// Writes line by line, for bodies put together from several sources. The caller keeps each family in one piece.
///
/// ```
/// use telemetry::exposition::{Format, MetricKind, Writer};
///
/// let mut writer = Writer::new(Format::Prometheus);
/// writer.metadata("ecs_network_receive_bytes", MetricKind::Counter, "Bytes received.", "bytes");
/// writer.sample("ecs_network_receive_bytes_total", [("service", "order")], 7.0, None, None);
/// assert_eq!(
///     writer.finish(),
///     "# HELP ecs_network_receive_bytes_total Bytes received.\n\
///      ## TYPE ecs_network_receive_bytes_total counter\n\
///      ecs_network_receive_bytes_total{service=\"order\"} 7\n"
/// );
/// ```
pub struct Writer {
    format: Format,
    out: String,
}

impl Writer {
    pub fn new(format: Format) -> Self {
        Writer { format, out: String::new() }
    }

    /// A family's metadata and samples. What the format cannot say of a family it says as kind unknown; a counter
    /// whose samples lack `_total` is such a case in OpenMetrics.
    pub fn family(&mut self, family: &Family) {
        let fits = family.samples.iter().all(|sample| {
            let suffix = sample.name.strip_prefix(family.name.as_str());
            suffix.is_some_and(|suffix| family.kind.suffixes().contains(&suffix))
        });
        if fits {
            self.metadata(&family.name, family.kind, &family.help, &family.unit);
            self.samples(family, |_| true);
            return;
        }
        let in_place = |name: &str| name == family.name;
        let kind = if self.format == Format::Prometheus { family.kind } else { MetricKind::Unknown };
        self.metadata_as(&family.name, kind, &family.help, "");
        self.samples(family, in_place);
        self.samples(family, |name| !in_place(name));
    }

    fn samples(&mut self, family: &Family, wanted: impl Fn(&str) -> bool) {
        for sample in family.samples.iter().filter(|sample| wanted(&sample.name)) {
            let exemplar = sample.exemplar.as_ref();
            self.sample(&sample.name, sample.labels.iter(), sample.value, sample.timestamp, exemplar);
        }
    }

    /// HELP, TYPE and UNIT lines of a family named as OpenMetrics does (a counter without `_total`). Empty texts
    /// are left out, and a unit that is not the name's suffix, which OpenMetrics forbids.
    pub fn metadata(&mut self, name: &str, kind: MetricKind, help: &str, unit: &str) {
        match (self.format, kind) {
            (Format::Prometheus, MetricKind::Counter) => self.metadata_as(&format!("{name}_total"), kind, help, ""),
            (Format::Prometheus, MetricKind::Info) => self.metadata_as(&format!("{name}_info"), kind, help, ""),
            _ => self.metadata_as(name, kind, help, unit),
        }
    }

    fn metadata_as(&mut self, name: &str, kind: MetricKind, help: &str, unit: &str) {
        if !help.is_empty() {
            self.out.push_str("# HELP ");
            self.metric_name(name);
            self.out.push(' ');
            escape(&mut self.out, help, self.format == Format::OpenMetrics);
            self.out.push('\n');
        }
        self.out.push_str("# TYPE ");
        self.metric_name(name);
        self.out.push(' ');
        self.out.push_str(self.kind_name(kind));
        self.out.push('\n');
        let unit_allowed = self.format == Format::OpenMetrics
            && !matches!(kind, MetricKind::Info | MetricKind::StateSet)
            && name.strip_suffix(unit).is_some_and(|base| base.ends_with('_'));
        if !unit.is_empty() && unit_allowed {
            self.out.push_str("# UNIT ");
            self.metric_name(name);
            self.out.push(' ');
            self.out.push_str(unit);
            self.out.push('\n');
        }
    }

    /// One line. `name` is the sample's whole name; a `__name__` among the labels is left out. Exemplars are written
    /// in OpenMetrics only.
    pub fn sample<'l>(
        &mut self,
        name: &str,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
        value: f64,
        timestamp: Option<Timestamp>,
        exemplar: Option<&Exemplar>,
    ) {
        self.series(name, labels);
        self.out.push(' ');
        self.value(value);
        if let Some(timestamp) = timestamp {
            self.out.push(' ');
            self.timestamp(timestamp);
        }
        if let (Format::OpenMetrics, Some(exemplar)) = (self.format, exemplar) {
            self.exemplar(exemplar);
        }
        self.out.push('\n');
    }

    /// What of a line stands before its value.
    pub(super) fn series<'l>(&mut self, name: &str, labels: impl IntoIterator<Item = (&'l str, &'l str)>) {
        let quoted = !is_plain_name(name, true);
        if quoted {
            self.out.push('{');
            self.quoted(name);
        } else {
            self.out.push_str(name);
        }
        self.labels(labels, quoted);
    }

    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    /// What was written, without an end.
    pub(super) fn into_text(self) -> String {
        self.out
    }

    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }

    /// The labels in braces; `open` says that the brace is already there and has something in it.
    fn labels<'l>(&mut self, labels: impl IntoIterator<Item = (&'l str, &'l str)>, mut open: bool) {
        for (name, value) in labels.into_iter().filter(|(name, _)| *name != METRIC_NAME) {
            self.out.push(if open { ',' } else { '{' });
            open = true;
            if is_plain_name(name, false) {
                self.out.push_str(name);
            } else {
                self.quoted(name);
            }
            self.out.push('=');
            self.quoted(value);
        }
        if open {
            self.out.push('}');
        }
    }

    fn exemplar(&mut self, exemplar: &Exemplar) {
        self.out.push_str(" # ");
        if exemplar.labels.is_empty() {
            self.out.push_str("{}");
        }
        self.labels(exemplar.labels.iter(), false);
        self.out.push(' ');
        self.value(exemplar.value);
        if let Some(timestamp) = exemplar.timestamp {
            self.out.push(' ');
            self.timestamp(timestamp);
        }
    }

    fn metric_name(&mut self, name: &str) {
        if is_plain_name(name, true) {
            self.out.push_str(name);
        } else {
            self.quoted(name);
        }
    }

    fn quoted(&mut self, text: &str) {
        self.out.push('"');
        escape(&mut self.out, text, true);
        self.out.push('"');
    }

    fn value(&mut self, value: f64) {
        if value.is_nan() {
            self.out.push_str("NaN");
        } else if value.is_infinite() {
            self.out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
        } else {
            let text = ryu_text(value);
            // OpenMetrics tells floats from integers by the point; 0.0.4 is shorter without.
            let short = text.strip_suffix(".0").filter(|_| self.format == Format::Prometheus);
            self.out.push_str(short.unwrap_or(&text));
        }
    }

    fn timestamp(&mut self, timestamp: Timestamp) {
        let millis = timestamp.as_millis();
        let result = match self.format {
            Format::Prometheus => write!(self.out, "{millis}"),
            Format::OpenMetrics if millis % 1000 == 0 => write!(self.out, "{}", millis / 1000),
            Format::OpenMetrics => {
                let sign = if millis < 0 { "-" } else { "" };
                write!(self.out, "{sign}{}.{:03}", millis.unsigned_abs() / 1000, millis.unsigned_abs() % 1000)
            }
        };
        result.expect("writing into a String cannot fail");
    }

    fn kind_name(&self, kind: MetricKind) -> &'static str {
        match (self.format, kind) {
            (Format::OpenMetrics, kind) => kind.as_str(),
            (Format::Prometheus, MetricKind::Info | MetricKind::StateSet) => "gauge",
            (Format::Prometheus, MetricKind::GaugeHistogram | MetricKind::Unknown) => "untyped",
            (Format::Prometheus, kind) => kind.as_str(),
        }
    }
}

fn ryu_text(value: f64) -> String {
    ryu::Buffer::new().format_finite(value).to_owned()
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}
