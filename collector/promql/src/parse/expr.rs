//! Expressions: operators by precedence, calls, aggregations.

use super::{Parse, Parser, fault};
use crate::ast::*;
use crate::function;
use crate::lex::Tok;
use crate::text::quote;

/// Precedence and whether the operator groups from the right.
fn binary_operator(tok: Tok) -> Option<(BinaryOp, u8, bool)> {
    Some(match tok {
        Tok::Or => (BinaryOp::Or, 1, false),
        Tok::And => (BinaryOp::And, 2, false),
        Tok::Unless => (BinaryOp::Unless, 2, false),
        Tok::Eqlc => (BinaryOp::Eqlc, 3, false),
        Tok::Neq => (BinaryOp::Neq, 3, false),
        Tok::Gtr => (BinaryOp::Gtr, 3, false),
        Tok::Lss => (BinaryOp::Lss, 3, false),
        Tok::Gte => (BinaryOp::Gte, 3, false),
        Tok::Lte => (BinaryOp::Lte, 3, false),
        Tok::TrimUpper => (BinaryOp::TrimUpper, 3, false),
        Tok::TrimLower => (BinaryOp::TrimLower, 3, false),
        Tok::Add => (BinaryOp::Add, 4, false),
        Tok::Sub => (BinaryOp::Sub, 4, false),
        Tok::Mul => (BinaryOp::Mul, 5, false),
        Tok::Div => (BinaryOp::Div, 5, false),
        Tok::Mod => (BinaryOp::Mod, 5, false),
        Tok::Atan2 => (BinaryOp::Atan2, 5, false),
        Tok::Pow => (BinaryOp::Pow, 6, true),
        _ => return None,
    })
}

/// A unary operator binds as tightly as `*`: `-1^2` is `-(1^2)`.
const UNARY_OPERAND_PRECEDENCE: u8 = 6;

