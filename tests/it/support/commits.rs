//! A proxy before Postgres that loses the answer to one commit: it is done, and nobody is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The message of the wire protocol, and what its answer holds.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";
const DONE: &[u8] = b"COMMIT\0";

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A proxy before the server of a database.
pub struct Commits {
    address: SocketAddr,
    left: Arc<AtomicI64>,
    down: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Commits {
    pub async fn before(database: &str) -> Self {
        let upstream: PgConnectOptions = database.parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, left) = (listener.local_addr().unwrap(), Arc::new(AtomicI64::new(0)));
        let shared = left.clone();
        let down = watch::Sender::new(false);
        let state = down.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut ends = state.subscribe();
                if *ends.borrow_and_update() {
                    continue;
                }
                let forwarding = forward(client, upstream.clone(), shared.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = forwarding => {}
                        _ = ends.changed() => {}
                    }
                });
            }
        });
        Self { address, left, down, task }
    }

    /// The same database through the proxy.
    pub fn url(&self, database: &str) -> String {
        let name = database.split('?').next().unwrap().rsplit('/').next().unwrap();
        format!("postgres://ferry@{}/{name}", self.address)
    }

    /// The database is not there from now on, as long as what this gives is kept.
    pub fn outage(&self) -> Outage<'_> {
        self.down.send_replace(true);
        Outage(self)
    }

    /// Loses the answer to one commit from now on: the first, the second …
    pub fn lose(&self, nth: i64) {
        self.left.store(nth, Ordering::SeqCst);
    }

    /// That answer is lost.
    pub fn lost(&self) -> bool {
        self.left.load(Ordering::SeqCst) <= 0
    }
}

/// Ends with its drop.
pub struct Outage<'a>(&'a Commits);

impl Drop for Outage<'_> {
    fn drop(&mut self) {
        self.0.down.send_replace(false);
    }
}

impl Drop for Commits {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn holds(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

async fn forward(client: TcpStream, upstream: PgConnectOptions, left: Arc<AtomicI64>) {
    let (host, port) = (upstream.get_host().to_owned(), upstream.get_port());
    let folder = upstream.get_socket().map(|folder| folder.to_string_lossy().into_owned());
    let folder = folder.or_else(|| host.starts_with('/').then(|| host.clone()));
    let server: Box<dyn Stream> = match folder {
        Some(folder) => Box::new(UnixStream::connect(format!("{folder}/.s.PGSQL.{port}")).await.unwrap()),
        None => Box::new(TcpStream::connect((host.as_str(), port)).await.unwrap()),
    };
    client.set_nodelay(true).unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let (mut up, mut down) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut losing = false;
    loop {
        tokio::select! {
            read = from_client.read(&mut up) => {
                let Some(read) = read.ok().filter(|read| *read > 0) else { break };
                // What was lost already counts on below nothing.
                losing |= holds(&up[..read], COMMIT) && left.fetch_sub(1, Ordering::SeqCst) == 1;
                if to_server.write_all(&up[..read]).await.is_err() {
                    break;
                }
            }
            read = from_server.read(&mut down) => {
                let Some(read) = read.ok().filter(|read| *read > 0) else { break };
                // It is done by now.
                if losing && holds(&down[..read], DONE) {
                    break;
                }
                if !losing && to_client.write_all(&down[..read]).await.is_err() {
                    break;
                }
            }
        }
    }
}
