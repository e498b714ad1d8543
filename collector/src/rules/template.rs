//! Templates of alert labels and annotations: Go's text/template with Prometheus' functions.
//!
//! In: the text and what it may speak of ([`Data`]). Out: the expanded text, or Prometheus'
//! `<error expanding template: …>` in its place, so that a slip in an annotation never stops an alert.
//! `query` needs an answer from outside: [`Template::expand`] names the expression it waits for and is
//! called again with the answer, which keeps this module free of I/O.
//!
//! Not done here: HTML escaping (console templates are no part of the suite).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use gotmpl::parse::{CommandNode, Expr, ListNode, Node, Parser, PipeNode, Pos};
use gotmpl::{FuncMap, MissingKey, Value};
use promql::{Histogram, VectorSample};
use telemetry::Labels;
use url::Url;

pub mod functions;
pub mod go_format;

/// What every template sees first: Prometheus' shorthands (rules/alerting.go, `defs`).
const PRELUDE: &str =
    "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}";
/// How often one text may ask for a further query before it is given up.
const QUERIES_PER_EXPANSION_MAX: usize = 32;

/// How deep `tmpl` may call templates that call `tmpl`: each level takes its share of the stack.
const NESTED_MAX: usize = 16;

/// The answer of a query that a rule or a template asked for.
pub type QueryAnswer = Result<Vec<VectorSample>, String>;

/// What templates of one configuration share.
#[derive(Clone, Debug, PartialEq)]
pub struct Globals {
    pub external_url: Url,
    pub external_labels: Labels,
}

/// What one expansion speaks of.
#[derive(Clone, Debug)]
pub struct Data<'a> {
    pub labels: &'a Labels,
    pub value: f64,
    /// What `$value` is, where the alert's element holds one.
    pub histogram: Option<&'a Histogram>,
}

impl<'a> From<&'a VectorSample> for Data<'a> {
    fn from(sample: &'a VectorSample) -> Self {
        Data { labels: &sample.labels, value: sample.value, histogram: sample.histogram.as_deref() }
    }
}

/// A text that has been parsed and whose functions and variables exist.
#[derive(Clone)]
pub struct Template {
    source: String,
    /// None where the text holds no action: most labels.
    compiled: Option<Arc<Compiled>>,
}

struct Compiled {
    template: gotmpl::Template,
    queries: Arc<Mutex<Queries>>,
    globals: Globals,
}

/// What `tmpl` calls: the text's own templates, by a name that is known only when it runs.
#[derive(Default)]
struct Nested {
    compiled: OnceLock<Weak<Compiled>>,
    depth: AtomicUsize,
}

impl Nested {
    fn expand(&self, name: &str, data: &Value) -> Result<String, String> {
        let compiled = self.compiled.get().and_then(Weak::upgrade).ok_or("the template is gone")?;
        let depth = self.depth.fetch_add(1, Ordering::Relaxed);
        let result = match depth < NESTED_MAX {
            true => compiled.template.execute_template_to_string(name, data).map_err(|error| error.to_string()),
            false => Err(format!("template {name:?} calls itself more than {NESTED_MAX} times")),
        };
        self.depth.fetch_sub(1, Ordering::Relaxed);
        result
    }
}

/// The answers known to the running expansion, and the expression it stopped at.
#[derive(Default)]
pub struct Queries {
    answers: BTreeMap<String, QueryAnswer>,
    wanted: Option<String>,
}

/// How far an expansion came.
#[derive(Debug, PartialEq, Eq)]
pub enum Expansion {
    Done(String),
    /// Answer this expression and expand again.
    NeedsQuery(String),
}

/// A text that is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(String);

