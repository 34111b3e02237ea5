//! Whatever ends in the middle: it finishes after all, once, and leaves nothing behind.

mod invariants;
mod killed_imports;
mod lost_connections;
mod stopped_workers;
