//! Ferry moves the resources of a BI and data-development platform from one environment to another.

pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod db;
pub mod domain;
pub mod jobs;
pub mod package;
pub mod page;
pub mod planning;
pub mod postgres;
pub mod remote;
pub mod secrets;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod trust;
pub mod wire;
