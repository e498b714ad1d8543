//! A tree over several lines, as Prometheus' `Prettify` writes it: a part that is too long for a line gets one line
//! for its head, and its operands lie deeper.

use crate::ast::*;
use crate::parse::Expr;

/// The longest part that stays on a line, in bytes and without its indentation.
const LINE_MAX: usize = 100;

impl Expr {
    /// The query over several lines, wherever a part is longer than a line.
    pub fn pretty(&self) -> String {
        pretty(self.root(), LINE_MAX)
    }
}

fn pretty(root: &Node, line_max: usize) -> String {
    let mut printer = Printer { out: String::new(), line_max };
    printer.node(root, 0);
    printer.out
}

struct Printer {
    out: String,
    line_max: usize,
}

impl Printer {
    fn node(&mut self, node: &Node, level: usize) {
        let whole = node.to_string();
        let fits = whole.len() <= self.line_max;
        match node {
            Node::Aggregate(n) if !fits => {
                self.indent(level);
                self.out.push_str(&super::aggregate_head(n));
                self.out.push_str("(\n");
                if let Some(param) = &n.param {
                    self.node(param, level + 1);
                    self.out.push_str(",\n");
                }
                self.node(&n.expr, level + 1);
                self.close(level);
            }
            Node::Binary(n) if !fits => {
                self.node(&n.lhs, level + 1);
                self.out.push('\n');
                self.indent(level);
                self.out.push_str(&super::operator(n));
                self.out.push('\n');
                self.node(&n.rhs, level + 1);
            }
            Node::Call(n) if !fits => {
                self.indent(level);
                self.out.push_str(n.function.name);
                self.out.push_str("(\n");
                for (i, arg) in n.args.iter().enumerate() {
                    self.out.push_str(if i > 0 { ",\n" } else { "" });
                    self.node(arg, level + 1);
                }
                self.close(level);
            }
            Node::Paren(n) if !fits => {
                self.indent(level);
                self.out.push_str("(\n");
                self.node(&n.expr, level + 1);
                self.close(level);
            }
            Node::Subquery(n) if !fits => {
                self.node(&n.expr, level);
                self.out.push_str(&super::subquery_times(n));
            }
            Node::Unary(n) => {
                self.indent(level);
                self.out.push(if n.negate { '-' } else { '+' });
                // The operand's own indentation stands before the sign.
                let start = self.out.len();
                self.node(&n.expr, level);
                let operand = self.out.split_off(start);
                self.out.push_str(operand.trim());
            }
            Node::StepInvariant(n) => self.node(n, level),
            // A subquery that fits is not indented: so Prometheus has it.
            Node::Subquery(_) => self.out.push_str(&whole),
            _ => {
                self.indent(level);
                self.out.push_str(&whole);
            }
        }
    }

    fn close(&mut self, level: usize) {
        self.out.push('\n');
        self.indent(level);
        self.out.push(')');
    }

    fn indent(&mut self, level: usize) {
        (0..level).for_each(|_| self.out.push_str("  "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn narrow(query: &str) -> String {
        pretty(crate::parse(query).unwrap_or_else(|e| panic!("{query}: {e}")).root(), 10)
    }

    #[test]
    fn what_is_too_long_for_a_line_is_split_at_its_head() {
        for (query, expected) in [
            ("count(a)", "count(a)"),
            ("count by () (requests)", "count(\n  requests\n)"),
            ("topk (3, requests) by (job)", "topk by (job) (\n  3,\n  requests\n)"),
            ("a - b", "a - b"),
            ("aaaa > bool 1", "  aaaa\n> bool\n  1"),
            ("aa - bb - cccc", "  aa - bb\n-\n  cccc"),
            ("aaaa / on (x) group_left bbbb", "  aaaa\n/ on (x) group_left ()\n  bbbb"),
            ("irate(aaaa[5m])", "irate(\n  aaaa[5m]\n)"),
            ("((aaaaaaaa))", "(\n  (aaaaaaaa)\n)"),
            ("-(aaaaaaaaaaaa)", "-(\n  aaaaaaaaaaaa\n)"),
            (
                "max_over_time(rate(aaaa[5m])[1h:] offset 1m)",
                "max_over_time(\n  rate(\n    aaaa[5m]\n  )[1h:] offset 1m\n)",
            ),
            ("aaaaaaaaaaaaaaaa @ start()", "aaaaaaaaaaaaaaaa @ start()"),
        ] {
            assert_eq!(narrow(query), expected, "{query}");
        }
    }

    #[test]
    fn a_line_has_room_for_a_hundred_characters() {
        let name = "n".repeat(97);
        assert_eq!(crate::parse(&format!("-({name})")).unwrap().pretty(), format!("-({name})"));
        assert_eq!(crate::parse(&format!("-({name}nn)")).unwrap().pretty(), format!("-(\n  {name}nn\n)"));
    }
}
