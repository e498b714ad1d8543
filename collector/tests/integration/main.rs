//! The collector from outside: configuration files, and the whole service in-process on loopback.

mod api;
mod config;
mod rig;