impl Template {
    /// Parses `text`; `name` stands in error messages.
    ///
    /// # Errors
    /// The text is no template, or names a function or variable that does not exist.
    pub fn parse(name: &str, text: &str, globals: &Globals) -> Result<Self, TemplateError> {
        if !text.contains("{{") {
            return Ok(Template { source: text.to_owned(), compiled: None });
        }
        let source = format!("{PRELUDE}{text}");
        let failed = |error: gotmpl::TemplateError| TemplateError(error.to_string());
        let (mut tree, mut defines) =
            Parser::with_name(Some(name), &source, "{{", "}}").map_err(failed)?.parse().map_err(failed)?;
        let queries = Arc::new(Mutex::new(Queries::default()));
        let mut functions = functions::all(globals, &queries);
        let nested = Arc::new(Nested::default());
        let templates = nested.clone();
        functions::add_tmpl(&mut functions, move |name, data| templates.expand(name, data));
        let mut known = Names::of(&functions);
        known.check_list(&tree)?;
        for define in &defines {
            Names::of(&functions).check_list(&define.body)?;
        }
        as_go_prints(&mut tree);
        let mut template = gotmpl::Template::new("").missing_key(MissingKey::ZeroValue).funcs(functions);
        for define in &mut defines {
            as_go_prints(&mut define.body);
            template = template.add_parse_tree(&define.name, define.body.clone());
        }
        let template = template.add_parse_tree(MAIN, tree);
        let compiled = Arc::new(Compiled { template, queries, globals: globals.clone() });
        // Weak: the functions are part of what they call.
        drop(nested.compiled.set(Arc::downgrade(&compiled)));
        Ok(Template { source: text.to_owned(), compiled: Some(compiled) })
    }

    /// A text that is not expanded, whatever it looks like.
    pub fn literal(text: impl Into<String>) -> Self {
        Template { source: text.into(), compiled: None }
    }

    /// The text as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Expands with the query answers known so far.
    ///
    /// # Errors
    /// What the template engine or a function said.
    pub fn expand(&self, data: &Data<'_>, answers: &BTreeMap<String, QueryAnswer>) -> Result<Expansion, TemplateError> {
        let Some(compiled) = &self.compiled else { return Ok(Expansion::Done(self.source.clone())) };
        {
            let mut queries = compiled.queries.lock().expect("no one panics holding it");
            queries.wanted = None;
            queries.answers.clone_from(answers);
        }
        let result = compiled.template.execute_template_to_string(MAIN, &compiled.data(data));
        let wanted = compiled.queries.lock().expect("no one panics holding it").wanted.take();
        match (result, wanted) {
            (_, Some(query)) if answers.len() < QUERIES_PER_EXPANSION_MAX => Ok(Expansion::NeedsQuery(query)),
            (_, Some(_)) => {
                Err(TemplateError(format!("a template may ask for at most {QUERIES_PER_EXPANSION_MAX} queries")))
            }
            (Ok(text), None) => Ok(Expansion::Done(text)),
            (Err(error), None) => Err(TemplateError(error.to_string())),
        }
    }
}

/// The name of the tree that is executed; no `define` can have it.
const MAIN: &str = "\u{0}main";

impl Compiled {
    fn data(&self, data: &Data<'_>) -> Value {
        let map = |labels: &Labels| {
            Value::Map(Arc::new(labels.iter().map(|(n, v)| (Arc::from(n), Value::String(Arc::from(v)))).collect()))
        };
        let fields = [
            ("Labels", map(data.labels)),
            ("ExternalLabels", map(&self.globals.external_labels)),
            ("ExternalURL", Value::String(self.globals.external_url.as_str().trim_end_matches('/').into())),
            ("Value", functions::value(data.value, data.histogram)),
        ];
        Value::Map(Arc::new(fields.into_iter().map(|(name, value)| (Arc::from(name), value)).collect()))
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
            && match (&self.compiled, &other.compiled) {
                (Some(a), Some(b)) => a.globals == b.globals,
                (None, None) => true,
                _ => false,
            }
    }
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Template({:?})", self.source)
    }
}

/// The functions and variables that a text may name. The engine finds out only when it runs; Go, and
/// whoever wrote the rule, want to know at load.
struct Names<'a> {
    functions: &'a FuncMap,
    variables: BTreeSet<String>,
}

impl<'a> Names<'a> {
    fn of(functions: &'a FuncMap) -> Self {
        Names { functions, variables: BTreeSet::from(["$".to_owned()]) }
    }

    fn check_list(&mut self, list: &ListNode) -> Result<(), TemplateError> {
        list.nodes.iter().try_for_each(|node| self.check_node(node))
    }

