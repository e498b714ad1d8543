//! The Prometheus query language: text in, value out. Pure: data comes through a trait, `now` is an argument.
