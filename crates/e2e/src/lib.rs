//! The real binaries together: starts the whole suite on loopback and tells its story.
//!
//! What comes in: where the binaries lie, and ports. What goes out: a running suite, a report of what
//! was seen. It promises to leave no process behind. It knows the programs only by their command lines,
//! ports and APIs, as a user does.

pub mod bench;
pub mod client;
pub mod options;
pub mod process;
pub mod report;
pub mod story;
pub mod suite;
pub mod terminal;
pub mod trace_sink;
