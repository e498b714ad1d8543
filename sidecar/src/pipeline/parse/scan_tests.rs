//! What is read as JSON, and what is not.

use super::*;
use proptest::prelude::*;

fn pairs(text: &str) -> Option<Vec<(&str, &str, Kind)>> {
    let mut fields = Vec::new();
    object(text, &mut fields).then(|| fields.iter().map(|f| (f.key, f.value, f.kind)).collect())
}

#[test]
fn members_are_slices_of_the_line() {
    let line = r#" { "a" : "x\"y", "b":-1.5e3 ,"c":{"d":[1,{"e":null}]},"f":[],"g":"plain","h":true} "#;
    assert_eq!(
        pairs(line).expect("an object"),
        [
            ("a", r#""x\"y""#, Kind::String { plain: false }),
            ("b", "-1.5e3", Kind::Number),
            ("c", r#"{"d":[1,{"e":null}]}"#, Kind::Object),
            ("f", "[]", Kind::Array),
            ("g", r#""plain""#, Kind::String { plain: true }),
            ("h", "true", Kind::Bool),
        ]
    );
    assert_eq!(pairs("{}"), Some(vec![]));
    assert_eq!(member(line, "f").map(|field| field.value), Some("[]"));
    assert_eq!([member(line, "e"), member("{}", "e"), member("{\"a\":1,}", "e")], [None; 3]);
}

#[test]
fn what_a_strict_reader_refuses_is_refused() {
    for text in [
        "",
        "[]",
        "{",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":+1}",
        "{\"a\":1e}",
        "{\"a\":nul}",
        "{\"a\":[1,]}",
        "{\"a\":[1}",
        "{\"a\":{\"b\"}}",
        "{\"a\":\"\u{1}\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\ud800\\u0041\"}",
        "{\"a\":\"\\udc00\"}",
        "{\"a\":1e400}",
        "{} x",
        "{\"a\":1}}",
    ] {
        assert_eq!(pairs(text), None, "{text}");
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(101), "]".repeat(101));
    assert_eq!(pairs(&deep), None);
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "\\PC{0,9}".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::hash_map("\\PC{0,5}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_serde_writes_is_read(value in any_json()) {
        let line = serde_json::json!({"v": value}).to_string();
        prop_assert!(pairs(&line).is_some(), "{}", line);
    }

    #[test]
    fn whatever_is_taken_serde_reads(text in "[{}\\[\\]\":,a0-9eE+.\\\\u \\-tnf]{0,40}") {
        if pairs(&text).is_some() {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
        }
    }
}
