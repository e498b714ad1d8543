//! The suite as a whole: the demo's story with the real binaries, and files that must agree with them.

mod bad_input;
mod deployment;
mod remote_write;
mod story;