impl Parser<'_> {
    pub(super) fn whole_expression(&mut self) -> Parse<Node> {
        if self.peek() == Tok::Eof {
            return fault(Span::default(), "no expression found in input");
        }
        let node = self.expression(0)?;
        if self.peek() != Tok::Eof {
            return self.unexpected("", "");
        }
        Ok(node)
    }

    /// Reads operators of at least `min_precedence`.
    pub(super) fn expression(&mut self, min_precedence: u8) -> Parse<Node> {
        self.enter()?;
        let mut lhs = self.prefix()?;
        lhs = self.postfix(lhs)?;
        while let Some((op, precedence, right)) = binary_operator(self.peek()) {
            if precedence < min_precedence {
                break;
            }
            self.advance();
            let (return_bool, matching) = self.binary_modifiers()?;
            let left_height = self.height;
            let rhs = self.expression(if right { precedence } else { precedence + 1 })?;
            self.height = self.height.max(left_height) + 1;
            self.check_depth(self.height)?;
            let node = Binary { op, lhs, rhs, matching: Some(matching), return_bool };
            self.check_fill_gate(&node)?;
            lhs = Node::Binary(Box::new(node));
        }
        self.depth -= 1;
        Ok(lhs)
    }

    fn check_fill_gate(&self, node: &Binary) -> Parse<()> {
        let fills = node.matching.as_ref().is_some_and(|m| m.fill_left.is_some() || m.fill_right.is_some());
        if fills && !self.syntax.fill_modifiers {
            return fault(node.span(), "binop fill modifiers are experimental and not enabled");
        }
        Ok(())
    }

    fn prefix(&mut self) -> Parse<Node> {
        self.height = 1;
        match self.peek() {
            Tok::Number | Tok::Duration => Ok(Node::Number(self.number_or_duration()?)),
            Tok::Str => {
                let span = self.span();
                let (value, bytes) = self.unquoted_bytes()?;
                Ok(Node::String(StringLiteral { value, bytes, span }))
            }
            Tok::Add | Tok::Sub => self.unary(),
            Tok::LeftParen => self.paren(),
            Tok::LeftBrace => self.vector_selector(),
            Tok::Aggregator if matches!(self.peek_second(), Tok::LeftParen | Tok::By | Tok::Without) => {
                self.aggregate()
            }
            Tok::Identifier | Tok::Start | Tok::End | Tok::Step | Tok::Range | Tok::MaxOf | Tok::MinOf
                if self.peek_second() == Tok::LeftParen =>
            {
                self.call()
            }
            Tok::Aggregator
            | Tok::Identifier
            | Tok::MetricIdentifier
            | Tok::By
            | Tok::Without
            | Tok::Fill
            | Tok::FillLeft
            | Tok::FillRight
            | Tok::And
            | Tok::Or
            | Tok::Unless
            | Tok::Offset
            | Tok::Start
            | Tok::End
            | Tok::Step
            | Tok::Range
            | Tok::Anchored
            | Tok::Smoothed
            | Tok::MaxOf
            | Tok::MinOf => self.vector_selector(),
            _ => self.unexpected_here(),
        }
    }

    fn unary(&mut self) -> Parse<Node> {
        let negate = self.peek() == Tok::Sub;
        let start = self.advance().start;
        let operand = self.expression(UNARY_OPERAND_PRECEDENCE)?;
        if let Node::Number(mut number) = operand {
            if negate {
                number.value = -number.value;
            }
            number.span.start = start;
            return Ok(Node::Number(number));
        }
        self.height += 1;
        Ok(Node::Unary(Box::new(Unary { negate, expr: operand, start })))
    }

    fn paren(&mut self) -> Parse<Node> {
        let open = self.advance();
        let expr = self.expression(0)?;
        if self.peek() != Tok::RightParen {
            return self.unexpected_here();
        }
        let close = self.advance();
        self.height += 1;
        Ok(Node::Paren(Box::new(Paren { expr, span: open.to(close) })))
    }

    fn call(&mut self) -> Parse<Node> {
        let (name, name_span) = (self.word(), self.advance());
        let args = self.arguments()?;
        let Some(function) = function::find(name) else {
            return fault(name_span, format!("unknown function with name {}", quote(name)));
        };
        if function.experimental && !self.syntax.experimental_functions {
            return fault(name_span, format!("function {} is not enabled", quote(name)));
        }
        let span = Span { start: name_span.start, end: self.last_closing };
        Ok(Node::Call(Box::new(Call { function, args, span })))
    }

    /// `(a, b)`; leaves the height of the whole behind.
    fn arguments(&mut self) -> Parse<Vec<Node>> {
        if self.peek() != Tok::LeftParen {
            return self.unexpected_here();
        }
        self.advance();
        let mut args = Vec::new();
        let mut height = 0;
        while self.peek() != Tok::RightParen {
            args.push(self.expression(0)?);
            height = height.max(self.height);
            match self.peek() {
                Tok::Comma => {
                    let comma = self.advance();
                    if self.peek() == Tok::RightParen {
                        return fault(comma, "trailing commas not allowed in function call args");
                    }
                }
                Tok::RightParen => {}
                _ => return self.unexpected_here(),
            }
        }
        self.advance();
        self.height = height + 1;
        self.check_depth(self.height)?;
        Ok(args)
    }

    fn aggregate(&mut self) -> Parse<Node> {
        let name = self.word();
        let start = self.advance().start;
        self.in_aggregation += 1;
        let mut modifier = self.aggregate_modifier()?;
        let mut args = self.arguments()?;
        let height = self.height;
        if modifier.is_none() {
            modifier = self.aggregate_modifier()?;
        }
        self.in_aggregation -= 1;
        self.height = height;
        let span = Span { start, end: self.last_closing };
        let Some(op) = AggregateOp::parse(name) else { return self.unexpected("aggregation", "") };
        if args.is_empty() {
            return fault(span, "no arguments for aggregate expression provided");
        }
        if op.is_experimental() && !self.syntax.experimental_functions {
            let message = format!(
                "{}() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
                op.name()
            );
            return fault(span, message);
        }
        let wanted = if op.takes_parameter() { 2 } else { 1 };
        if args.len() != wanted {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, expected {wanted}, got {}",
                args.len()
            );
            return fault(span, message);
        }
        let expr = args.remove(wanted - 1);
        let (grouping, without) = modifier.unwrap_or_default();
        Ok(Node::Aggregate(Box::new(Aggregate { op, expr, param: args.pop(), grouping, without, span })))
    }

    fn aggregate_modifier(&mut self) -> Parse<Option<(Vec<String>, bool)>> {
        let without = match self.peek() {
            Tok::By => false,
            Tok::Without => true,
            _ => return Ok(None),
        };
        self.advance();
        Ok(Some((self.grouping_labels()?, without)))
    }

    fn binary_modifiers(&mut self) -> Parse<(bool, VectorMatching)> {
        let mut matching = VectorMatching {
            card: Card::OneToOne,
            labels: Vec::new(),
            on: false,
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        };
        let return_bool = self.eat(Tok::Bool);
        if matches!(self.peek(), Tok::On | Tok::Ignoring) {
            matching.on = self.peek() == Tok::On;
            self.advance();
            matching.labels = self.grouping_labels()?;
            if matches!(self.peek(), Tok::GroupLeft | Tok::GroupRight) {
                let left = self.peek() == Tok::GroupLeft;
                matching.card = if left { Card::ManyToOne } else { Card::OneToMany };
                self.advance();
                if self.peek() == Tok::LeftParen {
                    matching.include = self.grouping_labels()?;
                }
            }
        }
        self.fill_modifiers(&mut matching)?;
        Ok((return_bool, matching))
    }

    fn fill_modifiers(&mut self, matching: &mut VectorMatching) -> Parse<()> {
        match self.peek() {
            Tok::Fill => {
                self.advance();
                let value = self.fill_value()?;
                (matching.fill_left, matching.fill_right) = (Some(value), Some(value));
            }
            Tok::FillLeft => {
                self.advance();
                matching.fill_left = Some(self.fill_value()?);
                if self.eat(Tok::FillRight) {
                    matching.fill_right = Some(self.fill_value()?);
                }
            }
            Tok::FillRight => {
                self.advance();
                matching.fill_right = Some(self.fill_value()?);
                if self.eat(Tok::FillLeft) {
                    matching.fill_left = Some(self.fill_value()?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn fill_value(&mut self) -> Parse<f64> {
        if !self.eat(Tok::LeftParen) {
            return self.unexpected_here();
        }
        let negate = self.peek() == Tok::Sub;
        if negate || self.peek() == Tok::Add {
            self.advance();
        }
        if !matches!(self.peek(), Tok::Number | Tok::Duration) {
            return self.unexpected_here();
        }
        let value = self.number_or_duration()?.value;
        if !self.eat(Tok::RightParen) {
            return self.unexpected_here();
        }
        Ok(if negate { -value } else { value })
    }

    /// `(a, b)` after `by`, `without`, `on`, `ignoring`, `group_left` or `group_right`.
    fn grouping_labels(&mut self) -> Parse<Vec<String>> {
        if !self.eat(Tok::LeftParen) {
            return self.unexpected("grouping opts", "\"(\"");
        }
        let mut labels = Vec::new();
        loop {
            if self.eat(Tok::RightParen) {
                return Ok(labels);
            }
            labels.push(self.grouping_label()?);
            match self.peek() {
                Tok::Comma => {
                    self.advance();
                }
                Tok::RightParen => {}
                _ => return self.unexpected("grouping opts", "\",\" or \")\""),
            }
        }
    }

    fn grouping_label(&mut self) -> Parse<String> {
        use Tok::*;
        match self.peek() {
            Aggregator | Bool | By | GroupLeft | GroupRight | Fill | FillLeft | FillRight | Identifier | Ignoring
            | And | Or | Unless | MetricIdentifier | Offset | On | Start | End | Atan2 | Step | Range | Anchored
            | Smoothed | MaxOf | MinOf => {
                let word = self.word().to_owned();
                self.advance();
                Ok(word)
            }
            Str => {
                let span = self.span();
                let label = self.unquoted()?;
                if label.is_empty() {
                    return fault(span, format!("invalid label name for grouping: {}", quote(&label)));
                }
                Ok(label)
            }
            _ => self.unexpected("grouping opts", "label"),
        }
    }
}
