//! Series as unit tests write them: `metric{label="x"} 1 2+1x5 _ stale {{count:3 buckets:[1 2]}}`.

use std::sync::Arc;

use telemetry::{Labels, LabelsBuilder};

use super::selector::parse_number;
use super::{Fault, Parse, ParseError, Parser, Syntax, excerpt, fault};
use crate::ast::Span;
use crate::histogram::{CounterResetHint, Histogram};
use crate::lex::{Tok, lex_series};

/// The most values that one description may spell out.
const VALUES_MAX: usize = 1_000_000;

/// A series and its values, one per interval.
#[derive(Clone, Debug)]
pub struct SeriesDescription {
    pub labels: Labels,
    pub values: Vec<SeriesValue>,
}

/// What a series has at one interval.
#[derive(Clone, Debug)]
pub enum SeriesValue {
    Omitted,
    /// A float; the staleness marker for `stale`.
    Float(f64),
    Histogram {
        histogram: Arc<Histogram>,
        /// The description names the counter reset hint, so that it counts in comparisons.
        hint_given: bool,
    },
}

/// Parses a series description.
pub fn parse_series(text: &str) -> Result<SeriesDescription, ParseError> {
    let mut parser = Parser::new(text, lex_series(text), Syntax::EXPERIMENTAL);
    parser.series_description().map_err(|f: Fault| ParseError {
        span: f.span,
        message: f.message,
        text: excerpt(text, f.span),
    })
}

