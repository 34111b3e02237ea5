//! What is measured, and what it has to reach.

/// An operation beside another way of doing the same.
#[derive(Debug)]
pub struct Gate {
    pub name: &'static str,
    /// The operation, beside what.
    pub what: &'static str,
    /// The least rate.
    pub least: Option<f64>,
}

const fn gate(name: &'static str, what: &'static str, least: f64) -> Gate {
    Gate { name, what, least: Some(least) }
}

pub static EXPORT: Gate = gate("G1", "export, beside `pg_dump -Fc`", 0.7);
pub static IMPORT: Gate = gate("G2", "import, all new, beside `pg_restore -1`", 0.45);
pub static UNCHANGED: Gate = gate("G3", "import, nothing changed", 3.0);
pub static CHANGED: Gate = gate("G4", "import, all changed", 0.5);
pub static ONLINE: Gate = gate("G5", "online migration, all new, beside the pipe of both", 0.55);
pub static ONLINE_UNCHANGED: Gate = gate("G6", "online migration, nothing changed", 4.0);
pub static WIRE: Gate = gate("G6", "bytes on the wire then, beside those of the definitions", 1.0 / 0.015);
pub static CHANGED_IDS: Gate = gate("G7", "import with changed IDs, beside the import of all new", 0.8);
pub static PACKAGE: Gate = gate("G10", "package, beside the dump", 1.0 / 1.1);
pub static SINGLE: Gate =
    Gate { name: "G12", what: "online migration of one resource, beside an empty request to both", least: None };

/// The rate at more resources against that at fewer.
pub const GROWTH: f64 = 0.8;
/// Seconds for the migration of one resource, and commits on both sides.
pub const SINGLE_SECONDS: f64 = 0.12;
pub const SINGLE_COMMITS: f64 = 25.0;

/// Memory above idle, in MB.
pub fn memory(count: usize) -> f64 {
    match count {
        ..=10_000 => 64.0,
        10_001..=100_000 => 150.0,
        _ => 512.0,
    }
}
