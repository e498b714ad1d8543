//! Errors say what Prometheus says, and point where it points; what is printed is what Prometheus prints.

use promql::{Syntax, parse, parse_selector, parse_with};

#[test]
fn faults_are_named_and_placed() {
    for (query, error) in [
        ("", "unknown position: parse error: no expression found in input"),
        ("1 +", "1:4: parse error: unexpected end of input"),
        ("sum(", "1:5: parse error: unclosed left parenthesis"),
        ("(1))", "1:5: parse error: unexpected right parenthesis ')'"),
        ("foo bar", "1:5: parse error: unexpected identifier \"bar\""),
        ("sum(foo bar)", "1:9: parse error: unexpected identifier \"bar\" in aggregation"),
        ("sum by foo (x)", "1:8: parse error: unexpected identifier \"foo\" in grouping opts, expected \"(\""),
        (
            "sum by (a b) (x)",
            "1:11: parse error: unexpected identifier \"b\" in grouping opts, expected \",\" or \")\"",
        ),
        ("foo{a>\"b\"}", "1:6: parse error: unexpected character inside braces: '>'"),
        (
            "foo{a \"b\"}",
            "1:7: parse error: unexpected string \"\\\"b\\\"\" in label matching, expected label matching operator",
        ),
        ("foo{a=b}", "1:7: parse error: unexpected identifier \"b\" in label matching, expected string"),
        ("foo{", "1:5: parse error: unexpected end of input inside braces"),
        ("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        ("foo{__name__=\"bar\"}", "1:1: parse error: metric name must not be set twice: \"foo\" or \"bar\""),
        ("foo[5x]", "1:5: parse error: bad number or duration syntax: \"5\""),
        ("foo[0m]", "1:5: parse error: duration must be greater than 0"),
        ("foo[5m] offset 1h30", "1:16: parse error: bad number or duration syntax: \"1h30\""),
        (
            "foo offset",
            "1:11: parse error: unexpected end of input in offset, expected number, duration, step(), or range()",
        ),
        ("foo offset 1m[5m]", "1:14: parse error: no offset modifiers allowed before range"),
        ("(foo + bar)[5m]", "1:12: parse error: ranges only allowed for vector selectors"),
        ("rate(foo)", "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector"),
        ("nope(foo)", "1:1: parse error: unknown function with name \"nope\""),
        ("abs(foo, bar)", "1:1: parse error: expected 1 argument(s) in call to \"abs\", got 2"),
        ("abs(foo,)", "1:8: parse error: trailing commas not allowed in function call args"),
        (
            "topk(foo)",
            "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1",
        ),
        ("1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier"),
        ("foo + bool bar", "1:5: parse error: bool modifier can only be used on comparison operators"),
        ("foo and 1", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression"),
        ("foo and on(a) group_left bar", "1:1: parse error: no grouping allowed for \"and\" operation"),
        (
            "foo + on(a) group_left(a) bar",
            "1:5: parse error: label \"a\" must not occur in ON and GROUP clause at once",
        ),
        ("1 + on(a) foo", "1:1: parse error: vector matching only allowed between instant vectors"),
        (
            "-\"text\"",
            "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"string\"",
        ),
        ("foo\n  + \"x", "2:5: parse error: unterminated quoted string"),
        ("foo @ bar", "1:7: parse error: unexpected identifier \"bar\" in @, expected timestamp"),
        (
            "limitk(1, foo)",
            "1:1: parse error: limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
        ),
        ("info(foo)", "1:1: parse error: function \"info\" is not enabled"),
        ("foo[1m+1m]", "1:5: parse error: experimental duration expression is not enabled"),
        ("foo[1m] anchored", "1:1: parse error: anchored modifier is experimental and not enabled"),
        ("a + fill(0) b", "1:1: parse error: binop fill modifiers are experimental and not enabled"),
    ] {
        let got = parse(query).map(|expr| expr.to_string()).map_err(|e| e.to_string());
        assert_eq!(got, Err(error.to_owned()), "{query:?}");
    }
}

#[test]
fn queries_are_printed_in_one_form() {
    for (query, printed) in [
        ("sum(rate(x[5m]))by(job)", "sum by (job) (rate(x[5m]))"),
        ("SUM without(a)(x)", "sum without (a) (x)"),
        ("a+on(x)group_left(y)b", "a + on (x) group_left (y) b"),
        ("x{b='1',a=~\"2\"}offset 90m@7", "x{a=~\"2\",b=\"1\"} @ 7.000 offset 1h30m"),
        ("x[36h:] offset -5m", "x[1d12h:] offset -5m"),
        ("{\"metric.with.dots\",\"label.x\"=\"y\"}", "{\"label.x\"=\"y\",__name__=\"metric.with.dots\"}"),
        ("-x ^ 2 > bool 0x10", "-x ^ 2 > bool 16"),
        ("((1e3))", "((1000))"),
        ("5m", "5m"),
        ("'it\\'s'", "\"it's\""),
    ] {
        assert_eq!(parse(query).unwrap().to_string(), printed, "{query:?}");
    }
    let extended = "rate(x[(5m + step()) * 2] anchored) + fill (0) limitk(2, y)";
    assert_eq!(parse_with(extended, Syntax::EXPERIMENTAL).unwrap().to_string(), extended);
}

#[test]
fn a_selector_is_a_selector_and_nothing_more() {
    assert_eq!(parse_selector("up{job=\"a\"}").unwrap().len(), 2);
    for text in ["up[5m]", "sum(up)", "up offset 5m", "1", ""] {
        assert!(parse_selector(text).is_err(), "{text}");
    }
}
