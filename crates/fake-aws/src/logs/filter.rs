//! Filter patterns of FilterLogEvents: terms, `"phrases"`, `?any ?of`, `-without`, and `{ $.member = value }`.
//!
//! A pattern of another form is refused rather than matched wrongly.

use serde_json::Value;

#[derive(Debug, PartialEq)]
pub(super) enum Filter {
    Terms { all: Vec<String>, any: Vec<String>, none: Vec<String> },
    Json { path: Vec<String>, operator: Operator, value: String },
}

#[derive(Debug, PartialEq, Clone, Copy)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    Greater,
    LessOrEqual,
    GreaterOrEqual,
}

const OPERATORS: [(&str, Operator); 6] = [
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("=", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

impl Filter {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        match text.strip_prefix('{') {
            Some(rest) => Self::parse_json(rest.strip_suffix('}').ok_or("a brace is not closed")?.trim()),
            None => Self::parse_terms(text),
        }
    }

    fn parse_json(text: &str) -> Result<Self, String> {
        if text.contains("&&") || text.contains("||") {
            return Err("conditions joined by && or || are not supported here".to_owned());
        }
        let found = OPERATORS.iter().find_map(|(sign, operator)| Some((text.split_once(sign)?, *operator)));
        let ((path, value), operator) = found.ok_or("a condition needs an operator")?;
        let path = path.trim().strip_prefix("$.").ok_or("a selector begins with $.")?;
        Ok(Filter::Json {
            path: path.split('.').map(str::to_owned).collect(),
            operator,
            value: value.trim().trim_matches('"').to_owned(),
        })
    }

    fn parse_terms(text: &str) -> Result<Self, String> {
        let (mut all, mut any, mut none) = (Vec::new(), Vec::new(), Vec::new());
        let mut rest = text;
        while !rest.is_empty() {
            let (into, after) = match rest.as_bytes()[0] {
                b'?' => (&mut any, &rest[1..]),
                b'-' => (&mut none, &rest[1..]),
                _ => (&mut all, rest),
            };
            let (term, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').ok_or("a quote is not closed")?,
                None => after.split_once(' ').unwrap_or((after, "")),
            };
            into.push(term.to_owned());
            rest = after.trim_start();
        }
        Ok(Filter::Terms { all, any, none })
    }

    pub(super) fn matches(&self, message: &str) -> bool {
        match self {
            Filter::Terms { all, any, none } => {
                all.iter().all(|t| message.contains(t))
                    && (any.is_empty() || any.iter().any(|t| message.contains(t)))
                    && !none.iter().any(|t| message.contains(t))
            }
            Filter::Json { path, operator, value } => {
                let Ok(json) = serde_json::from_str::<Value>(message) else { return false };
                let member = path.iter().try_fold(&json, |json, name| json.get(name));
                member.is_some_and(|member| compare(member, *operator, value))
            }
        }
    }
}

fn compare(member: &Value, operator: Operator, value: &str) -> bool {
    let text = member.as_str().map_or_else(|| member.to_string(), str::to_owned);
    if matches!(operator, Operator::Equal | Operator::NotEqual) {
        let equal = match value.strip_suffix('*') {
            Some(prefix) => text.starts_with(prefix),
            None => text == value,
        };
        return equal == (operator == Operator::Equal);
    }
    let (Some(left), Ok(right)) = (member.as_f64(), value.parse::<f64>()) else { return false };
    match operator {
        Operator::Less => left < right,
        Operator::Greater => left > right,
        Operator::LessOrEqual => left <= right,
        Operator::GreaterOrEqual => left >= right,
        Operator::Equal | Operator::NotEqual => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_documented() {
        let message = r#"{"level":"error","duration_ms":120,"data":{"order":"A-1"},"message":"card refused"}"#;
        for (pattern, expected) in [
            ("", true),
            ("card error", true),
            ("card warning", false),
            ("\"card refused\"", true),
            ("?warning ?refused", true),
            ("?warning ?info", false),
            ("card -refused", false),
            ("{ $.level = \"error\" }", true),
            ("{ $.level != \"error\" }", false),
            ("{ $.duration_ms >= 120 }", true),
            ("{ $.duration_ms < 120 }", false),
            ("{ $.data.order = \"A-*\" }", true),
            ("{ $.data.missing = 1 }", false),
        ] {
            assert_eq!(Filter::parse(pattern).expect(pattern).matches(message), expected, "{pattern}");
        }
        assert!(Filter::parse("{ $.a = 1 && $.b = 2 }").is_err());
    }
}
