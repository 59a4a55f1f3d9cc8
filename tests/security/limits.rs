//! Every limit, by a client that goes beyond it.

use crate::certs::{Authority, Valid};
use crate::kit::*;
use crate::raw::{GOAWAY, HEADERS, RST_STREAM, Raw, headers};
use crate::running::within;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tonic::Code;
use walcast::client::Upstream;
use walcast::config::{Limits, Permission};
use walcast::model::{Message, Progress};
use walcast::wire::pb;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// An empty message of gRPC.
const EMPTY: [u8; 5] = [0; 5];
const SOON: Duration = Duration::from_millis(300);

async fn open(limits: Limits) -> Stage {
    Stage::new(&options(None, Vec::new()), limits).await
}

/// Waits until the server hangs up.
async fn closed(socket: &mut TcpStream) {
    let mut sink = [0; 1024];
    within(async { while matches!(socket.read(&mut sink).await, Ok(length) if length > 0) {} })
        .await;
}

async fn silent(stage: &Stage) -> TcpStream {
    TcpStream::connect(stage.server.address)
        .await
        .expect("a connection")
}

/// A health check by hand, answered.
async fn checked(raw: &mut Raw, stream: u32) {
    raw.send(HEADERS, END_HEADERS, stream, &headers(HEALTH, &[]))
        .await;
    raw.send(0, END_STREAM, stream, &EMPTY).await;
    within(async {
        while let Some(frame) = raw.next().await {
            if frame.kind == HEADERS && frame.stream == stream {
                return;
            }
        }
        panic!("closed without an answer");
    })
    .await;
}

#[tokio::test]
async fn the_size_of_a_message() {
    let stage = open(Limits {
        request_bytes: 1000,
        ..Limits::default()
    })
    .await;
    let mut client = stage.server.positions().await;
    let mut ask = async |length: usize| {
        let request = pb::GetPositionRequest {
            database: "x".repeat(length),
        };
        within(client.get_position(request))
            .await
            .expect_err("a refusal")
            .code()
    };
    assert_eq!(ask(990).await, Code::NotFound);
    assert_eq!(ask(1001).await, Code::OutOfRange);
}

#[tokio::test]
async fn streams_of_one_client() {
    let grants = ["first", "second"].map(|name| {
        grant(
            name,
            &format!("the-token-of-the-{name}-client"),
            &[],
            &[Permission::Stream],
        )
    });
    let limits = Limits {
        streams_per_client: 2,
        streams: 3,
        ..Limits::default()
    };
    let stage = Stage::new(&options(None, grants.to_vec()), limits).await;
    let client = |name: &str| {
        let token = format!("the-token-of-the-{name}-client");
        upstream(&entry(&stage.server.url(), None, None, Some(&token)))
    };
    // Its connections do not matter: the client is who the token says.
    let (one, again) = (client("first"), client("first"));
    let first = within(one.stream(start("app.db"))).await.expect("a stream");
    let _second = within(again.stream(start("app.db")))
        .await
        .expect("a stream");
    let error = within(one.stream(start("app.db")))
        .await
        .expect_err("one too many");
    assert_eq!(error.reason().as_deref(), Some("TOO_MANY_CALLS"));
    assert!(error.to_string().contains("'first'"), "{error}");
    let other = client("second");
    let _third = within(other.stream(start("app.db")))
        .await
        .expect("another client's stream");
    let error = within(other.stream(start("app.db")))
        .await
        .expect_err("no more in all");
    assert!(error.to_string().contains("this server"), "{error}");
    drop(first);
    poll("a place", || async {
        one.stream(start("app.db")).await.ok()
    })
    .await;
}

#[tokio::test]
async fn connections() {
    let stage = open(Limits {
        connections: 2,
        ..Limits::default()
    })
    .await;
    let mut one = Raw::connect(stage.server.address).await;
    checked(&mut one, 1).await;
    let mut two = Raw::connect(stage.server.address).await;
    checked(&mut two, 1).await;
    closed(&mut silent(&stage).await).await;
    checked(&mut one, 3).await;
    drop(two);
    let url = entry(&stage.server.url(), None, None, None);
    poll("a place", || async { ask(&url).await.ok() }).await;
}

