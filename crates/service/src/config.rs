//! Reading configuration: YAML files with errors that name file, line and column, human units, secrets
//! that do not print, and the environment behind a trait.
//!
//! Field attributes for human units: `#[serde(with = "service::config::duration")]` reads `15s`,
//! `duration_option` the same when the key may be absent (add `default`), `byte_size` reads `64MiB`.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A configuration that cannot be used. Display is one message that says where and what.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("failed to read {what} `{path}`", path = path.display())]
    Read {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// `message` is the parser's own, which names the key.
    #[error("{path}:{line}:{column}: {message}", path = path.display())]
    Parse { path: PathBuf, line: u64, column: u64, message: String },
    #[error("{path}: {message}", path = path.display())]
    Invalid { path: PathBuf, message: String },
}

/// Reads a YAML file into `T`. `what` names the file's role in the error: "configuration file".
///
/// # Errors
/// The file cannot be read, is not YAML, or does not fit `T` (declare `deny_unknown_fields`).
pub fn load_yaml<T: DeserializeOwned>(what: &'static str, path: &Path) -> Result<T, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Read { what, path: path.to_owned(), source })?;
    parse_yaml(&text, path)
}

/// Parses YAML that came from `path`.
///
/// # Errors
/// See [`load_yaml`].
pub fn parse_yaml<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, ConfigError> {
    serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        let (line, column) = error.location().map_or((1, 1), |l| (l.line(), l.column()));
        let message = error.to_string();
        // The parser appends its own "at line L, column C", which stands in front already.
        let message = message.split(" at line ").next().unwrap_or(&message);
        let message = match key_before(text, line, column) {
            Some(key) => format!("{key}: {message}"),
            None => message.to_owned(),
        };
        ConfigError::Parse { path: path.to_owned(), line, column, message }
    })
}

/// The key whose value stands or begins at this place; None where it is a further key's, a list's or on another line.
fn key_before(text: &str, line: u64, column: u64) -> Option<&str> {
    let line = text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
    let place = line.char_indices().nth(usize::try_from(column).ok()?.checked_sub(1)?)?.0;
    // What is missing in `{…}` is missed at its first key.
    let key = line[..place].trim_end_matches([' ', '{']).strip_suffix(':')?;
    let key = key.rsplit([' ', '{', ',']).next()?.trim_matches(['"', '\'']);
    Some(key).filter(|key| !key.is_empty())
}

/// Where settings come from besides files; a map stands in for it in tests.
pub trait Env {
    fn get(&self, key: &str) -> Option<String>;

    /// The names of all variables that are set.
    fn names(&self) -> Vec<String>;

    /// The variable parsed, or None when it is unset or empty.
    ///
    /// # Errors
    /// Names the variable and its value.
    fn parse<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, EnvError>
    where
        T::Err: fmt::Display,
        Self: Sized,
    {
        let Some(value) = self.get(key).filter(|v| !v.is_empty()) else { return Ok(None) };
        value.parse().map(Some).map_err(|error: T::Err| EnvError { key: key.to_owned(), value, why: error.to_string() })
    }
}

/// An environment variable whose value does not parse.
#[derive(Debug, thiserror::Error)]
#[error("environment variable {key}={value:?}: {why}")]
pub struct EnvError {
    pub key: String,
    pub value: String,
    pub why: String,
}

/// The process' environment; the only place that reads it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnv;

impl Env for ProcessEnv {
    #[expect(clippy::disallowed_methods, reason = "this is the wrapper that the ban points to")]
    fn get(&self, key: &str) -> Option<String> {
        std::env::var(key).ok()
    }

    fn names(&self) -> Vec<String> {
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
    }
}

impl Env for HashMap<&str, &str> {
    fn get(&self, key: &str) -> Option<String> {
        HashMap::get(self, key).map(|v| (*v).to_owned())
    }

    fn names(&self) -> Vec<String> {
        self.keys().map(|name| (*name).to_owned()).collect()
    }
}

/// A value that must not appear in logs, errors or on /config.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The value itself; call it where it is used, not where it is passed on.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("<secret>")
    }
}

/// `15s`, `5m`, `1h30m`: Prometheus' notation.
pub mod duration {
    use super::*;

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        telemetry::duration::parse(&text).map_err(D::Error::custom)
    }

    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&telemetry::duration::format(*value))
    }
}

/// A duration that may be absent; use with `#[serde(default)]`.
pub mod duration_option {
    use super::*;

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|t| telemetry::duration::parse(&t).map_err(D::Error::custom)).transpose()
    }

    pub fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(telemetry::duration::format).serialize(serializer)
    }
}

/// `64MiB`, `1GB`, `512B`, `1.5GiB`, `1GiB512MiB`, `0`: Prometheus' notation, to the letter. `KB`, `MB`, `GB` are powers
/// of 1024; a number without a unit is refused, for nobody can see what was meant.
pub mod byte_size {
    use super::*;

    /// As powers of 1024.
    const PREFIXES: &str = "KMGTPE";

    pub fn parse(text: &str) -> Result<u64, String> {
        let digits = text.strip_prefix('+').unwrap_or(text);
        if digits == "0" {
            return Ok(0);
        }
        // `KiB` and `KB` are the same, but not in one text.
        let bytes = sum(digits, "iB").or_else(|| sum(digits, "B")).ok_or_else(|| bad(text))?;
        // As many as Prometheus can count.
        if bytes >= i64::MAX as f64 {
            return Err(format!("size out of range: {text:?}"));
        }
        Ok(bytes as u64)
    }

