//! How a pattern is matched: most patterns in selectors are a few words, a prefix, or anything at all, and need no
//! automaton (Prometheus' FastRegexMatcher has the same idea).

use regex::Regex;
use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

/// Words that an alternation may expand to; more are left to the automaton.
const WORDS_MAX: usize = 256;

#[derive(Clone, Debug)]
pub(super) enum Plan {
    /// `.*`
    Anything,
    /// `.+`
    Something,
    /// `a|b|c`: sorted, none twice.
    Words(Box<[Box<str>]>),
    /// `prefix.*suffix` or `prefix.+suffix`, either of them possibly empty.
    Affixes {
        prefix: Box<str>,
        suffix: Box<str>,
        between_min: usize,
    },
    /// `.*infix.*`
    Contains(Box<str>),
    Automaton(Regex),
}

impl Plan {
    /// The plan for a translated pattern of which `regex` is the anchored form.
    pub(super) fn new(translated: &str, regex: Regex) -> Plan {
        // The anchored form compiled, so this one parses; if not, the automaton is right in any case.
        let Ok(hir) = regex_syntax::Parser::new().parse(&format!("(?s:{translated})")) else {
            return Plan::Automaton(regex);
        };
        let parts = unanchored_parts(&hir);
        simple(&parts).unwrap_or(Plan::Automaton(regex))
    }

    pub(super) fn matches(&self, value: &str) -> bool {
        match self {
            Plan::Anything => true,
            Plan::Something => !value.is_empty(),
            Plan::Words(words) if words.len() <= 4 => words.iter().any(|word| **word == *value),
            Plan::Words(words) => words.binary_search_by(|word| (**word).cmp(value)).is_ok(),
            Plan::Affixes { prefix, suffix, between_min } => {
                value.len() >= prefix.len() + suffix.len() + between_min
                    && value.starts_with(&**prefix)
                    && value.ends_with(&**suffix)
            }
            Plan::Contains(infix) => memchr::memmem::find(value.as_bytes(), infix.as_bytes()).is_some(),
            Plan::Automaton(regex) => regex.is_match(value),
        }
    }
}

/// The pattern as a sequence, without groups, and without `^` in front and `$` behind, which say nothing new.
fn unanchored_parts(hir: &Hir) -> Vec<&Hir> {
    let mut parts = match ungrouped(hir).kind() {
        HirKind::Concat(parts) => parts.iter().map(ungrouped).collect(),
        _ => vec![ungrouped(hir)],
    };
    while parts.first().is_some_and(|part| matches!(part.kind(), HirKind::Look(Look::Start))) {
        parts.remove(0);
    }
    while parts.last().is_some_and(|part| matches!(part.kind(), HirKind::Look(Look::End))) {
        parts.pop();
    }
    parts
}

fn ungrouped(hir: &Hir) -> &Hir {
    match hir.kind() {
        HirKind::Capture(capture) => ungrouped(&capture.sub),
        _ => hir,
    }
}

fn simple(parts: &[&Hir]) -> Option<Plan> {
    if let Some(mut words) = words_of_sequence(parts.iter().copied()) {
        words.sort();
        words.dedup();
        return Some(Plan::Words(words.into_iter().map(String::into_boxed_str).collect()));
    }
    let at = parts.iter().position(|part| any_times(part).is_some())?;
    let between_min = any_times(parts[at])?;
    let (before, after) = (&parts[..at], &parts[at + 1..]);
    if let ([], [infix, last]) = (before, after)
        && between_min == 0
        && any_times(last) == Some(0)
    {
        return literal(infix).map(|infix| Plan::Contains(infix.into()));
    }
    let (prefix, suffix) = (literal_sequence(before)?, literal_sequence(after)?);
    Some(match (prefix.is_empty() && suffix.is_empty(), between_min) {
        (true, 0) => Plan::Anything,
        (true, 1) => Plan::Something,
        _ => Plan::Affixes { prefix: prefix.into(), suffix: suffix.into(), between_min },
    })
}

/// 0 for `.*`, 1 for `.+`, where `.` is any character at all.
fn any_times(hir: &Hir) -> Option<usize> {
    let HirKind::Repetition(Repetition { min: min @ (0 | 1), max: None, sub, .. }) = hir.kind() else { return None };
    let HirKind::Class(Class::Unicode(class)) = ungrouped(sub).kind() else { return None };
    let everything = matches!(class.ranges(), [all] if all.start() == '\0' && all.end() == char::MAX);
    everything.then_some(*min as usize)
}

fn literal(hir: &Hir) -> Option<String> {
    match hir.kind() {
        HirKind::Empty => Some(String::new()),
        HirKind::Literal(literal) => String::from_utf8(literal.0.to_vec()).ok(),
        _ => None,
    }
}

fn literal_sequence(parts: &[&Hir]) -> Option<String> {
    parts.iter().map(|part| literal(part)).collect()
}

/// All texts that the pattern matches, if they are few.
fn words(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Empty | HirKind::Literal(_) => Some(vec![literal(hir)?]),
        HirKind::Class(Class::Unicode(class)) => {
            let count: usize = class.ranges().iter().map(|r| r.end() as usize - r.start() as usize + 1).sum();
            let characters = || class.ranges().iter().flat_map(|r| r.start()..=r.end());
            (count <= WORDS_MAX).then(|| characters().map(String::from).collect())
        }
        HirKind::Capture(capture) => words(&capture.sub),
        HirKind::Repetition(Repetition { min: 0, max: Some(1), sub, .. }) => {
            let mut found = words(sub)?;
            found.push(String::new());
            Some(found)
        }
        HirKind::Concat(parts) => words_of_sequence(parts.iter()),
        HirKind::Alternation(choices) => {
            let mut found = Vec::new();
            for choice in choices {
                found.extend(words(choice)?);
                if found.len() > WORDS_MAX {
                    return None;
                }
            }
            Some(found)
        }
        _ => None,
    }
}

fn words_of_sequence<'h>(parts: impl Iterator<Item = &'h Hir>) -> Option<Vec<String>> {
    let mut found = vec![String::new()];
    for part in parts {
        let endings = words(part)?;
        if found.len() * endings.len() > WORDS_MAX {
            return None;
        }
        found = found.iter().flat_map(|start| endings.iter().map(move |end| format!("{start}{end}"))).collect();
    }
    Some(found)
}