impl Parser<'_> {
    fn series_description(&mut self) -> Parse<SeriesDescription> {
        let mut labels = LabelsBuilder::default();
        let mut name = None;
        if !matches!(self.peek(), Tok::LeftBrace | Tok::Space | Tok::Eof) {
            name = Some(self.word());
            self.advance();
        }
        if self.peek() == Tok::LeftBrace {
            self.label_set(&mut labels)?;
        }
        if let Some(name) = name {
            labels.set(telemetry::labels::METRIC_NAME, name);
        }
        let mut values = Vec::new();
        while self.peek() != Tok::Eof {
            if !self.eat(Tok::Space) {
                return self.unexpected("series values", "");
            }
            if !matches!(self.peek(), Tok::Eof | Tok::Space) {
                self.series_item(&mut values)?;
            }
        }
        Ok(SeriesDescription { labels: labels.build(), values })
    }

    fn label_set(&mut self, labels: &mut LabelsBuilder) -> Parse<()> {
        self.advance();
        loop {
            if self.eat(Tok::RightBrace) {
                return Ok(());
            }
            let quoted = self.peek() == Tok::Str;
            let name = match self.peek() {
                Tok::Identifier => {
                    let name = self.word().to_owned();
                    self.advance();
                    name
                }
                Tok::Str => self.unquoted()?,
                _ => return self.unexpected("label set", "identifier or \"}\""),
            };
            if self.eat(Tok::Equal) {
                if self.peek() != Tok::Str {
                    return self.unexpected("label set", "string");
                }
                let value = self.unquoted()?;
                labels.set(&name, &value);
            } else if quoted {
                labels.set(telemetry::labels::METRIC_NAME, &name);
            } else {
                return self.unexpected("label set", "\"=\"");
            }
            if self.peek() != Tok::RightBrace && !self.eat(Tok::Comma) {
                return self.unexpected("label set", "\",\" or \"}\"");
            }
        }
    }

    fn series_item(&mut self, values: &mut Vec<SeriesValue>) -> Parse<()> {
        match self.peek() {
            Tok::Blank => {
                self.advance();
                let count = if self.eat(Tok::Times) { self.repetitions(values.len())? } else { 1 };
                values.extend(std::iter::repeat_n(SeriesValue::Omitted, count));
                Ok(())
            }
            Tok::OpenHist => self.histogram_item(values),
            Tok::Identifier => {
                if self.word() != "stale" {
                    return self.unexpected("series values", "number or \"stale\"");
                }
                self.advance();
                self.float_item(telemetry::stale_nan(), values)
            }
            _ => {
                let value = self.signed_number()?;
                self.float_item(value, values)
            }
        }
    }

    fn float_item(&mut self, value: f64, values: &mut Vec<SeriesValue>) -> Parse<()> {
        let mut step = None;
        if matches!(self.peek(), Tok::Add | Tok::Sub) {
            step = Some(self.signed_number()?);
            if self.peek() != Tok::Times {
                return self.unexpected("series values", "");
            }
        }
        if !self.eat(Tok::Times) {
            values.push(SeriesValue::Float(value));
            return Ok(());
        }
        // The first value stands for time zero, so that `1x2` is three values.
        let mut value = value;
        for _ in 0..=self.repetitions(values.len())? {
            values.push(SeriesValue::Float(value));
            value += step.unwrap_or(0.0);
        }
        Ok(())
    }

    fn histogram_item(&mut self, values: &mut Vec<SeriesValue>) -> Parse<()> {
        let (histogram, hint_given) = self.histogram()?;
        let adds = self.peek() == Tok::Add;
        if adds || self.peek() == Tok::Sub {
            self.advance();
            return self.histogram_steps(histogram, adds, values);
        }
        let count = if self.eat(Tok::Times) { self.repetitions(values.len())? + 1 } else { 1 };
        let histogram = Arc::new(histogram);
        values.extend(std::iter::repeat_n(SeriesValue::Histogram { histogram, hint_given }, count));
        Ok(())
    }

    fn histogram_steps(&mut self, first: Histogram, adds: bool, values: &mut Vec<SeriesValue>) -> Parse<()> {
        if self.peek() != Tok::OpenHist {
            return self.unexpected("series values", "");
        }
        let (step, hint_given) = self.histogram()?;
        if !self.eat(Tok::Times) {
            return self.unexpected("series values", "");
        }
        let count = self.repetitions(values.len())?;
        let mut current = first;
        let mut push = |histogram: &Histogram| {
            values.push(SeriesValue::Histogram { histogram: Arc::new(histogram.clone()), hint_given });
        };
        push(&current);
        for _ in 0..count {
            if current.schema > step.schema {
                let message = format!(
                    "error combining histograms: cannot merge from schema {} to {}",
                    step.schema, current.schema
                );
                return fault(self.span(), message);
            }
            let combined = if adds { current.add(&step) } else { current.sub(&step) };
            if let Err(error) = combined {
                return fault(self.span(), error.to_string());
            }
            push(&current);
        }
        Ok(())
    }

    fn repetitions(&mut self, already: usize) -> Parse<usize> {
        if self.peek() != Tok::Number {
            return self.unexpected("series values", "");
        }
        let (word, span) = (self.word(), self.advance());
        match word.parse::<usize>() {
            Ok(count) if count.saturating_add(already) < VALUES_MAX => Ok(count),
            Ok(_) => fault(span, format!("more than {VALUES_MAX} series values")),
            Err(error) => fault(span, format!("invalid repetition in series values: {error}")),
        }
    }

    fn signed_number(&mut self) -> Parse<f64> {
        let negate = self.peek() == Tok::Sub;
        if negate || self.peek() == Tok::Add {
            self.advance();
        }
        if self.peek() != Tok::Number {
            return self.unexpected("series values", "");
        }
        let (word, span) = (self.word(), self.advance());
        let value = parse_number(word, span)?;
        Ok(if negate { -value } else { value })
    }

    /// `{{key:value …}}`; also whether the counter reset hint is given.
    fn histogram(&mut self) -> Parse<(Histogram, bool)> {
        self.advance();
        let mut histogram = Histogram::default();
        let (mut hint_given, mut seen): (bool, Vec<&str>) = (false, Vec::new());
        let (mut offset, mut negative_offset) = (0, 0);
        let (mut buckets, mut negative_buckets) = (Vec::new(), Vec::new());
        loop {
            self.eat(Tok::Space);
            if self.eat(Tok::CloseHist) {
                break;
            }
            if self.peek() != Tok::HistogramKey {
                return self.unexpected("histogram description", "histogram description key, e.g. buckets:[5 10 7]");
            }
            let (key, key_span) = (self.word(), self.advance());
            if seen.contains(&key) {
                return fault(Span::default(), format!("duplicate key \"{key}\" in histogram"));
            }
            seen.push(key);
            if !self.eat(Tok::Colon) {
                return self.unexpected("histogram description", "");
            }
            match key.to_ascii_lowercase().as_str() {
                "schema" => histogram.schema = self.integer(key_span)?,
                "sum" => histogram.sum = self.signed_number()?,
                "count" => histogram.count = self.signed_number()?,
                "z_bucket" => histogram.zero_count = self.signed_number()?,
                "z_bucket_w" => histogram.zero_threshold = self.signed_number()?,
                "custom_values" => histogram.custom_values = self.bucket_set()?,
                "buckets" => buckets = self.bucket_set()?,
                "n_buckets" => negative_buckets = self.bucket_set()?,
                "offset" => offset = self.integer(key_span)?,
                "n_offset" => negative_offset = self.integer(key_span)?,
                _ => {
                    histogram.counter_reset_hint = self.counter_reset_hint()?;
                    hint_given = true;
                }
            }
        }
        histogram.positive = (offset..).zip(buckets).collect();
        histogram.negative = (negative_offset..).zip(negative_buckets).collect();
        Ok((histogram, hint_given))
    }

    fn integer(&mut self, span: Span) -> Parse<i32> {
        let value = self.signed_number()?;
        if value.fract() == 0.0 && value.abs() < 1e9 {
            Ok(value as i32)
        } else {
            fault(span, "expected an integer in histogram description")
        }
    }

    fn bucket_set(&mut self) -> Parse<Vec<f64>> {
        if !self.eat(Tok::LeftBracket) {
            return self.unexpected("histogram description", "\"[\"");
        }
        let mut counts = Vec::new();
        loop {
            self.eat(Tok::Space);
            if self.eat(Tok::RightBracket) {
                return Ok(counts);
            }
            counts.push(self.signed_number()?);
        }
    }

    fn counter_reset_hint(&mut self) -> Parse<CounterResetHint> {
        if self.peek() != Tok::CounterResetHint {
            return self.unexpected("histogram description", "");
        }
        let hint = match self.word().to_ascii_lowercase().as_str() {
            "reset" => CounterResetHint::CounterReset,
            "not_reset" => CounterResetHint::NotCounterReset,
            "gauge" => CounterResetHint::Gauge,
            _ => CounterResetHint::Unknown,
        };
        self.advance();
        Ok(hint)
    }
}