#[tokio::test]
async fn connections_without_authentication() {
    const TOKEN: &str = "the-token-of-a-known-client";
    let grants = vec![grant("known", TOKEN, &[], &[Permission::Stream])];
    let limits = Limits {
        unauthenticated_connections: 2,
        ..Limits::default()
    };
    let stage = Stage::new(&options(None, grants), limits).await;
    let known: Upstream = upstream(&entry(&stage.server.url(), None, None, Some(TOKEN)));
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let call = tokio::spawn(async move { known.report(receiver).await });
    sender.send(progress()).await.expect("an open call");
    let reports = || {
        let count = stage.primary.reports.lock().expect("reports").len();
        async move { Some(count) }
    };
    poll("the report", || async {
        reports().await.filter(|count| *count == 1)
    })
    .await;
    // A probe says nothing of who it is.
    let mut probe = Raw::connect(stage.server.address).await;
    checked(&mut probe, 1).await;
    let _second = silent(&stage).await;
    let _third = silent(&stage).await;
    // The oldest stranger goes.
    within(probe.until_closed(GOAWAY)).await;
    // Who is known stays, and who comes now is let in.
    sender.send(progress()).await.expect("an open call");
    poll("the next report", || async {
        reports().await.filter(|count| *count == 2)
    })
    .await;
    drop(sender);
    within(call)
        .await
        .expect("no panic")
        .expect("the end of the call");
}

fn progress() -> Progress {
    Progress {
        database: "app.db".into(),
        replica_id: "id".into(),
        session_id: "session".into(),
        received: None,
        applied: None,
        durable: None,
        apply_lag_seconds: 0.0,
    }
}

