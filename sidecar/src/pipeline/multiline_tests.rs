//! Traces as the languages' own runtimes print them.

use super::*;

/// The events that these lines make, under this rule.
fn events(rule: Rule, text: &str) -> Vec<String> {
    let mut multiline = Multiline::new(rule);
    let mut events = Vec::new();
    for line in text.lines() {
        let (done, own) = multiline.add(line.as_bytes(), Timestamp(1), None);
        events.extend(done.into_iter().chain(own).map(|e| String::from_utf8(e.text).expect("UTF-8")));
    }
    events.extend(multiline.take().map(|e| String::from_utf8(e.text).expect("UTF-8")));
    events
}

const JAVA: &str = "\
2024-01-15 10:30:00 ERROR order failed
java.lang.IllegalStateException: not paid
\tat com.example.Order.pay(Order.java:42)
\tat com.example.Main.main(Main.java:7)
\tSuppressed: java.io.IOException: closed
\t\tat com.example.Order.close(Order.java:50)
Caused by: java.sql.SQLException: timeout
\tat com.example.Db.query(Db.java:9)
\t... 2 more";

const PYTHON: &str = "\
Traceback (most recent call last):
  File \"/app/main.py\", line 3, in <module>
    pay()
    ~~~^^
ValueError: not paid

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File \"/app/main.py\", line 5, in <module>
    raise app.errors.Refused
app.errors.Refused";

const GO: &str = "\
panic: runtime error: index out of range [5] with length 3

goroutine 1 [running]:
main.pay(...)
\t/app/main.go:8
main.main()
\t/app/main.go:12 +0x1d
exit status 2";

const NODE: &str = "\
Error: not paid
    at pay (/app/index.js:1:7)
    at Object.<anonymous> (/app/index.js:5:1) {
  code: 'E_PAID',
  [cause]: 'x'
}";

const RUBY: &str = "\
/app/main.rb:2:in `pay': not paid (RuntimeError)
\tfrom /app/main.rb:5:in `<main>'";

const RUST: &str = "\
thread 'main' panicked at src/main.rs:4:5:
index out of bounds: the len is 3 but the index is 5
stack backtrace:
   0: rust_begin_unwind
             at /rustc/x/library/std/src/panicking.rs:652:5
   1: core::panicking::panic_fmt
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace";

#[test]
fn a_trace_is_one_event_between_lines_that_are_their_own() {
    for (rule, trace) in [
        (Rule::Java, JAVA),
        (Rule::Python, PYTHON),
        (Rule::Go, GO),
        (Rule::Node, NODE),
        (Rule::Ruby, RUBY),
        (Rule::Rust, RUST),
    ] {
        for rule in [rule, Rule::Any] {
            let text = format!("INFO before\n{trace}\nINFO after\n{{\"msg\":\"json\"}}\nINFO last");
            let expected = ["INFO before", trace, "INFO after", "{\"msg\":\"json\"}", "INFO last"];
            assert_eq!(events(rule, &text), expected, "{rule:?}");
        }
    }
}

#[test]
fn lines_that_are_no_trace_stay_apart() {
    let text = "one\ntwo\n  indented\nat noon\n- item: x\nGET / HTTP/1.1";
    assert_eq!(events(Rule::Any, text).len(), 6);
    assert_eq!(events(Rule::Off, JAVA).len(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_held_line_is_let_go_when_nothing_follows_and_bounds_hold() {
    let mut multiline = Multiline::new(Rule::Any);
    let (done, own) = multiline.add(b"panic: x", Timestamp(1), None);
    assert!(done.is_none() && own.is_none() && multiline.overdue().is_none());
    tokio::time::advance(QUIET).await;
    assert_eq!(multiline.overdue().map(|e| e.text), Some(b"panic: x".to_vec()));
    let mut pieces = 0;
    multiline.add(b"panic: y", Timestamp(1), None);
    for _ in 0..3000 {
        let (done, _) = multiline.add(format!("\t{}", "f".repeat(400)).as_bytes(), Timestamp(1), None);
        pieces += usize::from(done.is_some_and(|e| e.text.len() <= BYTES_MAX && e.lines <= LINES_MAX));
    }
    assert!(pieces > 2, "{pieces}");
}
