//! Arguments → config → command.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use rustix::fs::Mode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    // Whatever we make on the disk is for us alone: files 0600, folders 0700.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    match ferry::cli::run(ferry::cli::Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "ferry: {error:#}");
            ExitCode::FAILURE
        }
    }
}
