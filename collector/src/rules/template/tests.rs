use super::*;

fn globals() -> Globals {
    Globals {
        external_url: Url::parse("http://picket.example:9090/collector").expect("a URL"),
        external_labels: Labels::from_pairs([("region", "eu-1")]),
    }
}

fn expand(text: &str, value: f64) -> String {
    expand_with(text, value, &BTreeMap::new())
}

fn expand_with(text: &str, value: f64, answers: &BTreeMap<String, QueryAnswer>) -> String {
    let labels = Labels::from_pairs([("instance", "10.0.0.1:9464"), ("service", "order")]);
    let outcome = Template::parse("test", text, &globals())
        .and_then(|template| template.expand(&Data { labels: &labels, value, histogram: None }, answers));
    match outcome {
        Ok(Expansion::Done(text)) => text,
        Ok(Expansion::NeedsQuery(query)) => format!("needs {query}"),
        Err(error) => format!("error: {error}"),
    }
}

/// The expectations are those of prometheus template/template_test.go where it has the case.
#[test]
fn prometheus_functions_answer_as_prometheus_does() {
    for (text, value, expected) in [
        ("plain text", 1.0, "plain text"),
        ("{{ $labels.service }} at {{ $value }}", 0.1, "order at 0.1"),
        ("{{ .Labels.service }} {{ .Value }}", 1e6, "order 1e+06"),
        ("[{{ $labels.absent }}]", 1.0, "[]"),
        ("{{ if $labels.absent }}yes{{ else }}no{{ end }}", 1.0, "no"),
        ("{{ eq $labels.absent \"\" }}", 1.0, "true"),
        (
            "{{ $externalLabels.region }} {{ externalURL }} {{ pathPrefix }} {{ $externalURL }}",
            1.0,
            "eu-1 http://picket.example:9090/collector /collector http://picket.example:9090/collector",
        ),
        ("{{ range $n, $v := $labels }}{{ $n }}={{ $v }};{{ end }}", 1.0, "instance=10.0.0.1:9464;service=order;"),
        ("{{ $value | humanize }}", 1_234_567.0, "1.235M"),
        ("{{ humanize $value }}", 0.000_12, "120u"),
        ("{{ $value | humanize }}", 0.0, "0"),
        ("{{ $value | humanize1024 }}", 1_048_576.0, "1Mi"),
        ("{{ $value | humanizeDuration }}", 899.99, "14m 59s"),
        ("{{ $value | humanizeDuration }}", 9_007_199.0, "104d 5h 59m 59s"),
        ("{{ $value | humanizeDuration }}", 0.1, "100ms"),
        ("{{ $value | humanizeDuration }}", -86_400.0, "-1d 0h 0m 0s"),
        ("{{ $value | humanizePercentage }}", 0.1, "10%"),
        ("{{ $value | humanizePercentage }}", 0.012_34, "1.234%"),
        ("{{ $value | humanizeTimestamp }}", 1_435_065_584.128, "2015-06-23 13:19:44.128 +0000 UTC"),
        ("{{ \"aa bb CC\" | title }}{{ \"aa\" | toUpper }}{{ \"AA\" | toLower }}", 1.0, "Aa Bb CCAAaa"),
        ("{{ match \"a+\" \"aa\" }}", 1.0, "true"),
        ("{{ reReplaceAll \"(a)b\" \"x$1\" \"ab\" }}", 1.0, "xa"),
        ("{{ $labels.instance | stripPort }}", 1.0, "10.0.0.1"),
        ("{{ \"foo.example.com:12345\" | stripDomain }} {{ \"192.0.2.1\" | stripDomain }}", 1.0, "foo:12345 192.0.2.1"),
        ("{{ parseDuration \"1h30m\" }}", 1.0, "5400"),
        ("{{ graphLink \"up == 1\" }}", 1.0, "/graph?g0.expr=up+%3D%3D+1&g0.tab=0"),
        ("{{ with $x := args 1 \"b\" }}{{ $x.arg1 }}{{ end }}", 1.0, "b"),
        ("{{ printf \"%.2f\" $value }} {{ print $value }}", 1e6, "1000000.00 1e+06"),
        ("{{ define \"d\" }}<{{ . }}>{{ end }}{{ template \"d\" $value }}", 2.0, "<2>"),
        ("{{ define \"order\" }}<{{ . }}>{{ end }}{{ tmpl $labels.service $value | toUpper }}", 2.0, "<2>"),
    ] {
        assert_eq!(expand(text, value), expected, "{text}");
    }
}

#[test]
fn mistakes_are_found_when_the_template_is_parsed() {
    for (text, expected) in [
        ("{{ nosuch 1 }}", "error: function \"nosuch\" not defined"),
        ("{{ $nosuch }}", "error: undefined variable \"$nosuch\""),
        ("{{ if true }}{{ $x := 1 }}{{ end }}{{ $x }}", "error: undefined variable \"$x\""),
    ] {
        assert_eq!(expand(text, 1.0), expected);
    }
    let unknown = expand("{{ tmpl $labels.service 1 }}", 1.0);
    assert!(unknown.starts_with("error: ") && unknown.contains("order"), "{unknown}");
    let endless = expand("{{ define \"x\" }}{{ tmpl \"x\" . }}{{ end }}{{ tmpl \"x\" 1 }}", 1.0);
    assert!(endless.contains("calls itself more than 16 times"), "{endless}");
    assert!(expand("{{ $labels.service ", 1.0).starts_with("error: "), "an unclosed action is refused");
}

#[test]
fn a_query_is_asked_for_and_then_used() {
    let text = r#"{{ range query "up" | sortByLabel "i" }}{{ label "i" . }}={{ value . }} {{ end }}{{ with query "gone" }}x{{ else }}none{{ end }}"#;
    assert_eq!(expand(text, 1.0), "needs up");
    let sample = |i: &str, value: f64| VectorSample {
        labels: Labels::from_pairs([("i", i)]),
        timestamp: telemetry::Timestamp(0),
        value,
        histogram: None,
    };
    let up = vec![sample("b", 1.0), sample("a", 0.0)];
    let mut answers = BTreeMap::from([("up".to_owned(), Ok(up))]);
    assert_eq!(expand_with(text, 1.0, &answers), "needs gone");
    answers.insert("gone".to_owned(), Ok(Vec::new()));
    assert_eq!(expand_with(text, 1.0, &answers), "a=0 b=1 none");
    answers.insert("gone".to_owned(), Err("too many samples".to_owned()));
    assert!(expand_with(text, 1.0, &answers).contains("too many samples"));
}
