//! The collector from outside: configuration files, and the whole service in-process on loopback.

mod alertmanager;
mod api;
mod api_documents;
mod aws;
mod config;
mod ecs;
mod ecs_fleet;
mod http_sd;
mod moto;
mod otlp;
mod our_rules;
mod peers;
mod postgres;
mod programs;
mod prometheus_file;
mod protobuf;
mod remote_query;
mod remote_write;
mod replicas;
mod rig;
mod ui;
mod walk;
