//! The query engine from outside: scripts, random texts, and Prometheus' own answers.

#![expect(clippy::unwrap_used, reason = "tests through and through, their helpers too")]

mod columns;
mod differential;
mod parse_errors;
mod parsers;
mod robustness;
mod scripts;
mod statistics;
