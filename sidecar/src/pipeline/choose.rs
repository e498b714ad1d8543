//! Which records are left out: below a level, by pattern, of many alike, more than a rate.
//!
//! Warnings and errors are touched only where they are named. A trace is kept or left out as a whole.

use regex::bytes::Regex;
use telemetry::log_record::Level;
use telemetry::trace::TraceId;
use tokio::time::Instant;

use super::account::DropReason;

#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Lesser levels are left out.
    pub level_min: Option<Level>,
    /// A line must match all of these …
    pub include: Vec<Regex>,
    /// … and none of these.
    pub exclude: Vec<Regex>,
    /// The part of a level's records that is kept, 0 to 1; by level.
    pub keep: [Option<f64>; 5],
    /// Records of a level per second, of each stream; by level.
    pub per_second: [Option<f64>; 5],
}

/// What one stream has let pass.
#[derive(Default)]
pub struct Chooser {
    /// Sum of the parts; a record passes when it reaches one.
    kept: [f64; 5],
    tokens: [Option<(f64, Instant)>; 5],
}

impl Config {
    /// Whether a line is wanted by its text, before anything is known of it.
    pub fn wants_line(&self, line: &[u8]) -> bool {
        self.include.iter().all(|p| p.is_match(line)) && !self.exclude.iter().any(|p| p.is_match(line))
    }

    /// Why a record is left out; None where it is kept.
    pub fn leaves_out(&self, chooser: &mut Chooser, level: Level, trace_id: Option<TraceId>) -> Option<DropReason> {
        if self.level_min.is_some_and(|min| level < min) {
            return Some(DropReason::Filtered);
        }
        let index = level as usize;
        if let Some(part) = self.keep[index]
            && !chooser.keeps(index, part, trace_id)
        {
            return Some(DropReason::Sampled);
        }
        let rate = self.per_second[index]?;
        (!chooser.takes_token(index, rate)).then_some(DropReason::RateLimited)
    }
}

impl Chooser {
    fn keeps(&mut self, index: usize, part: f64, trace_id: Option<TraceId>) -> bool {
        if let Some(id) = trace_id {
            // The last bytes are the random ones in every dialect.
            let tail: [u8; 4] = id.as_bytes()[12..].try_into().expect("four bytes");
            return f64::from(u32::from_be_bytes(tail)) < part * f64::from(u32::MAX);
        }
        self.kept[index] += part;
        let keeps = self.kept[index] >= 1.0;
        if keeps {
            self.kept[index] -= 1.0;
        }
        keeps
    }

    /// One second's worth may come at once.
    fn takes_token(&mut self, index: usize, rate: f64) -> bool {
        let now = Instant::now();
        let (tokens, at) = self.tokens[index].get_or_insert((rate.max(1.0), now));
        *tokens = (*tokens + now.duration_since(*at).as_secs_f64() * rate).min(rate.max(1.0));
        *at = now;
        let takes = *tokens >= 1.0;
        if takes {
            *tokens -= 1.0;
        }
        takes
    }
}

/// `info=0.1, debug=0.01` or `info=100, debug=10`.
///
/// # Errors
/// Names what cannot be read.
pub fn by_level(text: &str, max: f64) -> Result<[Option<f64>; 5], String> {
    let mut by_level = [None; 5];
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (word, number) = pair.split_once('=').ok_or_else(|| format!("{pair:?} is not level=number"))?;
        let level = Level::recognise(word.trim()).ok_or_else(|| format!("{word:?} is no level"))?;
        let number: f64 = number.trim().parse().map_err(|_| format!("{number:?} is no number"))?;
        if !(0.0..=max).contains(&number) {
            return Err(format!("{number} is not between 0 and {max}"));
        }
        by_level[level as usize] = Some(number);
    }
    Ok(by_level)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_left_out_has_a_reason_and_errors_are_not_touched_unless_named() {
        let config = Config {
            level_min: Some(Level::Debug),
            keep: by_level("info=0.25", 1.0).expect("valid"),
            ..Config::default()
        };
        let mut chooser = Chooser::default();
        assert_eq!(config.leaves_out(&mut chooser, Level::Trace, None), Some(DropReason::Filtered));
        let kept = (0..1000).filter(|_| config.leaves_out(&mut chooser, Level::Info, None).is_none()).count();
        assert_eq!(kept, 250);
        assert!((0..1000).all(|_| config.leaves_out(&mut chooser, Level::Error, None).is_none()));
    }

    #[test]
    fn a_trace_is_kept_or_left_out_as_a_whole() {
        let config = Config { keep: by_level("info=0.5,debug=0.5", 1.0).expect("valid"), ..Config::default() };
        let mut kept = 0;
        for n in 0..200u8 {
            let mut bytes = [1; 16];
            bytes[12] = n.wrapping_mul(77);
            let id = TraceId::from_bytes(bytes);
            let of = |level| config.leaves_out(&mut Chooser::default(), level, id).is_none();
            assert_eq!(of(Level::Info), of(Level::Debug));
            kept += u32::from(of(Level::Info));
        }
        assert!((60..140).contains(&kept), "{kept}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_lets_through_what_it_says() {
        let config = Config { per_second: by_level("info=10", 1e9).expect("valid"), ..Config::default() };
        let mut chooser = Chooser::default();
        let mut passed =
            |n: usize| (0..n).filter(|_| config.leaves_out(&mut chooser, Level::Info, None).is_none()).count();
        assert_eq!(passed(100), 10);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(passed(100), 5);
    }

    #[test]
    fn faults_are_named() {
        for (text, fault) in [
            ("info", "\"info\" is not level=number"),
            ("loud=1", "\"loud\" is no level"),
            ("info=x", "\"x\" is no number"),
            ("info=2", "2 is not between 0 and 1"),
        ] {
            assert_eq!(by_level(text, 1.0), Err(fault.to_owned()));
        }
    }
}
