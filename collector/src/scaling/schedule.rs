//! Schedules: weekly windows in a named time zone, and what they say at a moment. Pure.
//!
//! Daylight saving: a time that the clock skips means the first moment after the gap; a time that comes twice means
//! the first of the two. A window that lies wholly in a gap does not happen that day.

use std::collections::BTreeSet;
use std::fmt;

use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp as Instant};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use telemetry::Timestamp;

/// A weekly pattern repeats after seven days; a window that began yesterday may still last.
const DAYS_BEHIND: i64 = 1;
const DAYS_AHEAD: i64 = 8;
const MINUTES_PER_DAY: u32 = 24 * 60;

/// Windows for one or more services.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    pub name: String,
    pub timezone: Zone,
    /// `CLUSTER/SERVICE`.
    pub targets: Vec<Resource>,
    /// Outside of the windows.
    pub default: Bounds,
    pub windows: Vec<Window>,
}

/// A span of wall-clock time on some days of the week; one whose end is not after its begin ends on the next day.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The days on which it begins; every day when absent.
    #[serde(default = "Days::all")]
    pub days: Days,
    pub from: Clock,
    pub to: Clock,
    pub min: u32,
    pub max: u32,
}

/// Minimum and maximum of a scalable target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    pub min: u32,
    pub max: u32,
}

/// An ECS service, written `CLUSTER/SERVICE` in the configuration and `service/CLUSTER/SERVICE` in AWS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    pub cluster: String,
    pub service: String,
}

/// A time zone by its IANA name.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone(TimeZone);

/// `HH:MM`; `24:00` is the end of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    minutes: u32,
}

/// Days of the week, the first is Monday.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Days(BTreeSet<i8>);

/// What a schedule says at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Position {
    pub bounds: Bounds,
    /// The window that holds; None for the default.
    pub window: Option<String>,
    /// None when nothing ever changes.
    pub next: Option<Change>,
}

/// A change of bounds that is coming.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    pub at: Timestamp,
    pub min: u32,
    pub max: u32,
    /// The window that begins; None when the default comes back.
    pub window: Option<String>,
}

impl Schedule {
    /// # Errors
    /// No target, bounds upside down, windows that hold at the same time.
    pub fn check(&self) -> Result<(), String> {
        if self.targets.is_empty() {
            return Err("has no targets".to_owned());
        }
        self.default.check().map_err(|why| format!("default: {why}"))?;
        let mut owners: Vec<Option<&Window>> = vec![None; 7 * MINUTES_PER_DAY as usize];
        for window in &self.windows {
            window.bounds().check().map_err(|why| format!("window {window}: {why}"))?;
            for minute in window.minutes_of_week() {
                if let Some(other) = owners[minute].replace(window) {
                    return Err(format!("windows {other} and {window} overlap"));
                }
            }
        }
        Ok(())
    }

    /// What holds at `now`, and what comes next.
    pub fn at(&self, now: Timestamp) -> Position {
        let occurrences = self.occurrences(now);
        let (bounds, window) = self.in_force(&occurrences, now);
        let mut edges: Vec<Timestamp> =
            occurrences.iter().flat_map(|o| [o.from, o.to]).filter(|at| *at > now).collect();
        edges.sort();
        let next = edges.into_iter().find_map(|at| {
            let (then, window) = self.in_force(&occurrences, at);
            let change = Change { at, min: then.min, max: then.max, window: window.map(Window::to_string) };
            (then != bounds).then_some(change)
        });
        Position { bounds, window: window.map(Window::to_string), next }
    }

    fn in_force<'a>(&self, occurrences: &[Occurrence<'a>], at: Timestamp) -> (Bounds, Option<&'a Window>) {
        let holds = occurrences.iter().find(|o| o.from <= at && at < o.to).map(|o| o.window);
        (holds.map_or(self.default, Window::bounds), holds)
    }

    /// Every window's occurrences around `now`.
    fn occurrences(&self, now: Timestamp) -> Vec<Occurrence<'_>> {
        let Ok(instant) = Instant::from_millisecond(now.as_millis()) else { return Vec::new() };
        let today = instant.to_zoned(self.timezone.0.clone()).date();
        let days = (-DAYS_BEHIND..=DAYS_AHEAD).filter_map(|n| today.checked_add(Span::new().days(n)).ok());
        days.flat_map(|day| self.windows.iter().filter_map(move |w| w.on(day, &self.timezone.0)))
            .filter(|occurrence| occurrence.from < occurrence.to)
            .collect()
    }
}

struct Occurrence<'a> {
    window: &'a Window,
    from: Timestamp,
    to: Timestamp,
}

impl Window {
    pub fn bounds(&self) -> Bounds {
        Bounds { min: self.min, max: self.max }
    }

    fn ends_next_day(&self) -> bool {
        self.to.minutes <= self.from.minutes
    }

