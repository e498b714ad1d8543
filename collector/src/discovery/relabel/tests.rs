use super::*;
use telemetry::Labels;

fn rules(yaml: &str) -> Vec<Rule> {
    serde_saphyr::from_str(yaml).expect(yaml)
}

fn refused(yaml: &str) -> String {
    serde_saphyr::from_str::<Rule>(yaml).expect_err(yaml).without_snippet().to_string()
}

fn labels(text: &str) -> Labels {
    text.split_terminator(',').map(|pair| pair.split_once('=').expect("name=value")).collect()
}

/// What is left of the labels, or "dropped".
fn relabelled(yaml: &str, input: &str) -> String {
    let mut builder = labels(input).to_builder();
    if !apply(&rules(yaml), &mut builder) {
        return "dropped".to_owned();
    }
    let pairs: Vec<String> = builder.iter().map(|(n, v)| format!("{n}={v}")).collect();
    pairs.join(",")
}

#[test]
fn every_action_does_what_prometheus_does() {
    for (yaml, input, expected) in [
        // replace
        (
            "[{source_labels: [a], regex: 'f(.*)', target_label: d, replacement: 'ch${1}-ch${1}'}]",
            "a=foo",
            "a=foo,d=choo-choo",
        ),
        (
            "[{source_labels: [a, b], regex: 'f(.*);(.*)r', target_label: a, replacement: 'b${1}${2}m'}]",
            "a=foo,b=bar",
            "a=boobam,b=bar",
        ),
        ("[{source_labels: [a, b], separator: '/', target_label: c}]", "a=x,b=y", "a=x,b=y,c=x/y"),
        ("[{source_labels: [a], regex: f, target_label: b, replacement: bar}]", "a=boo", "a=boo"),
        ("[{target_label: env, replacement: prod}]", "a=1", "a=1,env=prod"),
        ("[{target_label: a, replacement: ''}]", "a=1,b=2", "b=2"),
        ("[{source_labels: [missing], target_label: a}]", "a=1,b=2", "b=2"),
        (
            "[{source_labels: [a], regex: 'some-([^-]+)-([^,]+)', target_label: '${1}', replacement: '${2}'}]",
            "a=some-name-value",
            "a=some-name-value,name=value",
        ),
        (
            "[{source_labels: [a], regex: 'some-([^-]+)-([^,]+)', target_label: '${3}', replacement: '${1}'}]",
            "a=some-name-0",
            "a=some-name-0",
        ),
        ("[{source_labels: [a], regex: '(.*)', target_label: b, replacement: '$1x'}]", "a=1", "a=1"),
        ("[{source_labels: [a], regex: '(.*)', target_label: b, replacement: '$$'}]", "a=1", "a=1,b=$"),
        ("[{source_labels: [a], regex: 'x.y', target_label: b, replacement: 'z'}]", "a=x\ny", "a=x\ny,b=z"),
        // keep and drop are anchored
        ("[{source_labels: [a], regex: 'f.*', action: keep}]", "a=foo", "a=foo"),
        ("[{source_labels: [a], regex: 'fo', action: keep}]", "a=foo", "dropped"),
        ("[{source_labels: [a], regex: 'f|o', action: drop}]", "a=foo", "a=foo"),
        ("[{source_labels: [a], regex: '.*o.*', action: drop}]", "a=foo", "dropped"),
        ("[{source_labels: [a], regex: '', action: keep}]", "b=1", "b=1"),
        // keepequal and dropequal
        ("[{source_labels: [a], target_label: b, action: keepequal}]", "a=1,b=1", "a=1,b=1"),
        ("[{source_labels: [a], target_label: b, action: keepequal}]", "a=1,b=2", "dropped"),
        ("[{source_labels: [a], target_label: b, action: dropequal}]", "a=1,b=1", "dropped"),
        ("[{source_labels: [a], target_label: b, action: dropequal}]", "a=1,b=2", "a=1,b=2"),
        // hashmod: numbers from Prometheus' own tests
        ("[{source_labels: [c], target_label: d, modulus: 1000, action: hashmod}]", "c=baz", "c=baz,d=976"),
        ("[{source_labels: [c], target_label: d, modulus: 1000, action: HashMod}]", "c=foo\nbar", "c=foo\nbar,d=734"),
        // labelmap, labeldrop, labelkeep
        (
            "[{regex: '(b.*)', replacement: 'bar_${1}', action: labelmap}]",
            "a=1,b1=2,b2=3",
            "a=1,b1=2,b2=3,bar_b1=2,bar_b2=3",
        ),
        ("[{regex: '__meta_(my.*)', action: labelmap}]", "__meta_my_x=1,__meta_y=2", "__meta_my_x=1,__meta_y=2,my_x=1"),
        ("[{regex: 'b.*', action: labeldrop}]", "a=1,b1=2,b2=3", "a=1"),
        ("[{regex: 'b.*', action: labelkeep}]", "a=1,b1=2,b2=3", "b1=2,b2=3"),
        // lowercase and uppercase
        ("[{source_labels: [a], target_label: a, action: lowercase}]", "a=bAr1", "a=bar1"),
        ("[{source_labels: [a], target_label: b, action: uppercase}]", "a=bAr1", "a=bAr1,b=BAR1"),
        // in order, and a drop ends it
        ("[{source_labels: [a], target_label: b}, {source_labels: [b], regex: '1', action: keep}]", "a=1", "a=1,b=1"),
        ("[{action: labeldrop, regex: a}, {source_labels: [a], regex: '.+', action: keep}]", "a=1", "dropped"),
        ("[]", "a=1", "a=1"),
    ] {
        assert_eq!(relabelled(yaml, input), expected, "{yaml} on {input:?}");
    }
}

