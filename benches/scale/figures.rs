//! The figures of a run, and the tables of docs/performance.md that they make.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::environment::Environment;
use super::gates::{self, Gate};

/// All that was measured with one number of resources.
pub struct Figures {
    pub count: usize,
    rounds: usize,
    rows: Vec<Row>,
    /// Megabytes above idle, the most of all rounds.
    memory: Vec<(String, f64)>,
    /// Of the migration of one resource, on both sides.
    pub commits: Option<f64>,
}

/// An operation in all rounds: (theirs, ours).
pub struct Row {
    pub gate: &'static Gate,
    pairs: Vec<(f64, f64)>,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds,
    Bytes,
}

impl Figures {
    pub fn new(count: usize, rounds: usize) -> Self {
        Self { count, rounds, rows: Vec::new(), memory: Vec::new(), commits: None }
    }

    pub fn time(&mut self, gate: &'static Gate, theirs: Duration, ours: Duration) {
        self.add(gate, Unit::Seconds, (theirs.as_secs_f64(), ours.as_secs_f64()));
    }

    pub fn bytes(&mut self, gate: &'static Gate, theirs: u64, ours: u64) {
        self.add(gate, Unit::Bytes, (theirs as f64, ours as f64));
    }

    fn add(&mut self, gate: &'static Gate, unit: Unit, pair: (f64, f64)) {
        match self.rows.iter_mut().find(|row| std::ptr::eq(row.gate, gate)) {
            Some(row) => row.pairs.push(pair),
            None => self.rows.push(Row { gate, pairs: vec![pair], unit }),
        }
    }

    /// Does something and notes the memory that servers needed for it.
    pub async fn watch<T>(
        &mut self,
        servers: &[(&str, &Environment)],
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        for (_, server) in servers {
            server.forget_peak()?;
        }
        let done = work.await?;
        for (what, server) in servers {
            let peak = server.peak()?;
            match self.memory.iter_mut().find(|(known, _)| known == what) {
                Some((_, most)) => *most = most.max(peak),
                None => self.memory.push(((*what).to_owned(), peak)),
            }
        }
        Ok(done)
    }

    /// The operations that move all resources, each with its rate.
    pub fn rates(&self) -> impl Iterator<Item = (&'static Gate, f64)> {
        self.timed().map(|row| (row.gate, row.rate()))
    }

    fn timed(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.unit == Unit::Seconds && row.gate.least.is_some())
    }
}

impl Row {
    fn theirs(&self) -> f64 {
        median(self.pairs.iter().map(|pair| pair.0))
    }

    fn ours(&self) -> f64 {
        median(self.pairs.iter().map(|pair| pair.1))
    }

    /// How fast, or small, ours is; 1: as theirs.
    fn rate(&self) -> f64 {
        median(self.pairs.iter().map(|pair| pair.0 / pair.1))
    }
}

fn median(of: impl Iterator<Item = f64>) -> f64 {
    let mut of: Vec<f64> = of.collect();
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A number of resources, as people write it.
pub fn thousands(count: usize) -> String {
    if count < 1_000 { count.to_string() } else { format!("{},{:03}", thousands(count / 1_000), count % 1_000) }
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Seconds => format!("{value:.3}"),
            Self::Bytes if value < 1e6 => format!("{:.0} kB", value / 1e3),
            Self::Bytes => format!("{:.1} MB", value / 1e6),
        }
    }
}

impl Display for Figures {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out, "\n{} resources, medians of {} rounds\n", thousands(self.count), self.rounds)?;
        writeln!(out, "| | operation, from the request to the ended record | theirs, s | ours, s | rate | gate |")?;
        writeln!(out, "| --- | --- | --- | --- | --- | --- |")?;
        for row in &self.rows {
            let Row { gate, unit, .. } = row;
            let (theirs, ours) = (unit.show(row.theirs()), unit.show(row.ours()));
            let least = gate.least.map(|least| format!("{least:.2}")).unwrap_or_default();
            writeln!(out, "| {} | {} | {theirs} | {ours} | {:.2} | {least} |", gate.name, gate.what, row.rate())?;
        }
        writeln!(out, "\n| memory above idle | MB |\n| --- | --- |")?;
        for (what, most) in &self.memory {
            writeln!(out, "| {what} | {most:.0} |")?;
        }
        let most = self.memory.iter().map(|(_, most)| *most).fold(0.0, f64::max);
        writeln!(out, "| G9 the most; at most {:.0} | {most:.0} |", gates::memory(self.count))?;
        if let Some(commits) = self.commits {
            let (seconds, most) = (gates::SINGLE_SECONDS, gates::SINGLE_COMMITS);
            writeln!(
                out,
                "\nG12 one resource: at most {seconds} s and {most:.0} commits on both sides; it took {commits:.0} that write."
            )?;
        }
        Ok(())
    }
}

/// The rates with more resources beside those with fewer.
pub struct Growth<'a>(pub &'a [Figures]);

impl Display for Growth<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for pair in self.0.windows(2) {
            let [few, many] = [&pair[0], &pair[1]];
            let [fewer, more] = [thousands(few.count), thousands(many.count)];
            let least = gates::GROWTH;
            writeln!(out, "\n| G8 resources a second | {fewer} | {more} | ratio; gate {least} |")?;
            writeln!(out, "| --- | --- | --- | --- |")?;
            for (before, after) in few.timed().zip(many.timed()) {
                let (slow, fast) = (few.count as f64 / before.ours(), many.count as f64 / after.ours());
                writeln!(
                    out,
                    "| {} {} | {slow:.0} | {fast:.0} | {:.2} |",
                    before.gate.name,
                    before.gate.what,
                    fast / slow
                )?;
            }
        }
        Ok(())
    }
}