    fn on(&self, day: Date, zone: &TimeZone) -> Option<Occurrence<'_>> {
        if !self.days.0.contains(&day.weekday().to_monday_zero_offset()) {
            return None;
        }
        let last = if self.ends_next_day() { day.tomorrow().ok()? } else { day };
        Some(Occurrence { window: self, from: self.from.on(day, zone)?, to: self.to.on(last, zone)? })
    }

    fn minutes_of_week(&self) -> impl Iterator<Item = usize> {
        let end = self.to.minutes + if self.ends_next_day() { MINUTES_PER_DAY } else { 0 };
        let starts = self.days.0.iter().map(|day| u32::from(day.unsigned_abs()) * MINUTES_PER_DAY);
        let span = self.from.minutes..end;
        starts.flat_map(move |day| span.clone().map(move |m| ((day + m) % (7 * MINUTES_PER_DAY)) as usize))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != Days::all() {
            write!(f, "{} ", self.days)?;
        }
        write!(f, "{}-{}", self.from, self.to)
    }
}

impl Bounds {
    fn check(self) -> Result<(), String> {
        match self.min > self.max {
            true => Err(format!("min {} is greater than max {}", self.min, self.max)),
            false => Ok(()),
        }
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.min, self.max)
    }
}

impl Clock {
    /// The moment of this wall-clock time on `day`.
    fn on(self, day: Date, zone: &TimeZone) -> Option<Timestamp> {
        let (day, minutes) = match self.minutes == MINUTES_PER_DAY {
            true => (day.tomorrow().ok()?, 0),
            false => (day, self.minutes),
        };
        let (hour, minute) = (i8::try_from(minutes / 60).ok()?, i8::try_from(minutes % 60).ok()?);
        let wall = day.to_datetime(Time::new(hour, minute, 0, 0).ok()?);
        let instant = match zone.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(wall).ok()?,
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(wall).ok()?,
            AmbiguousOffset::Gap { before, .. } => {
                // Read with the offset of before the gap, a skipped time lies at or after the transition.
                let after = before.to_timestamp(wall).ok()?.checked_add(Span::new().seconds(1)).ok()?;
                zone.preceding(after).next()?.timestamp()
            }
        };
        Some(Timestamp::from_millis(instant.as_millisecond()))
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.minutes / 60, self.minutes % 60)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service/{}/{}", self.cluster, self.service)
    }
}

const DAY_NAMES: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

impl Days {
    pub fn all() -> Self {
        Days((0..7).collect())
    }

    fn parse_day(text: &str) -> Option<i8> {
        let index = DAY_NAMES.iter().position(|name| text.len() >= 3 && text[..3].eq_ignore_ascii_case(name))?;
        let day = i8::try_from(index).ok()?;
        let full = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"][index];
        (text.len() == 3 || text.eq_ignore_ascii_case(full)).then_some(day)
    }

    /// `Mon`, `monday`, `Mon-Fri`, `Fri-Mon`.
    fn parse_range(text: &str) -> Option<Vec<i8>> {
        let Some((first, last)) = text.split_once('-') else { return Some(vec![Self::parse_day(text)?]) };
        let (first, last) = (Self::parse_day(first)?, Self::parse_day(last)?);
        let length = (last - first).rem_euclid(7);
        Some((0..=length).map(|n| (first + n) % 7).collect())
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |day: &i8| DAY_NAMES[usize::from(day.unsigned_abs()) % 7];
        let days: Vec<&i8> = self.0.iter().collect();
        match days[..] {
            [first, .., last] if days.len() > 2 && (*last - *first) as usize == days.len() - 1 => {
                write!(f, "{}-{}", name(first), name(last))
            }
            _ => f.write_str(&days.iter().map(|d| name(d)).collect::<Vec<_>>().join(",")),
        }
    }
}

impl<'de> Deserialize<'de> for Days {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let mut days = BTreeSet::new();
        for text in &texts {
            let range = Days::parse_range(text);
            days.extend(range.ok_or_else(|| D::Error::custom(format!("not a day: {text:?}; write Mon or Mon-Fri")))?);
        }
        match days.is_empty() {
            true => Err(D::Error::custom("days is empty; leave it out for every day")),
            false => Ok(Days(days)),
        }
    }
}

impl Serialize for Days {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|day| DAY_NAMES[usize::from(day.unsigned_abs()) % 7]))
    }
}

impl<'de> Deserialize<'de> for Clock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bad = || D::Error::custom(format!("not a time of day: {text:?}; write HH:MM in quotes, 00:00 to 24:00"));
        let (hours, minutes) = text.split_once(':').filter(|(h, m)| h.len() == 2 && m.len() == 2).ok_or_else(bad)?;
        let (hours, minutes): (u32, u32) = (hours.parse().map_err(|_| bad())?, minutes.parse().map_err(|_| bad())?);
        let total = hours * 60 + minutes;
        match minutes < 60 && total <= MINUTES_PER_DAY {
            true => Ok(Clock { minutes: total }),
            false => Err(bad()),
        }
    }
}

impl Serialize for Clock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.split('/').collect::<Vec<_>>()[..] {
            [cluster, service] if !cluster.is_empty() && !service.is_empty() => {
                Ok(Resource { cluster: cluster.to_owned(), service: service.to_owned() })
            }
            _ => Err(D::Error::custom(format!("not a service: {text:?}; write CLUSTER/SERVICE"))),
        }
    }
}

impl Serialize for Resource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}/{}", self.cluster, self.service))
    }
}

impl Zone {
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        TimeZone::get(&name).map(Zone).map_err(|_| {
            D::Error::custom(format!("not a time zone: {name:?}; write an IANA name such as Europe/Paris"))
        })
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests;
