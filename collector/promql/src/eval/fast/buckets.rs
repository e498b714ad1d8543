//! histogram_quantile over classic buckets: which rows make up which histogram is remembered.

use std::sync::Arc;

use hashbrown::HashMap;
use telemetry::Labels;
use telemetry::labels::METRIC_NAME;

use super::memory::key;
use super::rows::Rows;
use super::{ABSENT, Fast, Frame, Quit, Shape, computed, is_absent};
use crate::ast::*;
use crate::eval::histogram_call::parse_bound;
use crate::eval::quantile::{Bucket, bucket_quantile};
use crate::eval::{Evaluator, Window};
use crate::source::Snapshot;

/// The rows of a vector sorted into classic histograms.
pub(super) struct Buckets {
    input: Arc<Rows>,
    histograms: Arc<Rows>,
    /// Row and upper bound of the buckets, rising by bound, histogram after histogram.
    buckets: Vec<(u32, f64)>,
    /// Where each histogram's buckets end.
    ends: Vec<usize>,
    /// Rows that are no buckets.
    others: Vec<usize>,
}

impl Buckets {
    pub(super) fn shed(&self) {
        self.histograms.shed();
    }

    fn new(input: &Arc<Rows>, snapshot: &dyn Snapshot) -> Fast<Self> {
        let mut numbers: HashMap<Labels, usize> = HashMap::new();
        let mut found: Vec<(Labels, Vec<(u32, f64)>)> = Vec::new();
        let mut others = Vec::new();
        for (row, labels) in input.labels(snapshot).iter().enumerate() {
            let Some(bound) = parse_bound(labels.get("le").unwrap_or_default()) else {
                others.push(row);
                continue;
            };
            let number = *numbers.entry(labels.retain(|name| name != "le")).or_insert_with_key(|labels| {
                found.push((labels.clone(), Vec::new()));
                found.len() - 1
            });
            found[number].1.push((u32::try_from(row).map_err(|_| Quit::General)?, bound));
        }
        let (mut labels, mut buckets, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for (histogram, mut rows) in found {
            rows.sort_by(|a, b| a.1.partial_cmp(&b.1).unwrap_or(std::cmp::Ordering::Equal));
            labels.push(histogram);
            buckets.extend(rows);
            ends.push(buckets.len());
        }
        let histograms = Arc::new(Rows::of_labels(labels));
        Ok(Buckets { input: input.clone(), histograms, buckets, ends, others })
    }
}

impl Evaluator<'_> {
    fn buckets(&mut self, node: &Node, input: &Arc<Rows>) -> Fast<Arc<Buckets>> {
        if let Some(known) = self.memory.buckets.get(&key(node))
            && Arc::ptr_eq(&known.input, input)
        {
            return Ok(known.clone());
        }
        let buckets = Arc::new(Buckets::new(input, self.snapshot()?)?);
        self.memory.buckets.insert(key(node), buckets.clone());
        Ok(buckets)
    }

    pub(super) fn fast_quantile(&mut self, node: &Node, n: &Call, window: Window) -> Fast<Frame> {
        let quantiles = self.eval(&n.args[0], window)?;
        let input = self.frame(&n.args[1], window)?;
        let buckets = self.buckets(node, &input.shape.rows)?;
        if buckets.others.iter().any(|row| !input.is_row_empty(*row)) {
            return Err(Quit::General);
        }
        let (span, steps) = (n.args[1].span(), window.steps());
        for step in 0..steps {
            let q = quantiles.scalar_at(step);
            if !(0.0..=1.0).contains(&q) {
                self.annotations.invalid_quantile(q, n.args[0].span());
            }
        }
        let mut values = vec![ABSENT; buckets.histograms.len() * steps];
        let mut present: Vec<Bucket> = Vec::new();
        let (mut start, mut last_first) = (0, 0);
        let mut arguments = vec![1; steps];
        for (number, end) in buckets.ends.iter().enumerate() {
            let rows = &buckets.buckets[start..*end];
            start = *end;
            let mut first = None;
            for (step, argument) in arguments.iter_mut().enumerate() {
                present.clear();
                for (row, upper_bound) in rows {
                    let count = input.values[*row as usize * steps + step];
                    if !is_absent(count) {
                        first = Some(first.unwrap_or(*row).min(*row));
                        present.push(Bucket { upper_bound: *upper_bound, count });
                    }
                }
                if present.is_empty() {
                    continue;
                }
                *argument += present.len();
                let (value, forced) = bucket_quantile(quantiles.scalar_at(step), &mut present);
                if let Some(forced) = forced {
                    let labels = buckets.histograms.label(number, self.snapshot()?);
                    let metric = labels.get(METRIC_NAME).unwrap_or_default();
                    let bounds = (forced.min_bucket, forced.max_bucket);
                    self.annotations.forced_monotonicity(metric, span, window.at(step), bounds, forced.max_diff);
                }
                values[number * steps + step] = computed(value);
            }
            // Histograms stand in the order of their first bucket with a value; here, where that is also the order
            // of their first bucket.
            if let Some(first) = first {
                if first < last_first {
                    return Err(Quit::General);
                }
                last_first = first;
            }
        }
        let frame = Frame { shape: Shape { rows: buckets.histograms.clone(), drop_name: true }, values, steps };
        let results = frame.counts();
        self.charge_counts(&arguments, &results)?;
        Ok(frame)
    }
}
