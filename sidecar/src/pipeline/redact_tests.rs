//! What is struck out, and what stays.

use super::*;
use proptest::prelude::*;

fn redact(text: &str, patterns: Patterns) -> Option<(String, usize)> {
    super::redact(text.as_bytes(), patterns).map(|(text, count)| (String::from_utf8(text).expect("UTF-8"), count))
}

#[test]
fn values_of_secret_keys_are_struck_out_and_nothing_else() {
    for (text, expected) in [
        (r#"{"password":"hunter2","user":"u1"}"#, r#"{"password":"[redacted]","user":"u1"}"#),
        (r#"{"a":{"Set-Cookie": "s=1; x=\"y\"; Secure"}}"#, r#"{"a":{"Set-Cookie": "[redacted]"}}"#),
        (r#"{"access_token":12345,"b":1}"#, r#"{"access_token":"[redacted]","b":1}"#),
        (r#"{"token":{"id":"}","v":[1]},"b":1}"#, r#"{"token":"[redacted]","b":1}"#),
        (r#"{"message":"login password=hunter2 ok"}"#, r#"{"message":"login password=[redacted] ok"}"#),
        (r#"{"message":"{\"token\":\"abc\"} x"}"#, r#"{"message":"{\"token\":\"[redacted]\"} x"}"#),
        ("GET / Authorization: Bearer abc.def x", "GET / Authorization: Bearer [redacted] x"),
        ("?api_key=k&page=2", "?api_key=[redacted]&page=2"),
        ("X-Api-Key: k1, Cookie: a=b", "X-Api-Key: [redacted], Cookie: [redacted]"),
    ] {
        assert_eq!(redact(text, Patterns::default()).map(|(text, _)| text).as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn an_empty_value_at_the_end_of_a_json_string_does_not_reach_into_the_next() {
    let line = r#"{"message":"ERROR password=","service":"order","password": "x"}"#;
    let struck = r#"{"message":"ERROR password=","service":"order","password": "[redacted]"}"#;
    assert_eq!(redact(line, Patterns::default()), Some((struck.to_owned(), 1)));
}

#[test]
fn secrets_are_known_by_their_looks() {
    let all = Patterns { email: true, ..Patterns::default() };
    for (text, expected) in [
        ("jwt eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.SflKxwRJSMeKKF2QT4f end", "jwt [redacted] end"),
        ("key AKIAIOSFODNN7EXAMPLE.", "key [redacted]."),
        ("paid with 4111 1111 1111 1111", "paid with [redacted]"),
        (r#"{"card":"4111-1111-1111-1111","b":1}"#, r#"{"card":"[redacted]","b":1}"#),
        (r#"{"card":"378282246310005"}"#, r#"{"card":"[redacted]"}"#),
        ("write to eve.x+y@mail.example.com.", "write to [redacted]."),
    ] {
        assert_eq!(redact(text, all).map(|(text, _)| text).as_deref(), Some(expected), "{text}");
    }
    for text in [
        r#"{"time":1705314600123456789,"n":4111111111111111}"#,
        "4111111111111112 has the wrong check digit",
        "id-4111111111111111-x",
        "eyJ is how they begin",
        "user@host and a@b",
    ] {
        assert_eq!(redact(text, all), None, "{text}");
    }
    assert_eq!(redact("eve@example.com", Patterns::default()), None, "by choice");
}

#[test]
fn an_escape_before_a_secret_is_no_part_of_it() {
    let all = Patterns { email: true, ..Patterns::default() };
    let card = "4111111111111111";
    for (secret, name) in [("eve@example.com", "e-mail"), (card, "card"), ("AKIAIOSFODNN7EXAMPLE", "key")] {
        for before in ["two\nlines\n", "\t", "\u{1}", "\u{1}\u{11}", "a \\ ", "", "\"", "\r\n"] {
            let line = serde_json::json!({"message": format!("{before}{secret} x")}).to_string();
            let (struck, count) = redact(&line, all).unwrap_or_else(|| panic!("{name} in {line}"));
            let json: serde_json::Value = serde_json::from_str(&struck).unwrap_or_else(|e| panic!("{e}: {struck}"));
            assert_eq!(json["message"], format!("{before}{REDACTED} x"), "{name}");
            assert_eq!(count, 1);
        }
        // An escaped backslash escapes nothing, and what stands behind it is text.
        let line = serde_json::json!({"message": format!("\\n{secret}")}).to_string();
        let struck = redact(&line, all).map_or(line, |(struck, _)| struck);
        assert!(serde_json::from_str::<serde_json::Value>(&struck).is_ok(), "{struck}");
    }
}

#[test]
fn harmless_lines_stay_as_they_are() {
    for text in [
        r#"{"token_count":3,"message":"no secrets: here","tokens":5}"#,
        "the password was wrong",
        "password=",
        r#"{"password":""}"#,
        r#"{"token_":"x","ten":"x","ticket":"x","cookies":"x"}"#,
        "",
    ] {
        assert_eq!(redact(text, Patterns::default()), None, "{text}");
    }
}

proptest! {
    #[test]
    fn every_separator_is_found(text in "[:=a-z]{0,200}") {
        let mut found = Vec::new();
        glance(text.as_bytes(), Patterns::default(), |at| found.push(at));
        let wanted: Vec<usize> = text.match_indices([':', '=']).map(|(at, _)| at).collect();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn the_glance_sees_every_run_of_digits(text in "[0-9 -]{0,20}[a-z.]{0,3}[0-9 -]{0,20}[a-z]{0,20}[0-9 -]{0,20}") {
        let longest = text.split(|c: char| c.is_ascii_lowercase() || c == '.').map(str::len).max().unwrap_or(0);
        // Across blocks too.
        for before in [0, 40, 50, 60] {
            let text = "x".repeat(before) + &text;
            prop_assert_eq!(glance(text.as_bytes(), Patterns::default(), |_| ()), longest >= CARD_DIGITS_MIN as usize);
        }
    }

    #[test]
    fn the_glance_sees_every_beginning_of_a_token(text in "([a-zA-Z ]{0,70}(eyJ|AKI|ASI|yJ|AK|SI)?){0,3}") {
        let has = ["eyJ", "AKI", "ASI"].iter().any(|mark| text.contains(mark));
        prop_assert_eq!(glance(text.as_bytes(), Patterns::default(), |_| ()), has);
    }

    #[test]
    fn any_text_is_survived_and_json_stays_json(value in "\\PC*", secret in "\\PC+") {
        let line = serde_json::json!({"message": value, "password": secret}).to_string();
        let patterns = Patterns { email: true, ..Patterns::default() };
        let (redacted, _) = redact(&line, patterns).expect("there is a password");
        let json: serde_json::Value = serde_json::from_str(&redacted).expect("still JSON");
        prop_assert_eq!(&json["password"], REDACTED);
        drop(redact(&value, Patterns { email: true, ..Patterns::default() }));
    }
}
