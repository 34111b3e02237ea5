//! A proxy that takes everything at once and passes it on slowly, as one does that keeps bodies before a slow way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Bytes pass in so many portions a second.
const PORTIONS: u32 = 50;

/// A proxy before an address.
pub struct Buffering {
    address: SocketAddr,
    taken: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Buffering {
    /// Passes on so many bytes a second.
    pub async fn before(upstream: SocketAddr, rate: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, taken) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
        let counted = taken.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, upstream, (rate / PORTIONS) as usize, counted.clone()));
            }
        });
        Self { address, taken, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Bytes that it has taken so far.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::SeqCst)
    }
}

impl Drop for Buffering {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ends with the client.
async fn forward(client: TcpStream, upstream: SocketAddr, portion: usize, taken: Arc<AtomicU64>) {
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (keep, mut kept) = mpsc::unbounded_channel::<Vec<u8>>();
    let take = async {
        let mut piece = vec![0; 256 * 1024];
        while let Some(read) = from_client.read(&mut piece).await.ok().filter(|read| *read > 0) {
            taken.fetch_add(read as u64, Ordering::SeqCst);
            if keep.send(piece[..read].to_vec()).is_err() {
                break;
            }
        }
    };
    let pass_on = async {
        let mut pace = tokio::time::interval(Duration::from_secs(1) / PORTIONS);
        while let Some(piece) = kept.recv().await {
            for portion in piece.chunks(portion) {
                pace.tick().await;
                if to_server.write_all(portion).await.is_err() {
                    return;
                }
            }
        }
    };
    tokio::select! {
        () = take => {}
        () = pass_on => {}
        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
    }
}
