use proptest::prelude::*;

use super::*;

fn regex(pattern: &str) -> Matcher {
    Matcher::new("l", MatchOp::Regex, pattern).unwrap_or_else(|e| panic!("{pattern}: {e:?}"))
}

fn plan(pattern: &str) -> String {
    match regex(pattern).plan.unwrap() {
        Plan::Automaton(_) => "automaton".to_owned(),
        plan => format!("{plan:?}"),
    }
}

#[test]
fn patterns_match_as_in_prometheus() {
    for (pattern, matched, unmatched) in [
        ("", &[""][..], &["a"][..]),
        ("foo", &["foo"], &["", "foobar", "xfoo", "Foo"]),
        ("foo|bar", &["foo", "bar"], &["foobar", "foo|bar", ""]),
        ("(foo|bar)baz?", &["fooba", "barbaz"], &["foo", "foobazz"]),
        (".*", &["", "a", "a\nb"], &[]),
        (".+", &["a", "\n"], &[""]),
        ("foo.*", &["foo", "foo\nbar"], &["fo", "xfoo"]),
        ("foo.+", &["foox", "fooé"], &["foo"]),
        (".*foo", &["foo", "xfoo"], &["foox"]),
        ("a.*a", &["aa", "aba"], &["a", "ab"]),
        (".*foo.*", &["foo", "xfoox"], &["fo", ""]),
        ("^foo$", &["foo"], &["foox", "^foo$"]),
        ("(?i)foo", &["FOO", "foO"], &["fo"]),
        ("(?i:user)-[0-9]", &["USER-1"], &["user-x"]),
        ("5..", &["500", "5\n0"], &["50", "5000"]),
        ("(?-s:a.b)", &["axb"], &["a\nb"]),
        (r"\d+", &["42"], &["٤٢", ""]),
        (r"\w+", &["a_1"], &["é", "a-b"]),
        (r"\W", &["é", "-"], &["a"]),
        (r"a\sb", &["a b", "a\tb"], &["a\u{a0}b", "a\u{b}b"]),
        (r"[\d.]+", &["1.2"], &["1,2", "٤"]),
        (r"[^\s]+", &["ab"], &["a b"]),
        (r"[\D]", &["a"], &["1"]),
        ("[[a]", &["[", "a"], &["b"]),
        ("[a&&b]", &["a", "&", "b"], &["c"]),
        ("[]a]", &["]", "a"], &["b"]),
        ("[^]a]", &["b"], &["]", "a"]),
        ("[+--]", &["+", ",", "-"], &["a"]),
        ("[a-]", &["a", "-"], &["b"]),
        ("[[:alpha:]_]+", &["a_b"], &["1"]),
        ("[[:^digit:]]", &["a"], &["1"]),
        (r"\Qa.b\E+", &["a.b", "a.bb"], &["axb"]),
        (r"\Q.*", &[".*"], &["a"]),
        ("a{2,3}", &["aa", "aaa"], &["a", "aaaa"]),
        ("a{,2}", &["a{,2}"], &["a", "aa"]),
        ("{foo}", &["{foo}"], &["foo"]),
        (r"\pL+", &["é"], &["1"]),
        (r"\p{^Greek}", &["a"], &["α"]),
        (r"\x41\x{42}\103", &["ABC"], &["abc"]),
        (r"a\.b\-c\_d", &["a.b-c_d"], &["axb-c_d"]),
        (r"\<a\>", &["<a>"], &["a"]),
        (r"\bfoo\b.*", &["foo bar", "foo"], &["foobar"]),
        (r".*\B-", &["--"], &["a-"]),
        ("(?P<x>a)(?<y>b)", &["ab"], &["a"]),
        ("a||b", &["", "a", "b"], &["c"]),
        ("()", &[""], &["a"]),
        ("x*?y", &["y", "xxy"], &["x"]),
        ("foo\nbar", &["foo\nbar"], &["foobar"]),
    ] {
        let (positive, negative) = (regex(pattern), Matcher::new("l", MatchOp::NotRegex, pattern).unwrap());
        for value in matched {
            assert!(positive.matches(value) && !negative.matches(value), "{pattern:?} must match {value:?}");
        }
        for value in unmatched {
            assert!(!positive.matches(value) && negative.matches(value), "{pattern:?} must not match {value:?}");
        }
    }
}

