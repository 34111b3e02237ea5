//! Counts what passes on its way to a server and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub struct Wire {
    pub url: String,
    bytes: Arc<AtomicU64>,
}

impl Wire {
    /// Before a server's URL.
    pub async fn before(url: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let bytes = Arc::new(AtomicU64::new(0));
        let (address, counted) = (url.trim_start_matches("http://").to_owned(), bytes.clone());
        let url = format!("http://{}", listener.local_addr()?);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&address).await else { continue };
                // What a small answer waits for is not the product's doing.
                let _ = client.set_nodelay(true).and(server.set_nodelay(true));
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(carry(from_client, to_server, counted.clone()));
                tokio::spawn(carry(from_server, to_client, counted.clone()));
            }
        });
        Ok(Self { url, bytes })
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

async fn carry(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, bytes: Arc<AtomicU64>) {
    let mut piece = vec![0; 256 * 1024];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        bytes.fetch_add(count as u64, Ordering::Relaxed);
        if to.write_all(&piece[..count]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
