//! The three forms of a scheduled action's time: `at(…)`, `rate(…)`, `cron(minutes hours day month weekday year)`.
//!
//! Pure: the next time after a given one. `L`, `W` and `#` of cron are refused, though AWS knows them.

use std::collections::BTreeSet;

use jiff::civil::{DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// cron looks at most this far ahead: longer than the longest gap between two 29ths of February.
const DAYS_AHEAD_MAX: i64 = 366 * 9;

#[derive(Debug)]
pub(super) enum Schedule {
    At(f64),
    Rate(f64),
    Cron(Box<Cron>),
}

#[derive(Debug)]
pub(super) struct Cron {
    zone: TimeZone,
    minutes: BTreeSet<i16>,
    hours: BTreeSet<i16>,
    /// None for `?`.
    days: Option<BTreeSet<i16>>,
    months: BTreeSet<i16>,
    /// 1 is Sunday; None for `?`.
    weekdays: Option<BTreeSet<i16>>,
    years: BTreeSet<i16>,
}

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

impl Schedule {
    /// Times of `at` and `cron` are in `timezone`, UTC when there is none.
    pub(super) fn parse(text: &str, timezone: Option<&str>) -> Result<Self, String> {
        let zone = match timezone {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name).map_err(|_| format!("Invalid timezone: {name}"))?,
        };
        let bad = || format!("Invalid schedule expression: {text}");
        let (kind, inner) = text.strip_suffix(')').and_then(|t| t.split_once('(')).ok_or_else(bad)?;
        match kind {
            "at" => {
                let at: DateTime = inner.parse().map_err(|_| bad())?;
                let at = zone.to_zoned(at).map_err(|_| bad())?.timestamp();
                Ok(Schedule::At(at.as_millisecond() as f64 / 1000.0))
            }
            "rate" => {
                let (number, unit) = inner.split_once(' ').ok_or_else(bad)?;
                let number: u32 = number.parse().ok().filter(|n| *n > 0).ok_or_else(bad)?;
                let unit = match unit.trim_end_matches('s') {
                    "minute" => 60.0,
                    "hour" => 3600.0,
                    "day" => 86_400.0,
                    _ => return Err(bad()),
                };
                Ok(Schedule::Rate(f64::from(number) * unit))
            }
            "cron" => Cron::parse(inner, zone).map(|c| Schedule::Cron(Box::new(c))).ok_or_else(bad),
            _ => Err(bad()),
        }
    }

    /// Seconds since the epoch; None when it never comes again.
    pub(super) fn next_after(&self, now: f64) -> Option<f64> {
        match self {
            Schedule::At(at) => Some(*at).filter(|at| *at >= now),
            Schedule::Rate(every) => Some(now + every),
            Schedule::Cron(cron) => cron.next_after(now),
        }
    }

    pub(super) fn is_once(&self) -> bool {
        matches!(self, Schedule::At(_))
    }
}

impl Cron {
    fn parse(text: &str, zone: TimeZone) -> Option<Self> {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minutes, hours, days, months, weekdays, years] = fields[..] else { return None };
        // Exactly one of the two day fields is the question mark.
        if (days == "?") == (weekdays == "?") {
            return None;
        }
        let optional = |text: &str, range, names: &[&str]| match text {
            "?" => Some(None),
            _ => set(text, range, names).map(Some),
        };
        Some(Cron {
            zone,
            minutes: set(minutes, (0, 59), &[])?,
            hours: set(hours, (0, 23), &[])?,
            days: optional(days, (1, 31), &[])?,
            months: set(months, (1, 12), &MONTHS)?,
            weekdays: optional(weekdays, (1, 7), &WEEKDAYS)?,
            years: set(years, (1970, 2199), &[])?,
        })
    }

    fn next_after(&self, now: f64) -> Option<f64> {
        let now = Timestamp::from_millisecond((now * 1000.0) as i64).ok()?;
        let today = now.to_zoned(self.zone.clone()).date();
        for ahead in 0..DAYS_AHEAD_MAX {
            let day = today.checked_add(Span::new().days(ahead)).ok()?;
            let weekday = i16::from(day.weekday().since(Weekday::Sunday)) + 1;
            let matches = self.years.contains(&day.year())
                && self.months.contains(&i16::from(day.month()))
                && self.days.as_ref().is_none_or(|days| days.contains(&i16::from(day.day())))
                && self.weekdays.as_ref().is_none_or(|days| days.contains(&weekday));
            if !matches {
                continue;
            }
            let times = self.hours.iter().flat_map(|h| self.minutes.iter().map(move |m| (*h, *m)));
            for (hour, minute) in times {
                let at = day.at(i8::try_from(hour).ok()?, i8::try_from(minute).ok()?, 0, 0);
                let at = self.zone.to_zoned(at).ok()?.timestamp();
                if at > now {
                    return Some(at.as_millisecond() as f64 / 1000.0);
                }
            }
        }
        None
    }
}

