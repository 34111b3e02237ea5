//! `ferry token create`: a new token of the user whose token is given.

use anyhow::Context;
use clap::Subcommand;

use crate::remote::{Allowed, Remote};

use super::{Client, say};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a token and print it, this once.
    Create {
        #[command(flatten)]
        client: Client,
        /// What to call it.
        #[arg(long)]
        name: String,
        /// When it ends, such as 2027-01-31T00:00:00Z.
        #[arg(long)]
        expires_at: Option<String>,
        /// What it may do, if less than its user: `migration.import`, …
        #[arg(long = "permission")]
        permissions: Vec<String>,
    },
}

pub(super) async fn run(command: Command) -> anyhow::Result<()> {
    let Command::Create { client, name, expires_at, permissions } = command;
    let url = Allowed::default().check(&client.server).map_err(|reason| anyhow::anyhow!("--server {reason}"))?;
    let remote = Remote::new(url, &client.token)?;
    let user = remote.whoami().await.context("the server did not say whose token this is")?.user_id;
    let permissions = if permissions.is_empty() { None } else { Some(permissions) };
    let body = serde_json::json!({"name": name, "expires_at": expires_at, "permissions": permissions});
    let made = remote.create_token(user, &body).await?;
    say(&made.token.unwrap_or_default());
    Ok(())
}
