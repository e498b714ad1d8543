//! Durations in ranges and offsets: a literal, or (experimental) arithmetic on literals, `step()` and `range()`.

use super::{Parse, Parser, fault};
use crate::ast::*;
use crate::lex::Tok;

const CONTEXT: &str = "subquery or range selector";
const EXPECTED: &str = "number, duration, step(), or range()";

/// The seconds that fit into 64 bits of nanoseconds.
pub(crate) const MAX_SECONDS: f64 = 9_223_372_036.854_776;

fn operator(tok: Tok) -> Option<(BinaryOp, u8)> {
    Some(match tok {
        Tok::Add => (BinaryOp::Add, 1),
        Tok::Sub => (BinaryOp::Sub, 1),
        Tok::Mul => (BinaryOp::Mul, 2),
        Tok::Div => (BinaryOp::Div, 2),
        Tok::Mod => (BinaryOp::Mod, 2),
        Tok::Pow => (BinaryOp::Pow, 3),
        _ => return None,
    })
}

impl Parser<'_> {
    pub(super) fn duration_may_start(&self) -> bool {
        use Tok::*;
        matches!(self.peek(), Number | Duration | Add | Sub | LeftParen | Step | Range | MaxOf | MinOf)
    }

    /// What stands in brackets.
    pub(super) fn positive_duration(&mut self) -> Parse<DurationNode> {
        let duration = self.duration(0)?;
        match &duration {
            DurationNode::Literal(n) if n.value <= 0.0 => fault(n.span, "duration must be greater than 0"),
            _ => Ok(duration),
        }
    }

    /// What stands after `offset`: one operand, for `foo offset -2^2` means `(foo offset -2)^2`.
    pub(super) fn offset_duration(&mut self) -> Parse<DurationNode> {
        if !self.duration_may_start() {
            return self.unexpected("offset", EXPECTED);
        }
        self.duration_operand("offset", false)
    }

    fn duration(&mut self, min_precedence: u8) -> Parse<DurationNode> {
        self.enter()?;
        let mut lhs = self.duration_operand(CONTEXT, true)?;
        while let Some((op, precedence)) = operator(self.peek()) {
            if precedence < min_precedence {
                break;
            }
            let op_span = self.advance();
            let rhs = self.duration(if op == BinaryOp::Pow { precedence } else { precedence + 1 })?;
            self.check_duration_gate(lhs.span())?;
            if matches!(&rhs, DurationNode::Literal(n) if n.value == 0.0) {
                match op {
                    BinaryOp::Div => return fault(op_span, "division by zero"),
                    BinaryOp::Mod => return fault(op_span, "modulo by zero"),
                    _ => {}
                }
            }
            let span = lhs.span().to(rhs.span());
            let kind = DurationKind::Binary(op, Box::new(lhs), Box::new(rhs));
            lhs = DurationNode::Expr(DurationExpr { kind, wrapped: false, span });
        }
        self.depth -= 1;
        Ok(lhs)
    }

    fn check_duration_gate(&self, span: Span) -> Parse<()> {
        if !self.syntax.duration_expressions {
            return fault(span, "experimental duration expression is not enabled");
        }
        Ok(())
    }

    fn duration_operand(&mut self, context: &str, operators: bool) -> Parse<DurationNode> {
        match self.peek() {
            Tok::Number | Tok::Duration => {
                let number = self.number_or_duration()?;
                if number.value.abs() > MAX_SECONDS {
                    return fault(number.span, "duration out of range");
                }
                Ok(DurationNode::Literal(number))
            }
            Tok::Add | Tok::Sub => self.signed_duration(context, operators),
            Tok::LeftParen => {
                let open = self.advance();
                let inner = self.duration(0)?;
                if self.peek() != Tok::RightParen {
                    return self.unexpected(context, EXPECTED);
                }
                let span = open.to(self.advance());
                self.check_duration_gate(inner.span())?;
                Ok(wrap(inner, span))
            }
            Tok::Step | Tok::Range => {
                let kind = if self.peek() == Tok::Step { DurationKind::Step } else { DurationKind::Range };
                let start = self.advance().start;
                if !self.eat(Tok::LeftParen) || self.peek() != Tok::RightParen {
                    return self.unexpected(context, EXPECTED);
                }
                let span = Span { start, end: self.advance().end };
                self.check_duration_gate(span)?;
                Ok(DurationNode::Expr(DurationExpr { kind, wrapped: false, span }))
            }
            Tok::MaxOf | Tok::MinOf => self.extremum(context),
            _ => self.unexpected(context, EXPECTED),
        }
    }

    fn extremum(&mut self, context: &str) -> Parse<DurationNode> {
        let max = self.peek() == Tok::MaxOf;
        let start = self.advance().start;
        if !self.eat(Tok::LeftParen) {
            return self.unexpected(context, EXPECTED);
        }
        let lhs = Box::new(self.duration(0)?);
        if !self.eat(Tok::Comma) {
            return self.unexpected(context, EXPECTED);
        }
        let rhs = Box::new(self.duration(0)?);
        if self.peek() != Tok::RightParen {
            return self.unexpected(context, EXPECTED);
        }
        let span = Span { start, end: self.advance().end };
        self.check_duration_gate(span)?;
        let kind = if max { DurationKind::MaxOf(lhs, rhs) } else { DurationKind::MinOf(lhs, rhs) };
        Ok(DurationNode::Expr(DurationExpr { kind, wrapped: false, span }))
    }

    fn signed_duration(&mut self, context: &str, operators: bool) -> Parse<DurationNode> {
        let negate = self.peek() == Tok::Sub;
        let sign = self.advance();
        // In brackets the sign binds as tightly as `*`; after `offset` it takes one operand.
        let operand = if operators { self.duration(3)? } else { self.duration_operand(context, false)? };
        match operand {
            DurationNode::Literal(mut number) => {
                if negate {
                    number.value = -number.value;
                }
                number.span.start = sign.start;
                Ok(DurationNode::Literal(number))
            }
            operand if negate => {
                let span = sign.to(operand.span());
                let kind = DurationKind::Minus(Box::new(operand));
                Ok(DurationNode::Expr(DurationExpr { kind, wrapped: false, span }))
            }
            operand => Ok(operand),
        }
    }
}

/// Keeps parentheses for the printer; a bare number is wrapped in a unary plus to carry them.
fn wrap(inner: DurationNode, span: Span) -> DurationNode {
    match inner {
        DurationNode::Expr(mut expr) => {
            expr.wrapped = true;
            DurationNode::Expr(expr)
        }
        literal => {
            let kind = DurationKind::Plus(Box::new(literal));
            DurationNode::Expr(DurationExpr { kind, wrapped: true, span })
        }
    }
}
