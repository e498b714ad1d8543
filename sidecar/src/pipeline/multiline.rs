//! Stack traces are one event: the lines of an exception are joined to the line that they belong to.
//!
//! By rule per container: Java, Python, Go, Node, Ruby and Rust, or all of them. A line that may have a continuation is
//! held for a moment; a line of JSON never has one and passes at once. Bounded in time, bytes and lines: what goes
//! beyond stands on its own.

use std::time::Duration;

use telemetry::Timestamp;
use telemetry::log_record::Level;
use tokio::time::Instant;

use super::batch::Mark;
use super::parse::text::level;

/// How long a line waits for the next.
pub const QUIET: Duration = Duration::from_millis(500);
/// How long an event may take from its first line.
const WHOLE: Duration = Duration::from_secs(5);
const BYTES_MAX: usize = 256 * 1024;
const LINES_MAX: u32 = 1000;

/// Whose traces are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Rule {
    Off,
    #[default]
    Any,
    Java,
    Python,
    Go,
    Node,
    Ruby,
    Rust,
}

impl Rule {
    /// # Errors
    /// Names what can be written.
    pub fn parse(word: &str) -> Result<Rule, String> {
        Ok(match word.to_ascii_lowercase().as_str() {
            "off" | "none" | "false" => Rule::Off,
            "auto" | "any" | "true" => Rule::Any,
            "java" => Rule::Java,
            "python" => Rule::Python,
            "go" => Rule::Go,
            "node" => Rule::Node,
            "ruby" => Rule::Ruby,
            "rust" => Rule::Rust,
            other => {
                return Err(format!("{other:?} is no rule: write auto, off, java, python, go, node, ruby or rust"));
            }
        })
    }

    fn has(self, language: Rule) -> bool {
        self == Rule::Any || self == language
    }
}

/// An event, of one line or of several.
#[derive(Clone, Debug)]
pub struct Joined {
    pub text: Vec<u8>,
    pub at: Timestamp,
    pub lines: u32,
    pub mark: Option<Mark>,
}

/// Where in a trace the last line was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Within {
    /// No trace has begun; one may follow.
    #[default]
    Line,
    Java,
    PythonFrames,
    /// Behind `During handling of the above exception`: a traceback follows.
    PythonChain,
    Go,
    Node,
    Ruby,
    /// The panic's message is to come.
    RustMessage,
    Rust,
}

/// The event of one stream that is being collected.
pub struct Multiline {
    rule: Rule,
    held: Option<Joined>,
    within: Within,
    since: Instant,
    touched: Instant,
}

impl Multiline {
    pub fn new(rule: Rule) -> Self {
        Multiline { rule, held: None, within: Within::Line, since: Instant::now(), touched: Instant::now() }
    }

    /// Nothing is held, and this line need not be.
    pub fn passes(&self, line: &[u8]) -> bool {
        self.held.is_none() && (self.rule == Rule::Off || is_json(line))
    }

    /// Adds a line; the event that is whole by it comes back, and perhaps the line itself.
    pub fn add(&mut self, line: &[u8], at: Timestamp, mark: Option<&Mark>) -> (Option<Joined>, Option<Joined>) {
        let own = || Joined { text: line.to_vec(), at, lines: 1, mark: mark.cloned() };
        if self.rule == Rule::Off || is_json(line) {
            return (self.take(), Some(own()));
        }
        let text = String::from_utf8_lossy(line);
        if let Some(held) = &mut self.held
            && let Some(within) = continues(self.rule, self.within, &held.text, &text)
            && held.text.len() + line.len() < BYTES_MAX
            && held.lines < LINES_MAX
            && self.since.elapsed() < WHOLE
        {
            held.text.push(b'\n');
            held.text.extend_from_slice(line);
            held.lines += 1;
            (self.within, self.touched) = (within, Instant::now());
            return (None, None);
        }
        let done = self.take();
        self.within = begins(self.rule, &text);
        (self.held, self.since, self.touched) = (Some(own()), Instant::now(), Instant::now());
        (done, None)
    }

    /// The event whose next line has not come for a while.
    pub fn overdue(&mut self) -> Option<Joined> {
        (self.touched.elapsed() >= QUIET).then(|| self.take()).flatten()
    }

    /// Whether a line waits for its continuation.
    pub fn holds(&self) -> bool {
        self.held.is_some()
    }

    pub fn take(&mut self) -> Option<Joined> {
        self.within = Within::Line;
        self.held.take()
    }
}

/// Whether what stands below a line is a stack trace that belongs to it, whoever joined them.
pub fn is_trace(line: &str, below: &str) -> bool {
    let first = below.lines().next().unwrap_or_default();
    continues(Rule::Any, Within::Line, line.as_bytes(), first).is_some()
}

/// Loggers that write JSON put the trace into it.
fn is_json(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.first() == Some(&b'{') && line.last() == Some(&b'}')
}

/// What a line is the beginning of.
fn begins(rule: Rule, line: &str) -> Within {
    if rule.has(Rule::Python) && line.contains("Traceback (most recent call last):") {
        Within::PythonFrames
    } else if rule.has(Rule::Rust) && line.contains("thread '") && line.contains("panicked at ") {
        if line.trim_end().ends_with(':') { Within::RustMessage } else { Within::Rust }
    } else if rule.has(Rule::Go) && ["panic: ", "fatal error: ", "goroutine "].iter().any(|s| line.starts_with(s)) {
        Within::Go
    } else {
        Within::Line
    }
}