#[test]
fn what_re2_refuses_is_refused() {
    for pattern in [
        "(",
        ")",
        "[",
        "[a",
        "a**",
        "a+*",
        "a{1}{2}",
        "*",
        "+a",
        "a{1001}",
        "(?x)a b",
        "(?u)a",
        r"\",
        r"\y",
        r"\1",
        r"\8",
        "[b-a]",
        r"[a-\d]",
        r"\pX{Nope",
        "(?P<a>x",
        r"\x{110000}",
        r"\xg1",
        "(?=a)",
        r"\é",
        "[[:nope:]]",
        "a)|(b",
        "a)(?i)|(b",
    ] {
        let error = Matcher::new("l", MatchOp::Regex, pattern);
        assert!(error.is_err(), "{pattern:?} is no RE2 pattern");
    }
}

#[test]
fn simple_patterns_need_no_automaton() {
    for (pattern, expected) in [
        (".*", "Anything"),
        ("(.*)", "Anything"),
        ("^.*$", "Anything"),
        (".+", "Something"),
        ("foo", r#"Words(["foo"])"#),
        ("^foo$", r#"Words(["foo"])"#),
        ("foo|bar|foo", r#"Words(["bar", "foo"])"#),
        ("(?:prod|dev)-(?:a|b)", r#"Words(["dev-a", "dev-b", "prod-a", "prod-b"])"#),
        ("[45]00", r#"Words(["400", "500"])"#),
        ("order.*", r#"Affixes { prefix: "order", suffix: "", between_min: 0 }"#),
        ("order.+s", r#"Affixes { prefix: "order", suffix: "s", between_min: 1 }"#),
        (".*order.*", r#"Contains("order")"#),
        ("(?i)abc", r#"Words(["ABC", "ABc", "AbC", "Abc", "aBC", "aBc", "abC", "abc"])"#),
        ("5..", "automaton"),
        ("a.*b.*", "automaton"),
        ("(?-s:.*)", "automaton"),
        ("(?i)a long text that has too many forms", "automaton"),
    ] {
        assert_eq!(plan(pattern), expected, "{pattern}");
    }
    let words = |m: Matcher| m.words().map(|words| words.map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(words(regex("b|a")), Some(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(words(Matcher::equal("l", "x|y")), Some(vec!["x|y".to_owned()]));
    assert_eq!(words(regex("a.*")), None);
    assert_eq!(regex("a.*").prefix(), "a");
}

#[test]
fn matchers_are_printed_as_prometheus_prints_them() {
    assert_eq!(regex("a\\.b\n").to_string(), r#"l=~"a\\.b\n""#);
    assert_eq!(Matcher::new("b.c", MatchOp::NotEqual, "é\"").unwrap().to_string(), r#""b.c"!="é\"""#);
}

proptest! {
    #[test]
    fn every_plan_agrees_with_the_automaton(
        pattern in "((a|b|ab)?(\\.\\*|\\.\\+|c|\\(a\\|bc\\)|\\[ab\\]|a\\?|\\|){0,3}(a|b)?)",
        values in prop::collection::vec("[abc\n]{0,4}", 12),
    ) {
        let automaton = anchored(&pattern).unwrap();
        let planned = regex(&pattern);
        for value in values {
            prop_assert_eq!(planned.matches(&value), automaton.is_match(&value), "{:?} on {:?}", pattern, value);
        }
    }

    #[test]
    fn no_pattern_makes_the_translation_panic(pattern in ".{0,20}", punctuated in "[\\[\\](){}\\\\^$|*+?.,:a1QEpx-]{0,15}") {
        let _ = anchored(&pattern);
        let _ = anchored(&punctuated);
    }
}
