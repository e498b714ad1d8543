//! Label matchers of selectors, relabelling and alert routing.
//!
//! Regular expressions are Prometheus': RE2's language, anchored at both ends, `.` matches a newline, classes are
//! ASCII. Patterns that are words, prefixes or anything at all are matched without an automaton.

mod plan;
mod re2;

use std::fmt;

use regex::Regex;

use crate::labels::{Quoted, is_plain_name};
use plan::Plan;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

/// `name op "value"`, with the regular expression compiled.
#[derive(Clone)]
pub struct Matcher {
    pub name: String,
    pub op: MatchOp,
    pub value: String,
    plan: Option<Plan>,
}

/// A matcher's regular expression that does not compile.
#[derive(Debug, thiserror::Error)]
#[error("invalid regular expression {pattern:?}")]
pub struct RegexError {
    pub pattern: String,
    #[source]
    pub source: Box<regex::Error>,
}

impl Matcher {
    pub fn new(name: impl Into<String>, op: MatchOp, value: impl Into<String>) -> Result<Self, RegexError> {
        let value = value.into();
        let plan = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => {
                let (translated, regex) = compile(&value)?;
                Some(Plan::new(&translated, regex))
            }
        };
        Ok(Matcher { name: name.into(), op, value, plan })
    }

    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Matcher { name: name.into(), op: MatchOp::Equal, value: value.into(), plan: None }
    }

    /// Whether a label with this value passes; an absent label has the value "".
    pub fn matches(&self, value: &str) -> bool {
        match self.op {
            MatchOp::Equal => value == self.value,
            MatchOp::NotEqual => value != self.value,
            MatchOp::Regex => self.pattern_matches(value),
            MatchOp::NotRegex => !self.pattern_matches(value),
        }
    }

    /// The only values that the matcher's pattern names, where it is a list of words: what passes if the matcher is
    /// positive, what does not if it is negative. An index looks these up instead of trying all values.
    pub fn words(&self) -> Option<impl ExactSizeIterator<Item = &str>> {
        let (one, many): (Option<&str>, &[Box<str>]) = match (&self.plan, self.op) {
            (None, _) => (Some(&self.value), &[]),
            (Some(Plan::Words(words)), _) => (None, words),
            _ => return None,
        };
        let count = usize::from(one.is_some()) + many.len();
        Some((0..count).map(move |i| one.unwrap_or_else(|| &many[i])))
    }

    /// A text with which every value that the pattern matches begins; empty if there is none.
    pub fn prefix(&self) -> &str {
        match &self.plan {
            Some(Plan::Affixes { prefix, .. }) => prefix,
            _ => "",
        }
    }

    fn pattern_matches(&self, value: &str) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.matches(value))
    }
}

/// Compiles a pattern the way Prometheus does: the whole value must match.
pub fn anchored(pattern: &str) -> Result<Regex, RegexError> {
    compile(pattern).map(|(_, regex)| regex)
}

/// The pattern in the `regex` crate's words, and compiled between anchors.
fn compile(pattern: &str) -> Result<(String, Regex), RegexError> {
    let error = |source| RegexError { pattern: pattern.to_owned(), source: Box::new(source) };
    let translated = re2::translate(pattern).map_err(|reason| error(regex::Error::Syntax(reason)))?;
    // By itself first: `a)|(b` has a meaning only inside of somebody else's parentheses.
    let alone = regex_syntax::ast::parse::Parser::new().parse(&translated);
    alone.map_err(|reason| error(regex::Error::Syntax(reason.to_string())))?;
    let regex = Regex::new(&format!("^(?s:{translated})$")).map_err(error)?;
    Ok((translated, regex))
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl Eq for Matcher {}

impl fmt::Display for MatchOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        })
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_plain_name(&self.name, false) {
            write!(f, "{}{}{}", self.name, self.op, Quoted(&self.value))
        } else {
            write!(f, "{}{}{}", Quoted(&self.name), self.op, Quoted(&self.value))
        }
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests;
