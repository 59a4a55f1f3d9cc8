//! The port in this process, and a client that is nothing but a socket.

use crate::fake::Handle;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use walcast::config::{Limits, Readiness};
use walcast::http::{HttpOptions, Recent, serve};
use walcast::model::ProcessMeters;
use walcast::security::ServerSecurity;
use walcast::server::Registry;

/// What a test waits for at most.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Running {
    pub address: SocketAddr,
    pub registry: Registry,
    pub readiness: watch::Sender<Readiness>,
    pub draining: CancellationToken,
    pub meters: Arc<ProcessMeters>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// The values of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let named = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value).collect()
    }
}

impl Running {
    pub async fn start(databases: &[&Handle]) -> Running {
        Running::with(databases, None, ServerSecurity::open()).await
    }

    pub async fn with(
        databases: &[&Handle],
        max_staleness: Option<Duration>,
        security: ServerSecurity,
    ) -> Running {
        Running::limited(databases, max_staleness, security, Limits::default()).await
    }

    pub async fn limited(
        databases: &[&Handle],
        max_staleness: Option<Duration>,
        security: ServerSecurity,
        limits: Limits,
    ) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let registry = Registry::new(max_staleness);
        for database in databases {
            registry.add(database.served()).expect("unique names");
        }
        let (readiness, receiver) = watch::channel(Readiness::All);
        let draining = CancellationToken::new();
        let meters = Arc::new(ProcessMeters::default());
        let options = HttpOptions {
            readiness: receiver,
            server_id: "node-1".to_owned(),
            limits,
            listen: "walcast-box:0".to_owned(),
            grpc: None,
            meters: meters.clone(),
            recent: Recent::default(),
            security,
            draining: draining.clone(),
        };
        let shutdown = CancellationToken::new();
        let (signal, served) = (shutdown.clone(), registry.clone());
        let task = tokio::spawn(async move {
            serve(listener, served, options, signal.cancelled()).await;
        });
        Running {
            address,
            registry,
            readiness,
            draining,
            meters,
            shutdown,
            task,
        }
    }

    /// Sends the first line and the headers; each header ends with a line's end.
    pub async fn open(&self, first: &str, headers: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address)
            .await
            .expect("a connection");
        let request =
            format!("{first} HTTP/1.1\r\nhost: localhost\r\n{headers}connection: close\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("a request");
        stream
    }

    pub async fn ask(&self, first: &str, headers: &str) -> Answer {
        answer(self.open(first, headers).await).await
    }

    /// Sends a whole request.
    pub async fn say(&self, request: &str) -> Answer {
        let connected = TcpStream::connect(self.address).await;
        let mut stream = connected.expect("a connection");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("a request");
        answer(stream).await
    }
    pub async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), "").await
    }

    /// Ends it; open pages end as well.
    pub async fn end(self) {
        self.shutdown.cancel();
        within(self.task).await.expect("no panic");
    }
}

async fn answer(mut stream: TcpStream) -> Answer {
    let mut text = String::new();
    within(stream.read_to_string(&mut text))
        .await
        .expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    Answer {
        status: status.expect("a status"),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// Fails the test if it takes too long.
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .expect("it took too long")
}