#[tokio::test]
async fn a_stranger_has_few_calls() {
    let grants = vec![grant(
        "known",
        "the-token-of-a-known-client",
        &[],
        &[Permission::Stream],
    )];
    let stage = Stage::new(&options(None, grants), Limits::default()).await;
    let mut raw = Raw::connect(stage.server.address).await;
    let watch = headers("/grpc.health.v1.Health/Watch", &[]);
    for number in 0..17 {
        raw.send(HEADERS, END_HEADERS, 2 * number + 1, &watch).await;
        raw.send(0, END_STREAM, 2 * number + 1, &EMPTY).await;
    }
    within(async {
        loop {
            let frame = raw.next().await.expect("an open connection");
            let text = String::from_utf8_lossy(&frame.payload).into_owned();
            // The status has a message that HPACK may have packed: the flag tells that it is an end.
            if frame.kind == HEADERS && frame.stream == 33 {
                assert!(text.len() > 100, "a refusal with details: {text}");
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn the_time_for_a_handshake_and_a_first_request() {
    let limits = Limits {
        handshake_timeout: SOON,
        ..Limits::default()
    };
    let stage = open(limits.clone()).await;
    closed(&mut silent(&stage).await).await;
    // HTTP/2 is spoken, but nothing asked.
    let mut greeted = Raw::connect(stage.server.address).await;
    within(greeted.until_closed(GOAWAY))
        .await
        .expect("a goodbye");
    let dir = tempfile::tempdir().expect("a directory");
    let pair = Authority::new("a").server(dir.path(), "server", &["localhost"], Valid::Now);
    let encrypted = Stage::new(&options(Some(server_tls(&pair, None)), Vec::new()), limits).await;
    closed(&mut silent(&encrypted).await).await;
}

#[tokio::test]
async fn the_time_for_a_message() {
    let stage = open(Limits {
        handshake_timeout: SOON,
        ..Limits::default()
    })
    .await;
    let mut raw = Raw::connect(stage.server.address).await;
    let get = headers("/walcast.v1.PositionService/GetPosition", &[]);
    raw.send(HEADERS, END_HEADERS, 1, &get).await;
    raw.send(0, 0, 1, &EMPTY[..3]).await;
    within(async {
        while let Some(frame) = raw.next().await {
            if frame.kind == HEADERS && frame.stream == 1 {
                return;
            }
        }
        panic!("closed without an answer");
    })
    .await;
}

#[tokio::test]
async fn a_connection_without_a_call() {
    let stage = open(Limits {
        idle_timeout: SOON,
        ..Limits::default()
    })
    .await;
    // One with a call that says nothing is not idle.
    let mut client = stage.server.positions().await;
    let request = pb::WatchPositionRequest {
        database: "app.db".into(),
    };
    let mut watch = within(client.watch_position(request))
        .await
        .expect("a stream")
        .into_inner();
    within(watch.message())
        .await
        .expect("a position")
        .expect("a position");
    for _ in 0..3 {
        let mut raw = Raw::connect(stage.server.address).await;
        checked(&mut raw, 1).await;
        let goodbye = within(raw.until_closed(GOAWAY)).await.expect("a goodbye");
        assert_eq!(goodbye.payload[4..8], [0; 4], "no error");
    }
    stage.primary.fake.go_to(Some(crate::fake::at(0x4000)));
    within(watch.message())
        .await
        .expect("a position")
        .expect("a position");
}

#[tokio::test]
async fn a_stream_that_nobody_takes() {
    let limits = Limits {
        stall_timeout: SOON,
        streams: 1,
        ..Limits::default()
    };
    let stage = open(limits).await;
    stage.primary.flood.store(true, Ordering::SeqCst);
    let client = upstream(&entry(&stage.server.url(), None, None, None));
    let mut stream = within(client.stream(start("app.db")))
        .await
        .expect("a stream");
    assert!(matches!(
        within(stream.next()).await,
        Some(Ok(Message::Hello(_)))
    ));
    // Nothing is read: the windows fill, and the place becomes free for another.
    let other = upstream(&entry(&stage.server.url(), None, None, None));
    let next = poll("the place", || async {
        other.stream(start("app.db")).await.ok()
    })
    .await;
    drop(next);
    let error = within(async {
        loop {
            match stream.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error,
                None => panic!("an end without an error"),
            }
        }
    })
    .await;
    assert!(error.to_string().contains("cut this stream off"), "{error}");
    assert!(error.is_retryable());
    // The connection is as good as before.
    poll("another stream", || async {
        client.stream(start("app.db")).await.ok()
    })
    .await;
}

/// "Rapid reset": calls that are opened and taken back at once cost the server more than the client.
#[tokio::test]
async fn calls_that_are_reset_at_once() {
    let stage = open(Limits::default()).await;
    let mut raw = Raw::connect(stage.server.address).await;
    let watch = headers("/walcast.v1.PositionService/WatchPosition", &[]);
    for number in 0..20_000_u32 {
        raw.send(HEADERS, END_HEADERS, 2 * number + 1, &watch).await;
        raw.send(RST_STREAM, 0, 2 * number + 1, &8_u32.to_be_bytes())
            .await;
    }
    // Whether the server had enough of it or kept up: it holds no call of those, and serves others.
    poll("no call that waits", || async {
        (stage.primary.fake.watchers() == 0).then_some(())
    })
    .await;
    let url = entry(&stage.server.url(), None, None, None);
    ask(&url).await.expect("an answer");
}

/// Headers without an end: HTTP/2 lets them come in any number of frames.
#[tokio::test]
async fn headers_without_an_end() {
    const CONTINUATION: u8 = 9;
    let stage = open(Limits::default()).await;
    let mut raw = Raw::connect(stage.server.address).await;
    raw.send(HEADERS, 0, 1, &headers(HEALTH, &[])).await;
    let more = headers(HEALTH, &[("x", &"y".repeat(8000))]);
    for _ in 0..10_000 {
        raw.send(CONTINUATION, 0, 1, &more).await;
    }
    let goodbye = within(raw.until_closed(GOAWAY)).await;
    if let Some(goodbye) = goodbye {
        assert_ne!(goodbye.payload[4..8], [0; 4], "an error");
    }
    let url = entry(&stage.server.url(), None, None, None);
    ask(&url).await.expect("an answer");
}