/// Where a trace is after `line`; None where the line does not belong to it.
fn continues(rule: Rule, within: Within, held: &[u8], line: &str) -> Option<Within> {
    let indented = line.starts_with([' ', '\t']);
    let trimmed = line.trim_start();
    match within {
        Within::PythonFrames if rule.has(Rule::Python) => python(line, indented),
        Within::PythonChain => match line {
            _ if line.trim().is_empty() => Some(Within::PythonChain),
            _ if is_python_chain(line) => Some(Within::PythonChain),
            _ if line.starts_with("Traceback (most recent call last):") => Some(Within::PythonFrames),
            _ => None,
        },
        Within::Go => go(line, indented).then_some(Within::Go),
        Within::RustMessage => Some(Within::Rust),
        Within::Rust => rust(trimmed, indented).then_some(Within::Rust),
        _ => {
            // Node's frames first: they look like Java's and name other files.
            if rule.has(Rule::Node) && node(rule, within, trimmed, indented) {
                return Some(Within::Node);
            }
            if rule.has(Rule::Java) && java(line, trimmed, indented) {
                return Some(Within::Java);
            }
            if rule.has(Rule::Ruby) && indented && (trimmed.starts_with("from ") || ruby_frame(trimmed)) {
                return Some(Within::Ruby);
            }
            // `logging.exception` writes a message and the traceback below it; one that nobody caught stands alone.
            let logged = || level(&String::from_utf8_lossy(held)) >= Level::Warn;
            let traceback = rule.has(Rule::Python) && line.starts_with("Traceback (most recent call last):");
            (traceback && logged()).then_some(Within::PythonFrames)
        }
    }
}

/// `\tat a.B.c(D.java:1)`, `Caused by: …`, `\t... 3 more`, `\tSuppressed: …`, and `java.lang.Exception: …` itself.
fn java(line: &str, trimmed: &str, indented: bool) -> bool {
    let frame =
        indented && (trimmed.starts_with("at ") || trimmed.starts_with("... ") || trimmed.starts_with("Suppressed: "));
    let cause = line.starts_with("Caused by: ");
    frame || cause || is_java_exception(line)
}

/// `a.b.CException` or `a.b.CError`, alone or with a message behind a colon.
fn is_java_exception(line: &str) -> bool {
    let name = line.split(':').next().unwrap_or_default();
    let is_name = |c: char| c.is_ascii_alphanumeric() || ".$_".contains(c);
    name.contains('.')
        && name.chars().all(is_name)
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && ["Exception", "Error", "Throwable"].iter().any(|end| name.ends_with(end))
}

/// `    at f (file.js:1:2)`, and what Node prints below: `{`, `  code: 'X'`, `}`, the cause in brackets.
fn node(rule: Rule, within: Within, trimmed: &str, indented: bool) -> bool {
    if indented && trimmed.starts_with("at ") {
        let files = [".js:", ".ts:", ".mjs:", ".cjs:", "node:", "<anonymous>"];
        return rule == Rule::Node || within == Within::Node || files.iter().any(|f| trimmed.contains(f));
    }
    within == Within::Node
        && (trimmed == "}"
            || trimmed == "]"
            || (indented && (trimmed.contains(": ") || trimmed.starts_with("[cause]"))))
}

/// `a.rb:1:in 'b'`.
fn ruby_frame(trimmed: &str) -> bool {
    trimmed.contains(".rb:") && trimmed.contains(":in ")
}

fn python(line: &str, indented: bool) -> Option<Within> {
    if indented || line.starts_with("Traceback ") {
        return Some(Within::PythonFrames);
    }
    if line.is_empty() || is_python_chain(line) {
        return Some(Within::PythonChain);
    }
    // `ValueError: …`, `app.errors.NotPaid`: the last line, below which another exception may follow.
    let name = line.split(':').next().unwrap_or_default();
    let is_name = |c: char| c.is_ascii_alphanumeric() || "._".contains(c);
    (!name.is_empty() && name.chars().all(is_name) && !name.starts_with(|c: char| c.is_ascii_digit()))
        .then_some(Within::PythonChain)
}

fn is_python_chain(line: &str) -> bool {
    line.starts_with("During handling of the above exception")
        || line.starts_with("The above exception was the direct cause")
}

/// A goroutine's head, its frames, and what stands between them.
fn go(line: &str, indented: bool) -> bool {
    let starts =
        ["goroutine ", "created by ", "[signal ", "panic: ", "exit status", "runtime stack:", "...", "rax ", "rip "];
    let call = line.ends_with(')') && line.contains('(') && !line.contains(' ');
    indented || line.is_empty() || call || line.ends_with("+0x") || starts.iter().any(|s| line.starts_with(s))
}

fn rust(trimmed: &str, indented: bool) -> bool {
    let frame = trimmed.split(':').next().is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    trimmed.starts_with("note: ")
        || trimmed.starts_with("stack backtrace:")
        || (indented && (frame || trimmed.starts_with("at ")))
}

#[cfg(test)]
#[path = "multiline_tests.rs"]
mod tests;
