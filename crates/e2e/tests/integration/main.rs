//! The suite as a whole: the demo's story with the real binaries, and files that must agree with them.

mod deployment;
mod story;
