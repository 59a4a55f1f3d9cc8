//! What a stranger, or a client that does not read, can hold of the port.

use crate::access::guarding;
use crate::fake::Handle;
use crate::running::{Running, within};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use walcast::config::Limits;
use walcast::security::ServerSecurity;

const PROBE: &[u8] = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";

async fn connect(server: &Running) -> TcpStream {
    let connected = TcpStream::connect(server.address).await;
    connected.expect("a connection")
}

/// Asks again and again, and never reads: it ends once nothing more is taken of it, or with the connection.
async fn pipeline(server: &Running) -> TcpStream {
    let mut stream = connect(server).await;
    let requests = PROBE.repeat(100);
    let pushed = async { while stream.write_all(&requests).await.is_ok() {} };
    let _ = tokio::time::timeout(Duration::from_millis(300), pushed).await;
    stream
}

/// Waits until the server hangs up.
async fn closed(mut stream: TcpStream) {
    let mut sink = vec![0; 1 << 16];
    within(async { while matches!(stream.read(&mut sink).await, Ok(length) if length > 0) {} })
        .await;
}

#[tokio::test]
async fn strangers_that_do_not_read_make_room_for_others() {
    let limits = Limits {
        connections: 8,
        unauthenticated_connections: 4,
        ..Limits::default()
    };
    let database = Handle::primary("tenants/a.db");
    let server = guarding(&[&database], limits).await;
    let token =
        "GET /metrics HTTP/1.1\r\nhost: x\r\nauthorization: Bearer token-of-the-monitoring\r\n\r\n";
    let mut known = connect(&server).await;
    let answered = async |known: &mut TcpStream| {
        known.write_all(token.as_bytes()).await.expect("sent");
        let mut some = [0; 15];
        within(known.read_exact(&mut some))
            .await
            .expect("an answer");
        assert_eq!(&some, b"HTTP/1.1 200 OK");
    };
    answered(&mut known).await;
    let mut held = Vec::new();
    for _ in 0..12 {
        held.push(pipeline(&server).await);
    }
    // They have not taken all places: a probe and the monitoring get in, and who was let in stays.
    assert_eq!(server.get("/livez").await.status, 200);
    let monitoring = "authorization: Bearer token-of-the-monitoring\r\n";
    assert_eq!(server.ask("GET /metrics", monitoring).await.status, 200);
    let mut sink = vec![0; 1 << 20];
    while let Ok(Ok(length)) =
        tokio::time::timeout(Duration::from_millis(200), known.read(&mut sink)).await
    {
        assert!(length > 0, "the one that was let in was sent away");
    }
    answered(&mut known).await;
    server.end().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    let limits = Limits {
        stall_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = Running::limited(&[], None, ServerSecurity::open(), limits).await;
    // Long enough to fill what the kernel holds.
    let mut stalled = connect(&server).await;
    let requests = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100);
    let error = within(async {
        loop {
            if let Err(error) = stalled.write_all(&requests).await {
                return error;
            }
        }
    })
    .await;
    let kinds = [
        std::io::ErrorKind::ConnectionReset,
        std::io::ErrorKind::BrokenPipe,
    ];
    assert!(kinds.contains(&error.kind()), "{error}");
    server.end().await;
}

#[tokio::test]
async fn silence_ends_a_connection() {
    let limits = Limits {
        handshake_timeout: Duration::from_millis(200),
        idle_timeout: Duration::from_millis(400),
        ..Limits::default()
    };
    let server = Running::limited(&[], None, ServerSecurity::open(), limits).await;
    // Before the first request, in the middle of it, and after it.
    closed(connect(&server).await).await;
    let mut half = connect(&server).await;
    half.write_all(&PROBE[..20]).await.expect("sent");
    closed(half).await;
    let mut idle = connect(&server).await;
    idle.write_all(PROBE).await.expect("sent");
    closed(idle).await;
    server.end().await;
}

#[tokio::test]
async fn connections_in_all() {
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let server = Running::limited(&[], None, ServerSecurity::open(), limits).await;
    let mut one = connect(&server).await;
    one.write_all(PROBE).await.expect("sent");
    let mut some = [0; 15];
    within(one.read_exact(&mut some)).await.expect("an answer");
    closed(connect(&server).await).await;
    server.end().await;
}
