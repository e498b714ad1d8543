//! Relabelling, action for action as Prometheus does it (prometheus model/relabel/relabel.go): of targets after
//! discovery, of samples after a scrape, of alerts before they leave.

use std::fmt;
use std::sync::LazyLock;

use md5::{Digest, Md5};
use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use telemetry::LabelsBuilder;
use telemetry::matcher::anchored;

const ANYTHING: &str = "(.*)";
const WHOLE_MATCH: &str = "$1";
const SEPARATOR: &str = ";";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_ascii_lowercase())
    }
}

/// One entry of `relabel_configs`, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    action: Action,
    source_labels: Vec<String>,
    separator: String,
    regex: Pattern,
    modulus: u64,
    target_label: String,
    replacement: String,
}

/// The entry as the file has it; what is absent differs from what is written for some actions.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    source_labels: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    separator: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    regex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modulus: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replacement: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
}

/// An entry that cannot be used; the text is Prometheus' own where it has one.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum RuleError {
    #[error("unknown relabel action {0:?}")]
    UnknownAction(String),
    #[error("invalid regular expression {0:?}")]
    Regex(String),
    #[error("relabel configuration for hashmod requires non-zero modulus")]
    NoModulus,
    #[error("relabel configuration for {0} action requires 'target_label' value")]
    NoTarget(Action),
    #[error("{label:?} is invalid 'target_label' for {action} action")]
    BadTarget { label: String, action: Action },
    #[error("{0:?} is invalid 'replacement' for labelmap action")]
    BadReplacement(String),
    #[error("'replacement' can not be set for {0} action")]
    NoReplacementAllowed(Action),
    #[error("{0} action requires only 'source_labels' and `target_label`, and no other fields")]
    OnlySourceAndTarget(Action),
    #[error("{0} action requires only 'regex', and no other fields")]
    OnlyRegex(Action),
}

#[derive(Clone, Debug)]
struct Pattern {
    text: String,
    regex: Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// Applies the rules in order; false when one of them drops the label set.
#[must_use = "false means that the target or sample is dropped"]
pub fn apply(rules: &[Rule], labels: &mut LabelsBuilder) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

impl Rule {
    fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        match self.action {
            Action::Keep => return self.regex.regex.is_match(&self.value(labels)),
            Action::Drop => return !self.regex.regex.is_match(&self.value(labels)),
            Action::KeepEqual => return labels.get(&self.target_label).unwrap_or_default() == self.value(labels),
            Action::DropEqual => return labels.get(&self.target_label).unwrap_or_default() != self.value(labels),
            Action::Replace => self.replace(labels),
            Action::HashMod => {
                let bucket = hash(&self.value(labels)) % self.modulus;
                labels.set(&self.target_label, &bucket.to_string());
            }
            Action::Lowercase => {
                let value = self.value(labels).to_lowercase();
                labels.set(&self.target_label, &value);
            }
            Action::Uppercase => {
                let value = self.value(labels).to_uppercase();
                labels.set(&self.target_label, &value);
            }
            Action::LabelMap => {
                for (name, value) in self.named(labels, true) {
                    labels.set(&self.regex.regex.replace(&name, &*self.replacement), &value);
                }
            }
            Action::LabelDrop | Action::LabelKeep => {
                for (name, _) in self.named(labels, self.action == Action::LabelDrop) {
                    labels.remove(&name);
                }
            }
        }
        true
    }

    fn value(&self, labels: &LabelsBuilder) -> String {
        let values: Vec<&str> = self.source_labels.iter().map(|l| labels.get(l).unwrap_or_default()).collect();
        values.join(&self.separator)
    }

    fn replace(&self, labels: &mut LabelsBuilder) {
        let value = self.value(labels);
        // No match, no replacement.
        let Some(captures) = self.regex.regex.captures(&value) else { return };
        let (mut target, mut replacement) = (String::new(), String::new());
        captures.expand(&self.target_label, &mut target);
        captures.expand(&self.replacement, &mut replacement);
        if !target.is_empty() {
            labels.set(&target, &replacement);
        }
    }

    /// The labels whose name matches, or does not.
    fn named(&self, labels: &LabelsBuilder, matching: bool) -> Vec<(String, String)> {
        let matching = |name: &str| self.regex.regex.is_match(name) == matching;
        labels.iter().filter(|(n, _)| matching(n)).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
    }