    /// `1.5GiB512MiB`, where multiples of a byte end in `suffix`.
    fn sum(mut text: &str, suffix: &str) -> Option<f64> {
        let in_number = |c: char| c.is_ascii_digit() || c == '.';
        let mut bytes = None;
        while !text.is_empty() {
            let (number, rest) = text.split_at(text.find(|c| !in_number(c))?);
            let (unit, rest) = rest.split_at(rest.find(in_number).unwrap_or(rest.len()));
            *bytes.get_or_insert(0.0) += number.parse::<f64>().ok()? * scale(unit, suffix)?;
            text = rest;
        }
        bytes
    }

    fn scale(unit: &str, suffix: &str) -> Option<f64> {
        if unit == "B" {
            return Some(1.0);
        }
        let prefix = unit.strip_suffix(suffix).filter(|prefix| prefix.len() == 1)?;
        let power = PREFIXES.find(prefix)? + 1;
        Some((1u64 << (10 * power)) as f64)
    }

    fn bad(text: &str) -> String {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return format!("{text:?} has no unit: write {text}B, {text}KiB, {text}MiB or {text}GiB");
        }
        format!("not a valid size: {text:?}; write for example 512KiB, 64MiB or 10GiB")
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }

    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        let (unit, shift) = [("GiB", 30), ("MiB", 20), ("KiB", 10)]
            .into_iter()
            .find(|(_, shift)| *value > 0 && value.is_multiple_of(1 << shift))
            .unwrap_or(("B", 0));
        serializer.serialize_str(&format!("{}{unit}", value >> shift))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        #[serde(with = "duration")]
        interval: Duration,
        #[serde(with = "byte_size")]
        limit: u64,
        #[serde(default, with = "duration_option")]
        timeout: Option<Duration>,
        token: Option<Secret>,
    }

    fn parse(text: &str) -> Result<Example, ConfigError> {
        parse_yaml(text, Path::new("picket.yml"))
    }

    #[test]
    fn human_units_are_read_and_secrets_do_not_print() {
        let example = parse("interval: 1m30s\nlimit: 64MiB\ntoken: hunter2\n").expect("valid");
        assert_eq!(example.interval, Duration::from_secs(90));
        assert_eq!(example.limit, 64 << 20);
        assert_eq!(example.timeout, None);
        assert_eq!(example.token.as_ref().map(Secret::expose), Some("hunter2"));
        assert!(!format!("{example:?}").contains("hunter2"));
    }

    #[test]
    fn sizes_are_read_as_prometheus_reads_them() {
        let table = [
            ("0", 0),
            ("+0", 0),
            ("0B", 0),
            ("10B", 10),
            ("1.B", 1),
            ("1.5B", 1),
            ("1KB", 1 << 10),
            ("1KiB", 1 << 10),
            (".5KiB", 512),
            ("1.5MiB", 3 << 19),
            ("1MiB512KiB", 3 << 19),
            ("1MB512KB", 3 << 19),
            ("10GB", 10 << 30),
            ("2TiB", 2 << 40),
            ("1PiB", 1 << 50),
            ("1EiB", 1 << 60),
        ];
        for (text, bytes) in table {
            assert_eq!(byte_size::parse(text), Ok(bytes), "{text}");
        }
        let refused = [
            "", "00", "0.0", ".", "1kB", "1 KiB", " 10B", "10b", "-1MB", "1e3B", "1_000B", "5Mi", "iB", "1iB", "MiB",
            "1MiB1KB", "1.2.3KiB", "1..2KiB", "0x10", "10mb", "1KiB5",
        ];
        for text in refused {
            let error = byte_size::parse(text).expect_err(text);
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
        assert_eq!(byte_size::parse("10EiB").expect_err("more than there is"), r#"size out of range: "10EiB""#);
        let error = byte_size::parse("10").expect_err("ten of what");
        assert_eq!(error, r#""10" has no unit: write 10B, 10KiB, 10MiB or 10GiB"#);
    }

    #[test]
    fn an_error_names_file_line_column_and_key() {
        let unknown = parse("interval: 15s\nlimit: 1MiB\nintervall: 3s\n").expect_err("unknown key").to_string();
        assert!(unknown.starts_with("picket.yml:3:1: "), "{unknown}");
        assert!(unknown.contains("intervall"), "{unknown}");
        let value = parse("interval: soon\nlimit: 1MiB\n").expect_err("bad duration").to_string();
        assert!(value.starts_with("picket.yml:1:11: interval: ") && value.contains("soon"), "{value}");
        let size = parse("interval: 15s\nlimit: 10\n").expect_err("ten of what").to_string();
        assert_eq!(size, r#"picket.yml:2:8: limit: "10" has no unit: write 10B, 10KiB, 10MiB or 10GiB"#);
        let flow = parse("{interval: 15s, 'limit': '1 MiB'}").expect_err("a space").to_string();
        assert!(flow.starts_with("picket.yml:1:26: limit: not a valid size"), "{flow}");
    }

    #[test]
    fn a_variable_that_does_not_parse_is_named() {
        let env = HashMap::from([("PORT", "eighty"), ("EMPTY", "")]);
        assert_eq!(env.parse::<u16>("EMPTY").expect("unset"), None);
        let error = Env::parse::<u16>(&env, "PORT").expect_err("not a number");
        assert_eq!(error.to_string(), r#"environment variable PORT="eighty": invalid digit found in string"#);
    }
}
