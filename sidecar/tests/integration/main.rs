//! The whole sidecar in this process, between a fake task, an app and a backend for traces; and its
//! command line.

mod command_line;
mod setup;
mod task_life;
mod stop;
mod whole;
