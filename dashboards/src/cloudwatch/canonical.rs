//! One text per meaning: what AWS returns is compared with what we would publish by this form.

use std::collections::BTreeMap;

use serde_json::Value;

/// The text is no JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotJson {
    pub message: String,
}

impl std::fmt::Display for NotJson {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the dashboard body is not JSON: {}", self.message)
    }
}

impl std::error::Error for NotJson {}

/// Keys sorted, no white space, numbers with the same value written the same way.
///
/// # Errors
/// When `body` is not JSON.
pub fn canonical(body: &str) -> Result<String, NotJson> {
    let value: Value = serde_json::from_str(body).map_err(|error| NotJson { message: error.to_string() })?;
    Ok(write(&value))
}

pub(super) fn write(value: &Value) -> String {
    let mut out = String::new();
    write_into(value, &mut out);
    out
}

fn write_into(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_into(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            // Sorted here: whether serde_json's own map is sorted depends on a feature that any crate may switch.
            let members: BTreeMap<&String, &Value> = members.iter().collect();
            out.push('{');
            for (index, (key, value)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write_into(value, out);
            }
            out.push('}');
        }
        Value::Number(number) => match whole(number) {
            Some(whole) => out.push_str(&whole.to_string()),
            None => out.push_str(&number.to_string()),
        },
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// `80.0` and `80` are the same number to CloudWatch.
fn whole(number: &serde_json::Number) -> Option<i64> {
    /// Beyond 2^53 a float no longer names one integer.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let value = number.as_f64()?;
    (value.fract() == 0.0 && value.abs() < EXACT_MAX).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_keys_space_and_trailing_zeroes_make_no_difference() {
        let ours = canonical(r#"{"b":[1,2.50],"a":{"y":80.0,"x":"é \" /"}}"#).unwrap();
        let theirs = canonical("{ \"a\": {\"x\": \"\\u00e9 \\\" \\/\", \"y\": 80},\n\"b\": [1.0, 2.5] }").unwrap();
        assert_eq!(ours, theirs);
        assert_eq!(ours, r#"{"a":{"x":"é \" /","y":80},"b":[1,2.5]}"#);
    }

    #[test]
    fn order_of_items_makes_a_difference() {
        assert_ne!(canonical("[1,2]"), canonical("[2,1]"));
    }
}
