//! Servers that are no Ferry.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How it answers each request.
#[derive(Debug, Clone)]
pub enum Manner {
    /// With this, then it ends the connection.
    Says(String),
    /// With the first, then with the second again and again.
    NeverEnds(String, String),
    /// Not at all.
    Silent,
}

/// A server that answers everything in one manner.
pub struct Strange {
    pub address: SocketAddr,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Strange {
    pub async fn server(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = asked.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(answer(stream, manner.clone()));
            }
        });
        Self { address, asked, task }
    }

    /// A whole answer of a status and a body.
    pub async fn saying(status: &str, more: &str, body: &str) -> Self {
        let head = format!("HTTP/1.1 {status}\r\n{more}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
        Self::server(Manner::Says(head + body)).await
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often it was connected to.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Strange {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(stream: TcpStream, manner: Manner) {
    let (mut from, mut to) = stream.into_split();
    let (mut head, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match from.read(&mut piece).await {
            Ok(read) if read > 0 => head.extend_from_slice(&piece[..read]),
            _ => return,
        }
    }
    // What follows is read too, so that the answer is not lost in a reset.
    let read = tokio::spawn(async move { while from.read(&mut piece).await.is_ok_and(|read| read > 0) {} });
    match manner {
        Manner::Says(text) => drop(to.write_all(text.as_bytes()).await),
        Manner::NeverEnds(head, rest) => {
            drop(to.write_all(head.as_bytes()).await);
            while to.write_all(rest.as_bytes()).await.is_ok() {}
        }
        Manner::Silent => {
            drop(read.await);
            return;
        }
    }
    drop(to.shutdown().await);
    drop(read.await);
}