    fn written(&self) -> Written {
        let unless = |value: &str, default: &str| (value != default).then(|| value.to_owned());
        let only_regex = matches!(self.action, Action::LabelDrop | Action::LabelKeep);
        Written {
            source_labels: (!self.source_labels.is_empty()).then(|| self.source_labels.clone()),
            separator: unless(&self.separator, SEPARATOR),
            regex: unless(&self.regex.text, ANYTHING).or_else(|| only_regex.then(|| ANYTHING.to_owned())),
            modulus: (self.modulus != 0).then_some(self.modulus),
            target_label: unless(&self.target_label, ""),
            replacement: unless(&self.replacement, WHOLE_MATCH),
            action: Some(self.action.to_string()),
        }
    }
}

/// The last 8 of MD5's 16 bytes, as Prometheus takes them: shards of both agree.
fn hash(value: &str) -> u64 {
    let digest = Md5::digest(value.as_bytes());
    u64::from_be_bytes(digest[8..].try_into().expect("16 bytes less 8"))
}

impl TryFrom<Written> for Rule {
    type Error = RuleError;

    fn try_from(written: Written) -> Result<Rule, RuleError> {
        let action = parse_action(written.action.as_deref().unwrap_or("replace"))?;
        check_fields(action, &written)?;
        let text = written.regex.unwrap_or_else(|| ANYTHING.to_owned());
        let regex = anchored(&text).map_err(|_| RuleError::Regex(text.clone()))?;
        let rule = Rule {
            action,
            source_labels: written.source_labels.unwrap_or_default(),
            separator: written.separator.unwrap_or_else(|| SEPARATOR.to_owned()),
            regex: Pattern { text, regex },
            modulus: written.modulus.unwrap_or_default(),
            target_label: written.target_label.unwrap_or_default(),
            replacement: written.replacement.unwrap_or_else(|| WHOLE_MATCH.to_owned()),
        };
        check_values(&rule)?;
        Ok(rule)
    }
}

/// Prometheus takes actions in any case.
fn parse_action(text: &str) -> Result<Action, RuleError> {
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, StrDeserializer};
    let lowercase = text.to_lowercase();
    let deserializer: StrDeserializer<'_, Error> = lowercase.as_str().into_deserializer();
    Action::deserialize(deserializer).map_err(|_| RuleError::UnknownAction(text.to_owned()))
}

/// Fields that an action does not read are refused: they would mislead.
fn check_fields(action: Action, written: &Written) -> Result<(), RuleError> {
    let (separator, modulus) = (written.separator.is_some(), written.modulus.is_some());
    let (regex, replacement) = (written.regex.is_some(), written.replacement.is_some());
    match action {
        Action::KeepEqual | Action::DropEqual if separator || modulus || regex || replacement => {
            Err(RuleError::OnlySourceAndTarget(action))
        }
        Action::LabelDrop | Action::LabelKeep
            if separator
                || modulus
                || replacement
                || written.source_labels.is_some()
                || written.target_label.is_some() =>
        {
            Err(RuleError::OnlyRegex(action))
        }
        Action::Lowercase | Action::Uppercase if replacement => Err(RuleError::NoReplacementAllowed(action)),
        _ => Ok(()),
    }
}

fn check_values(rule: &Rule) -> Result<(), RuleError> {
    static NAME: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("^[a-zA-Z_][a-zA-Z0-9_]*$").expect("a constant that compiles"));
    // A name that is built from captures: `${1}_total`.
    static TEMPLATE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^(?:(?:[a-zA-Z_]|\$(?:\{\w+\}|\w+))+\w*)+$").expect("a constant that compiles"));
    let needs_target =
        !matches!(rule.action, Action::Keep | Action::Drop | Action::LabelMap | Action::LabelDrop | Action::LabelKeep);
    if needs_target && rule.target_label.is_empty() {
        return Err(RuleError::NoTarget(rule.action));
    }
    let target_ok = match rule.action {
        Action::Replace => TEMPLATE.is_match(&rule.target_label),
        _ => NAME.is_match(&rule.target_label),
    };
    if needs_target && !target_ok {
        return Err(RuleError::BadTarget { label: rule.target_label.clone(), action: rule.action });
    }
    match rule.action {
        Action::HashMod if rule.modulus == 0 => Err(RuleError::NoModulus),
        Action::LabelMap if !TEMPLATE.is_match(&rule.replacement) => {
            Err(RuleError::BadReplacement(rule.replacement.clone()))
        }
        _ => Ok(()),
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Written::deserialize(deserializer)?.try_into().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.written().serialize(serializer)
    }
}

#[cfg(test)]
mod tests;