/// `*`, `5`, `1-5`, `*/10`, `MON-FRI`, and lists of them.
fn set(text: &str, (low, high): (i16, i16), names: &[&str]) -> Option<BTreeSet<i16>> {
    let value = |text: &str| -> Option<i16> {
        let named = names.iter().position(|n| *n == text.to_ascii_uppercase()).and_then(|i| i16::try_from(i).ok());
        named.map(|i| i + low).or_else(|| text.parse().ok()).filter(|v| (low..=high).contains(v))
    };
    let mut all = BTreeSet::new();
    for part in text.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let step: usize = step.map_or(Some(1), |s| s.parse().ok().filter(|n| *n > 0))?;
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (low, high),
            Some((first, last)) => (value(first)?, value(last)?),
            None if part.contains('/') => (value(range)?, high),
            None => (value(range)?, value(range)?),
        };
        all.extend((first..=last).step_by(step));
    }
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, timezone: Option<&str>, after: &str) -> Option<String> {
        let after: Timestamp = after.parse().expect("a time");
        let schedule = Schedule::parse(schedule, timezone).expect("valid");
        let next = schedule.next_after(after.as_millisecond() as f64 / 1000.0)?;
        Some(Timestamp::from_millisecond((next * 1000.0) as i64).expect("in range").to_string())
    }

    #[test]
    fn the_next_time_is_found_in_the_named_zone() {
        for (schedule, zone, after, expected) in [
            ("cron(0 7 ? * MON-FRI *)", None, "2026-11-20T08:00:00Z", "2026-11-23T07:00:00Z"),
            ("cron(0 7 ? * MON-FRI *)", Some("Europe/Paris"), "2026-11-20T05:00:00Z", "2026-11-20T06:00:00Z"),
            ("cron(*/15 * * * ? *)", None, "2026-11-20T08:01:00Z", "2026-11-20T08:15:00Z"),
            ("cron(0 0 29 2 ? *)", None, "2026-11-20T08:01:00Z", "2028-02-29T00:00:00Z"),
            ("at(2026-12-24T18:00:00)", Some("America/New_York"), "2026-11-20T08:01:00Z", "2026-12-24T23:00:00Z"),
            ("rate(5 minutes)", None, "2026-11-20T08:00:00Z", "2026-11-20T08:05:00Z"),
        ] {
            assert_eq!(next(schedule, zone, after).as_deref(), Some(expected), "{schedule}");
        }
        assert_eq!(next("at(2020-01-01T00:00:00)", None, "2026-11-20T08:00:00Z"), None);
    }

    #[test]
    fn what_aws_refuses_is_refused() {
        for (schedule, zone) in [
            ("cron(99 7 ? * MON-FRI *)", None),
            ("cron(0 7 * * * *)", None),
            ("cron(0 7 ? * MON-FRI)", None),
            ("rate(0 minutes)", None),
            ("at(tomorrow)", None),
            ("every day", None),
            ("cron(0 7 ? * * *)", Some("Mars/Olympus")),
        ] {
            assert!(Schedule::parse(schedule, zone).is_err(), "{schedule}");
        }
    }
}
