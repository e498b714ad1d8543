//! The whole sidecar in this process, between a fake task, an app and a backend for traces; and its
//! command line.

mod bad_input;
mod clients;
mod command_line;
mod driver;
mod firelens;
mod health;
mod inject;
mod outward;
mod peers;
mod probes;
mod settings;
mod setup;
mod stop;
mod task_life;
mod whole;