    fn check_node(&mut self, node: &Node) -> Result<(), TemplateError> {
        match node {
            Node::Action(action) => self.check_pipe(&action.pipe),
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
                let outside = self.variables.clone();
                self.check_pipe(&branch.pipe)?;
                self.check_list(&branch.body)?;
                if let Some(other) = &branch.else_body {
                    self.check_list(other)?;
                }
                self.variables = outside;
                Ok(())
            }
            Node::Template(call) => call.pipe.as_ref().map_or(Ok(()), |pipe| self.check_pipe(pipe)),
            Node::List(list) => self.check_list(list),
            Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => Ok(()),
        }
    }

    fn check_pipe(&mut self, pipe: &PipeNode) -> Result<(), TemplateError> {
        for expr in pipe.commands.iter().flat_map(|command| &command.args) {
            self.check_expr(expr)?;
        }
        self.variables.extend(pipe.decl.iter().map(ToString::to_string));
        Ok(())
    }

    fn check_expr(&mut self, expr: &Expr) -> Result<(), TemplateError> {
        match expr {
            Expr::Identifier(_, name) if !self.functions.contains_key(name.as_str()) && !is_builtin(name) => {
                Err(TemplateError(format!("function \"{name}\" not defined")))
            }
            Expr::Variable(_, name, _) if !self.variables.contains(name.as_str()) => {
                Err(TemplateError(format!("undefined variable \"{name}\"")))
            }
            Expr::Pipe(_, pipe) => self.check_pipe(pipe),
            Expr::Chain(_, inner, _) => self.check_expr(inner),
            _ => Ok(()),
        }
    }
}

fn is_builtin(name: &str) -> bool {
    const BUILTINS: [&str; 19] = [
        "and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or", "print",
        "printf", "println", "slice", "urlquery",
    ];
    BUILTINS.contains(&name)
}

/// Bends the tree where the engine prints otherwise than Go would for Prometheus' data: what an action
/// prints passes through `__print` (floats as Go writes them), and a field that a map lacks is the empty
/// string, as Go's `missingkey=zero` makes it for a `map[string]string`.
fn as_go_prints(list: &mut ListNode) {
    for node in &mut list.nodes {
        match node {
            Node::Action(action) => {
                zero_missing(&mut action.pipe);
                if action.pipe.decl.is_empty() {
                    let pos = action.pipe.pos;
                    let print = Expr::Identifier(pos, functions::PRINT.into());
                    action.pipe.commands.push(CommandNode { pos, args: vec![print] });
                }
            }
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
                zero_missing(&mut branch.pipe);
                as_go_prints(&mut branch.body);
                if let Some(other) = &mut branch.else_body {
                    as_go_prints(other);
                }
            }
            Node::Template(call) => {
                if let Some(pipe) = &mut call.pipe {
                    zero_missing(pipe);
                }
            }
            Node::List(inner) => as_go_prints(inner),
            Node::Define(define) => as_go_prints(&mut define.body),
            Node::Text(_) | Node::Break(_) | Node::Continue(_) => {}
        }
    }
}

fn zero_missing(pipe: &mut PipeNode) {
    for expr in pipe.commands.iter_mut().flat_map(|command| &mut command.args) {
        match expr {
            Expr::Pipe(_, inner) => zero_missing(inner),
            Expr::Chain(pos, inner, _) => {
                if let Expr::Pipe(_, inner) = &mut **inner {
                    zero_missing(inner);
                }
                *expr = zero_if_missing(*pos, expr.clone());
            }
            Expr::Field(pos, _) => *expr = zero_if_missing(*pos, expr.clone()),
            Expr::Variable(pos, _, fields) if !fields.is_empty() => *expr = zero_if_missing(*pos, expr.clone()),
            _ => {}
        }
    }
}

fn zero_if_missing(pos: Pos, expr: Expr) -> Expr {
    let args = vec![Expr::Identifier(pos, functions::ZERO.into()), expr];
    let commands = vec![CommandNode { pos, args }];
    Expr::Pipe(pos, PipeNode { pos, decl: Vec::new(), commands, is_assign: false })
}

#[cfg(test)]
mod tests;