#[test]
fn a_rule_that_cannot_work_is_refused_with_the_reason() {
    for (yaml, expected) in [
        ("{action: replace}", "relabel configuration for replace action requires 'target_label' value"),
        ("{action: lowercase}", "relabel configuration for lowercase action requires 'target_label' value"),
        ("{action: lowercase, target_label: '${3}'}", r#""${3}" is invalid 'target_label' for lowercase action"#),
        ("{target_label: '0${3}'}", r#""0${3}" is invalid 'target_label' for replace action"#),
        ("{target_label: '-label'}", r#""-label" is invalid 'target_label' for replace action"#),
        ("{action: hashmod, target_label: a}", "relabel configuration for hashmod requires non-zero modulus"),
        ("{action: labelmap, replacement: '-'}", r#""-" is invalid 'replacement' for labelmap action"#),
        (
            "{action: labeldrop, source_labels: [a], regex: b}",
            "labeldrop action requires only 'regex', and no other fields",
        ),
        (
            "{action: keepequal, source_labels: [a], target_label: b, regex: c}",
            "keepequal action requires only 'source_labels' and `target_label`, and no other fields",
        ),
        ("{action: uppercase, target_label: b, replacement: c}", "'replacement' can not be set for uppercase action"),
        ("{action: rename}", r#"unknown relabel action "rename""#),
        ("{source_labels: [a], regex: '(', action: keep}", r#"invalid regular expression "(""#),
        ("{source_label: [a], action: keep}", "source_label"),
    ] {
        let message = refused(yaml);
        assert!(message.contains(expected), "{yaml}: {message}");
    }
}

#[test]
fn target_labels_may_be_built_from_captures() {
    for (name, valid) in [
        ("label", true),
        ("label${1}", true),
        ("${1}label", true),
        ("$1", true),
        ("asd$2asd", true),
        ("_${1}_", true),
        ("foo${bar}foo", true),
        ("-label", false),
        ("${", false),
        ("$", false),
        ("${}", false),
        ("foo${", false),
        ("-foo${1}bar-", false),
    ] {
        let rule = serde_saphyr::from_str::<Rule>(&format!("{{target_label: '{name}'}}"));
        assert_eq!(rule.is_ok(), valid, "{name}");
    }
}
