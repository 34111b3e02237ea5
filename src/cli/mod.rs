//! The command line: `serve`, `demo`, and commands that speak to a server as any client does.

mod demo;
mod health;
mod keys;
mod serve;
mod token;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Moves the resources of a BI and data-development platform from one environment to another.
#[derive(Debug, Parser)]
#[command(name = "ferry", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server.
    Serve {
        /// Settings in TOML; every key can also be given as FERRY__SECTION__KEY.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Run a test and a production environment with sample resources, and migrate between them.
    Demo(demo::Options),
    /// Ask a server whether it is ready; exit code 0: it is.
    Health {
        /// The server's address.
        #[arg(long, env = "FERRY_SERVER", default_value = "http://127.0.0.1:8081")]
        server: String,
    },
    /// Print the API's OpenAPI document.
    Openapi,
    /// The secret key of an environment.
    Keys {
        #[command(subcommand)]
        command: keys::Command,
    },
    /// API tokens.
    Token {
        #[command(subcommand)]
        command: token::Command,
    },
}

/// Which server, and as whom.
#[derive(Debug, Args)]
struct Client {
    /// The server's address.
    #[arg(long, env = "FERRY_SERVER", default_value = "http://127.0.0.1:8081")]
    server: String,
    /// A token of a user there.
    #[arg(long, env = "FERRY_TOKEN", hide_env_values = true)]
    token: String,
}

/// Does what the command line says. Exit code 0: done.
///
/// # Errors
/// What went wrong, for people.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Serve { config } => serve::run(config).await,
        Command::Demo(options) => demo::run(options).await,
        Command::Health { server } => health::run(&server).await,
        Command::Openapi => {
            say(&crate::api::document());
            Ok(())
        }
        Command::Keys { command } => keys::run(command).await,
        Command::Token { command } => token::run(command).await,
    }
}

/// Writes a line for the user; a closed pipe is no error.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
