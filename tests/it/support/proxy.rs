//! A TCP proxy that fails as it is told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What it does, once; a prefix is that of the request, such as `POST /api/v1/imports`.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// Resets the connection once so many bytes of such a request, and of what follows it, have gone up.
    CutAfter(&'static str, u64),
    /// Sends the request on and resets the connection when the answer comes.
    LoseAnswer(&'static str),
    /// Delivers a small request twice at once; the second answer goes nowhere.
    Twice(&'static str),
    /// Lets so many bytes of such a request, and of what follows it, go up and swallows the rest.
    SwallowAfter(&'static str, u64),
    /// Gives an answer of its own to such a request, and ends the connection.
    Answer(&'static str, &'static str),
    /// Ends a connection before it is used.
    Refuse,
}

impl Fault {
    fn begins(self, request: &[u8]) -> bool {
        match self {
            Self::CutAfter(prefix, _)
            | Self::SwallowAfter(prefix, _)
            | Self::Answer(prefix, _)
            | Self::LoseAnswer(prefix)
            | Self::Twice(prefix) => request.starts_with(prefix.as_bytes()),
            Self::Refuse => false,
        }
    }
}

#[derive(Default)]
struct State {
    faults: Mutex<Vec<Fault>>,
    sent: AtomicU64,
    received: AtomicU64,
    done: AtomicU64,
}

/// A proxy before an address.
pub struct Proxy {
    pub address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn before(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, state) = (listener.local_addr().unwrap(), Arc::new(State::default()));
        let shared = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, upstream, shared.clone()));
            }
        });
        Self { address, state, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Does this once; several wait for their turn.
    pub fn once(&self, fault: Fault) {
        self.state.faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    /// What was not done yet is not done any more.
    pub fn forget(&self) {
        self.state.faults.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Bytes that went up so far.
    pub fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::SeqCst)
    }

    /// Bytes that came down so far.
    pub fn received(&self) -> u64 {
        self.state.received.load(Ordering::SeqCst)
    }

    /// Faults done so far.
    pub fn done(&self) -> u64 {
        self.state.done.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    /// Takes the first fault that fits; it is done from here on.
    fn take(&self, fits: impl Fn(Fault) -> bool) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let at = faults.iter().position(|fault| fits(*fault))?;
        self.done.fetch_add(1, Ordering::SeqCst);
        Some(faults.remove(at))
    }
}

async fn forward(client: TcpStream, upstream: SocketAddr, state: Arc<State>) {
    if state.take(|fault| matches!(fault, Fault::Refuse)).is_some() {
        return;
    }
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let lose = Arc::new(AtomicBool::new(false));
    let lost = lose.clone();
    let up = async {
        let (mut piece, mut left, mut swallow) = (vec![0; 64 * 1024], None, false);
        loop {
            let read = from_client.read(&mut piece).await.ok().filter(|read| *read > 0)?;
            match state.take(|fault| fault.begins(&piece[..read])) {
                Some(Fault::CutAfter(_, bytes)) => left = Some(bytes),
                Some(Fault::SwallowAfter(_, bytes)) => (left, swallow) = (Some(bytes), true),
                Some(Fault::Answer(_, answer)) => return Some(answer),
                Some(Fault::LoseAnswer(_)) => lose.store(true, Ordering::SeqCst),
                Some(Fault::Twice(_)) => drop(tokio::spawn(deliver(upstream, piece[..read].to_vec()))),
                Some(Fault::Refuse) | None => {}
            }
            let pass = left.map_or(read as u64, |left| left.min(read as u64));
            to_server.write_all(&piece[..pass as usize]).await.ok()?;
            state.sent.fetch_add(pass, Ordering::SeqCst);
            left = left.map(|left| left - pass);
            if left == Some(0) && !swallow {
                return None;
            }
        }
    };
    let down = async {
        let mut piece = vec![0; 64 * 1024];
        loop {
            let read = from_server.read(&mut piece).await.ok().filter(|read| *read > 0)?;
            if lost.load(Ordering::SeqCst) {
                return None::<&'static str>;
            }
            to_client.write_all(&piece[..read]).await.ok()?;
            state.received.fetch_add(read as u64, Ordering::SeqCst);
        }
    };
    // Whichever ends first ends both.
    let answer = tokio::select! {
        answer = up => answer,
        answer = down => answer,
    };
    match answer {
        Some(answer) => drop(to_client.write_all(answer.as_bytes()).await),
        // A reset, not an end: the client is told nothing more.
        None => drop(to_client.reunite(from_client).map(|client| client.set_zero_linger())),
    }
}

async fn deliver(upstream: SocketAddr, request: Vec<u8>) {
    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
    if server.write_all(&request).await.is_ok() {
        drop(server.read(&mut [0; 1024]).await);
    }
}
