//! A body as owned families: for those who change what they read and expose it again.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{ExemplarRef, Format, Line, MetricKind, ParseError, Parser, SampleLine};
use crate::{Labels, Timestamp};

/// A metric with everything that was said about it, the same for both formats.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Family {
    /// As OpenMetrics has it: a counter's name without `_total`, an info's without `_info`. A counter of 0.0.4 keeps
    /// its name where its samples carry no `_total`, or where another family has the name without.
    pub name: String,
    pub kind: MetricKind,
    pub help: String,
    pub unit: String,
    pub samples: Vec<FamilySample>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct FamilySample {
    /// The whole name, suffix included.
    pub name: String,
    /// Without `__name__`.
    pub labels: Labels,
    pub value: f64,
    pub timestamp: Option<Timestamp>,
    pub exemplar: Option<Exemplar>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    pub labels: Labels,
    pub value: f64,
    pub timestamp: Option<Timestamp>,
}

/// Reads a whole body. Families stand in the order in which the body first names them; a sample that no metadata
/// announced makes a family of kind unknown.
pub fn parse(body: &str, format: Format) -> Result<Vec<Family>, ParseError> {
    let mut families = Families::default();
    let mut parser = Parser::new(body, format);
    while let Some(line) = parser.next_line()? {
        match line {
            Line::Help { name, text } => families.entry(&name).help = text.into_owned(),
            Line::Unit { name, unit } => families.entry(&name).unit = unit.to_owned(),
            Line::Type { name, kind } => families.entry(&name).kind = kind,
            Line::Sample(sample) => families.add(&sample),
        }
    }
    if format == Format::Prometheus {
        families.name_as_open_metrics_does();
    }
    Ok(families.list)
}

#[derive(Default)]
struct Families {
    list: Vec<Family>,
    by_name: HashMap<String, usize>,
    last: usize,
}

impl Families {
    fn entry(&mut self, name: &str) -> &mut Family {
        let index = match self.by_name.get(name) {
            Some(index) => *index,
            None => {
                self.by_name.insert(name.to_owned(), self.list.len());
                self.list.push(Family { name: name.to_owned(), ..Family::default() });
                self.list.len() - 1
            }
        };
        self.last = index;
        &mut self.list[index]
    }

    fn add(&mut self, line: &SampleLine<'_, '_>) {
        let sample = FamilySample {
            name: line.name.clone().into_owned(),
            labels: owned(line.labels),
            value: line.value,
            timestamp: line.timestamp,
            exemplar: line.exemplar.as_ref().map(|ExemplarRef { labels, value, timestamp }| Exemplar {
                labels: owned(labels),
                value: *value,
                timestamp: *timestamp,
            }),
        };
        self.family_of(&line.name).samples.push(sample);
    }

    /// Mostly the family that was named last; else the one whose name plus a suffix of its kind is the sample's name.
    fn family_of(&mut self, name: &str) -> &mut Family {
        if self.list.get(self.last).is_some_and(|family| owns(family, name)) {
            return &mut self.list[self.last];
        }
        const SUFFIXES: [&str; 9] =
            ["", "_total", "_bucket", "_count", "_sum", "_created", "_gcount", "_gsum", "_info"];
        let candidates = SUFFIXES.iter().filter_map(|suffix| name.strip_suffix(suffix));
        let found = candidates.filter_map(|base| self.by_name.get(base).copied()).find(|i| owns(&self.list[*i], name));
        match found {
            Some(index) => {
                self.last = index;
                &mut self.list[index]
            }
            None => self.entry(name),
        }
    }
}

impl Families {
    /// A counter's family loses its `_total`, unless another family has the shorter name.
    fn name_as_open_metrics_does(&mut self) {
        for family in self.list.iter_mut().filter(|family| family.kind == MetricKind::Counter) {
            if let Some(base) =
                family.name.strip_suffix("_total").filter(|base| !base.is_empty() && !self.by_name.contains_key(*base))
            {
                family.name.truncate(base.len());
            }
        }
    }
}

/// Whether a sample of this name belongs to the family. In 0.0.4 a counter's family carries the sample's own name.
fn owns(family: &Family, name: &str) -> bool {
    name.strip_prefix(family.name.as_str())
        .is_some_and(|suffix| suffix.is_empty() || family.kind.suffixes().contains(&suffix))
}

fn owned(labels: &[(Cow<'_, str>, Cow<'_, str>)]) -> Labels {
    labels.iter().map(|(n, v)| (&**n, &**v)).collect()
}
