//! The typed tree of a query. Every node knows the bytes it came from, so that errors and annotations point.

use std::sync::Arc;

use telemetry::Matcher;

use crate::function::Function;

/// A range of bytes in the query's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub(crate) fn to(self, last: Span) -> Span {
        Span { start: self.start, end: last.end }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    Scalar,
    Vector,
    Matrix,
    String,
}

impl ValueType {
    /// The name that error messages use.
    pub fn documented(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "instant vector",
            ValueType::Matrix => "range vector",
            ValueType::String => "string",
        }
    }

    /// The name that the HTTP API uses.
    pub fn api_name(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "vector",
            ValueType::Matrix => "matrix",
            ValueType::String => "string",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    Number(NumberLiteral),
    String(StringLiteral),
    Vector(VectorSelector),
    Matrix(Box<MatrixSelector>),
    Subquery(Box<Subquery>),
    Aggregate(Box<Aggregate>),
    Binary(Box<Binary>),
    Unary(Box<Unary>),
    Paren(Box<Paren>),
    Call(Box<Call>),
    /// Only in a prepared tree: a part with one value for all steps.
    StepInvariant(Box<Node>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct NumberLiteral {
    pub value: f64,
    /// Written as a duration, and printed so.
    pub duration: bool,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct StringLiteral {
    pub value: String,
    /// What was written, where it is no UTF-8 and `value` only comes near it.
    pub bytes: Option<Vec<u8>>,
    pub span: Span,
}

/// What `@` pins a selector to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Time(i64),
    Start,
    End,
}

/// The experimental range modifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    Anchored,
    Smoothed,
}

#[derive(Clone, Debug, PartialEq)]
pub struct VectorSelector {
    /// The name before the braces, empty if there is none.
    pub name: String,
    pub matchers: Arc<[Matcher]>,
    pub offset_ms: i64,
    pub offset_expr: Option<Box<DurationExpr>>,
    pub at: Option<At>,
    pub extension: Option<Extension>,
    /// Of histograms only count and sum are looked at (found out when the query is prepared).
    pub histogram_stats: bool,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSelector {
    pub selector: VectorSelector,
    pub range_ms: i64,
    pub range_expr: Option<Box<DurationExpr>>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Subquery {
    pub expr: Node,
    pub range_ms: i64,
    pub range_expr: Option<Box<DurationExpr>>,
    /// Zero where the default step is taken.
    pub step_ms: i64,
    pub step_expr: Option<Box<DurationExpr>>,
    pub offset_ms: i64,
    pub offset_expr: Option<Box<DurationExpr>>,
    pub at: Option<At>,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

impl AggregateOp {
    const ALL: [(AggregateOp, &'static str); 14] = [
        (AggregateOp::Sum, "sum"),
        (AggregateOp::Avg, "avg"),
        (AggregateOp::Count, "count"),
        (AggregateOp::Min, "min"),
        (AggregateOp::Max, "max"),
        (AggregateOp::Group, "group"),
        (AggregateOp::Stddev, "stddev"),
        (AggregateOp::Stdvar, "stdvar"),
        (AggregateOp::Topk, "topk"),
        (AggregateOp::Bottomk, "bottomk"),
        (AggregateOp::CountValues, "count_values"),
        (AggregateOp::Quantile, "quantile"),
        (AggregateOp::Limitk, "limitk"),
        (AggregateOp::LimitRatio, "limit_ratio"),
    ];

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n)| n.eq_ignore_ascii_case(name)).map(|(op, _)| *op)
    }

    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    pub fn takes_parameter(self) -> bool {
        use AggregateOp::*;
        matches!(self, Topk | Bottomk | CountValues | Quantile | Limitk | LimitRatio)
    }

    pub(crate) fn is_experimental(self) -> bool {
        matches!(self, AggregateOp::Limitk | AggregateOp::LimitRatio)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    pub op: AggregateOp,
    pub expr: Node,
    pub param: Option<Node>,
    pub grouping: Vec<String>,
    pub without: bool,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eqlc,
    Neq,
    Gtr,
    Lss,
    Gte,
    Lte,
    And,
    Or,
    Unless,
    TrimUpper,
    TrimLower,
}

impl BinaryOp {
    pub fn symbol(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Eqlc => "==",
            BinaryOp::Neq => "!=",
            BinaryOp::Gtr => ">",
            BinaryOp::Lss => "<",
            BinaryOp::Gte => ">=",
            BinaryOp::Lte => "<=",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
            BinaryOp::TrimUpper => "</",
            BinaryOp::TrimLower => ">/",
        }
    }

    pub fn is_comparison(self) -> bool {
        use BinaryOp::*;
        matches!(self, Eqlc | Neq | Gtr | Lss | Gte | Lte)
    }

    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }

    /// Whether the result is no longer the metric that the operands were.
    pub(crate) fn changes_metric(self) -> bool {
        use BinaryOp::*;
        matches!(self, Add | Sub | Mul | Div | Mod | Pow | Atan2)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Card {
    OneToOne,
    ManyToOne,
    OneToMany,
    ManyToMany,
}

#[derive(Clone, Debug, PartialEq)]
pub struct VectorMatching {
    pub card: Card,
    pub labels: Vec<String>,
    pub on: bool,
    pub include: Vec<String>,
    pub fill_left: Option<f64>,
    pub fill_right: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    pub op: BinaryOp,
    pub lhs: Node,
    pub rhs: Node,
    /// Present where both sides are instant vectors.
    pub matching: Option<VectorMatching>,
    pub return_bool: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Unary {
    pub negate: bool,
    pub expr: Node,
    pub start: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Paren {
    pub expr: Node,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub function: &'static Function,
    pub args: Vec<Node>,
    pub span: Span,
}

/// Arithmetic on durations (experimental): `[5m * 2]`, `offset step()`.
#[derive(Clone, Debug, PartialEq)]
pub struct DurationExpr {
    pub kind: DurationKind,
    pub wrapped: bool,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum DurationKind {
    Step,
    Range,
    Plus(Box<DurationNode>),
    Minus(Box<DurationNode>),
    MinOf(Box<DurationNode>, Box<DurationNode>),
    MaxOf(Box<DurationNode>, Box<DurationNode>),
    Binary(BinaryOp, Box<DurationNode>, Box<DurationNode>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum DurationNode {
    Literal(NumberLiteral),
    Expr(DurationExpr),
}

impl DurationNode {
    pub(crate) fn span(&self) -> Span {
        match self {
            DurationNode::Literal(literal) => literal.span,
            DurationNode::Expr(expr) => expr.span,
        }
    }
}

impl Node {
    pub fn span(&self) -> Span {
        match self {
            Node::Number(n) => n.span,
            Node::String(n) => n.span,
            Node::Vector(n) => n.span,
            Node::Matrix(n) => n.span,
            Node::Subquery(n) => n.span,
            Node::Aggregate(n) => n.span,
            Node::Binary(n) => n.span(),
            Node::Unary(n) => Span { start: n.start, end: n.expr.span().end },
            Node::Paren(n) => n.span,
            Node::Call(n) => n.span,
            Node::StepInvariant(n) => n.span(),
        }
    }

    pub fn value_type(&self) -> ValueType {
        match self {
            Node::Number(_) => ValueType::Scalar,
            Node::String(_) => ValueType::String,
            Node::Vector(_) | Node::Aggregate(_) => ValueType::Vector,
            Node::Matrix(_) | Node::Subquery(_) => ValueType::Matrix,
            Node::Binary(n) => {
                let scalars = n.lhs.value_type() == ValueType::Scalar && n.rhs.value_type() == ValueType::Scalar;
                if scalars { ValueType::Scalar } else { ValueType::Vector }
            }
            Node::Unary(n) => n.expr.value_type(),
            Node::Paren(n) => n.expr.value_type(),
            Node::Call(n) => n.function.returns,
            Node::StepInvariant(n) => n.value_type(),
        }
    }

    /// The node without the parentheses round it.
    pub(crate) fn unwrap_parens(&self) -> &Node {
        let mut node = self;
        while let Node::Paren(paren) = node {
            node = &paren.expr;
        }
        node
    }
}

impl Binary {
    pub fn span(&self) -> Span {
        self.lhs.span().to(self.rhs.span())
    }
}
