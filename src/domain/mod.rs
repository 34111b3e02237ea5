//! The rules of Ferry: what a resource is, what an export takes along, what an import would do.
//!
//! No async, no I/O, no clock, no random: everything here is a function of its arguments. The lint refuses what
//! `clippy.toml` lists: clock, random, I/O.

#![warn(clippy::disallowed_methods)]

pub mod approval;
pub mod carried;
pub mod checklist;
pub mod closure;
pub mod content;
pub mod definition;
pub mod difference;
pub mod failure;
pub mod graph;
pub mod id_map;
pub mod impact;
pub mod import_plan;
pub mod json;
pub mod json_path;
pub mod manifest;
pub mod outcome;
pub mod overlay;
pub mod pages;
pub mod permission;
pub mod record;
pub mod resource;
pub mod resource_type;
pub mod sight;
pub mod transfer;
pub mod trust;
pub mod type_file;
mod type_overlaps;
pub mod value_rule;
pub mod window;
mod words;
