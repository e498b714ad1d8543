//! Which records go where, by the tag they come with: what FireLens' configuration says, and what we were told ourselves.

use regex::bytes::Regex;

use super::multiline::Rule as Multiline;
use crate::outputs::destination::LogsOutput;

/// What a record came with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Fluent's tag; empty for what did not come by Fluent Forward.
    pub tag: String,
    /// The container's name, or what stands for it.
    pub container: String,
    /// `stdout` or `stderr`, where that is known.
    pub source: String,
}

/// Everything that is decided by the tag.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    pub rules: Vec<Rule>,
    pub filters: Vec<Filter>,
    /// Members added to each record: FireLens' ECS metadata.
    pub members: Vec<(TagPattern, String, String)>,
}

/// An output of the configuration.
#[derive(Clone, Debug)]
pub struct Rule {
    pub matches: TagPattern,
    pub output: LogsOutput,
    /// The line alone, without the container's name and the task's data.
    pub bare: bool,
    pub multiline: Option<Multiline>,
}

/// What must, or must not, be found in the line.
#[derive(Clone, Debug)]
pub struct Filter {
    pub matches: TagPattern,
    pub pattern: Regex,
    pub exclude: bool,
}

/// `app-firelens*`, or a regular expression.
#[derive(Clone, Debug)]
pub enum TagPattern {
    Glob(String),
    Regex(Regex),
}

impl TagPattern {
    pub fn matches(&self, tag: &str) -> bool {
        match self {
            TagPattern::Glob(pattern) => glob(pattern.as_bytes(), tag.as_bytes()),
            TagPattern::Regex(regex) => regex.is_match(tag.as_bytes()),
        }
    }
}

/// `*` stands for anything, nothing else is special: as Fluent Bit matches.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let mut parts = pattern.split(|b| *b == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(part) = last.replace(part) {
            let part: &[u8] = part;
            let Some(at) = (0..=rest.len()).find(|at| rest[*at..].starts_with(part)) else { return false };
            rest = &rest[at + part.len()..];
        }
    }
    match last {
        None => rest.is_empty(),
        Some(part) => rest.ends_with(part),
    }
}

/// What the routes say of one origin.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// Each output and whether it wants the line alone. Empty: as the sidecar itself is configured.
    pub outputs: Vec<(LogsOutput, bool)>,
    pub filters: Vec<(Regex, bool)>,
    pub members: Vec<(String, String)>,
    pub multiline: Option<Multiline>,
}

impl Routes {
    pub fn of(&self, origin: &Origin) -> Route {
        if origin.tag.is_empty() {
            return Route::default();
        }
        let rules: Vec<&Rule> = self.rules.iter().filter(|rule| rule.matches.matches(&origin.tag)).collect();
        let filters = self.filters.iter().filter(|f| f.matches.matches(&origin.tag));
        let members = self.members.iter().filter(|(matches, ..)| matches.matches(&origin.tag));
        Route {
            multiline: rules.iter().find_map(|rule| rule.multiline),
            outputs: rules.into_iter().map(|rule| (rule.output.clone(), rule.bare)).collect(),
            filters: filters.map(|f| (f.pattern.clone(), f.exclude)).collect(),
            members: members.map(|(_, key, value)| (key.clone(), value.clone())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, tag, expected) in [
            ("app-firelens*", "app-firelens-t1", true),
            ("app-firelens*", "web-firelens-t1", false),
            ("*", "", true),
            ("", "", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "ace", true),
            ("a*c*e", "aec", false),
            ("*aa", "aaa", true),
            ("app", "apps", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), tag.as_bytes()), expected, "{pattern} {tag}");
        }
    }
}
