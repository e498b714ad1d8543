//! What each setting is and where it comes from: `sidecar check-config`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

/// Where a value was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Environment,
    File,
    Default,
}

/// The settings that were looked for, by their variables.
#[derive(Debug, Default)]
pub struct Found {
    settings: RefCell<BTreeMap<String, Option<(String, Origin)>>>,
}

impl Found {
    /// What was looked for several times, as the same variable of several settings, keeps what was found first.
    pub(super) fn note(&self, variable: &str, found: Option<(String, Origin)>) {
        let mut settings = self.settings.borrow_mut();
        let slot = settings.entry(variable.to_owned()).or_default();
        if slot.is_none() {
            *slot = found;
        }
    }
}

/// A line for each setting that has a value, what was written before what is a default; then what has none.
impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = self.settings.borrow();
        let width = settings.keys().map(String::len).max().unwrap_or(0);
        for (origin, title) in [
            (Origin::Environment, "from the environment"),
            (Origin::File, "from the file"),
            (Origin::Default, "by default"),
        ] {
            let of_it = settings.iter().filter_map(|(variable, found)| match found {
                Some((value, from)) if *from == origin => Some((variable, value)),
                _ => None,
            });
            for (place, (variable, value)) in of_it.enumerate() {
                if place == 0 {
                    writeln!(f, "{title}:")?;
                }
                writeln!(f, "  {variable:width$}  {}", without_secrets(variable, value))?;
            }
        }
        let unset: Vec<&str> =
            settings.iter().filter(|(_, found)| found.is_none()).map(|(name, _)| name.as_str()).collect();
        if !unset.is_empty() {
            writeln!(f, "not set:")?;
        }
        unset.iter().try_for_each(|variable| writeln!(f, "  {variable}"))
    }
}

/// Values of headers and passwords in addresses stay out of terminals and of CI's logs.
fn without_secrets(variable: &str, value: &str) -> String {
    if variable.ends_with("_HEADERS") {
        let names = value.split(',').map(|pair| format!("{}=…", pair.split('=').next().unwrap_or_default().trim()));
        return names.collect::<Vec<_>>().join(",");
    }
    let mut shown = String::new();
    for (place, part) in value.split("://").enumerate() {
        if place > 0 {
            shown.push_str("://");
        }
        let authority = part.find(['/', '?', ',']).unwrap_or(part.len());
        match part[..authority].rfind('@') {
            Some(at) if place > 0 => shown.extend(["…", &part[at..]]),
            _ => shown.push_str(part),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        for (variable, value, shown) in [
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=s3cret, tenant = a", "x-api-key=…,tenant=…"),
            (
                "SIDECAR_PROBES",
                "db=postgres://u:p@db:5432/x,r=redis://:p@r:6379",
                "db=postgres://…@db:5432/x,r=redis://…@r:6379",
            ),
            ("SIDECAR_REMOTE_WRITE_URL", "http://prom:9090/write?to=a@b", "http://prom:9090/write?to=a@b"),
            ("SIDECAR_LOG_INCLUDE", "a@b", "a@b"),
        ] {
            assert_eq!(without_secrets(variable, value), shown, "{variable}");
        }
    }

    #[test]
    fn what_was_written_stands_before_what_is_a_default() {
        let found = Found::default();
        found.note("B", Some(("2".to_owned(), Origin::Default)));
        found.note("C", None);
        found.note("A", None);
        found.note("A", Some(("1".to_owned(), Origin::Environment)));
        found.note("A", Some(("other".to_owned(), Origin::Default)));
        assert_eq!(found.to_string(), "from the environment:\n  A  1\nby default:\n  B  2\nnot set:\n  C\n");
    }
}
