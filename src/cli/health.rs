//! `ferry health`: whether a server is ready, for health checks where no other client is at hand.

use crate::remote::Remote;

/// Asks the server for its readiness; exit code 0: it is ready.
pub(super) async fn run(server: &str) -> anyhow::Result<()> {
    let url =
        server.parse().map_err(|_| anyhow::anyhow!("--server must be an address such as http://127.0.0.1:8081"))?;
    Remote::new(url, "")?.ready().await?;
    Ok(())
}
