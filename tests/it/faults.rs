//! Whatever ends in the middle: it finishes after all, once, and leaves nothing behind.

mod cancelled;
mod cleaned_bytes;
mod damaged;
mod frozen_disk;
mod full_disk;
mod half_open;
pub mod invariants;
mod killed_imports;
mod lost_commits;
mod lost_connections;
pub mod online;
mod outages;
mod repeated;
mod slow_ways;
mod small_pools;
mod stopped_servers;
mod stopped_workers;
mod strange_targets;
mod targets;
mod turns;
