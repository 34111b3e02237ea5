//! Arguments → config → command.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use rustix::fs::Mode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long the program waits, once its command has ended, for what asks a disk.
const LAST: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // Whatever we make on the disk is for us alone: files 0600, folders 0700.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let cli = ferry::cli::Cli::parse();
    let ended =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Into::into).and_then(|runtime| {
            let ended = runtime.block_on(ferry::cli::run(cli));
            // A disk that does not answer must not hold up the end.
            runtime.shutdown_timeout(LAST);
            ended
        });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "ferry: {error:#}");
            ExitCode::FAILURE
        }
    }
}
