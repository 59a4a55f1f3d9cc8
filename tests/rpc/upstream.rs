//! What a replica's client says of servers that refuse, end, or are none.

use crate::fake::*;
use crate::running::{Running, within};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::pin::Pin;
use std::time::Duration;
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status, Streaming};
use walcast::client::Upstream;
use walcast::model::{Message, Progress, StreamStart};
use walcast::wire::pb;

pub fn start(database: &str) -> StreamStart {
    StreamStart {
        database: database.into(),
        position: None,
        dbsum: None,
        frame_cksum: None,
        replica_id: "id".into(),
        replica_name: "name".into(),
        lz4: true,
        recent: false,
        page_size: 0,
        address: String::new(),
        transient: false,
        resume_only: false,
    }
}

/// A server that answers every stream with one message.
struct Odd(pb::StreamResponse);

#[tonic::async_trait]
impl pb::replication_service_server::ReplicationService for Odd {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<pb::StreamResponse, Status>> + Send>>;

    async fn stream(
        &self,
        _: Request<pb::StreamRequest>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(self
            .0
            .clone())]))))
    }

    type ReadCopyStream = Pin<Box<dyn Stream<Item = Result<pb::ReadCopyResponse, Status>> + Send>>;

    async fn read_copy(
        &self,
        _: Request<pb::ReadCopyRequest>,
    ) -> Result<Response<Self::ReadCopyStream>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn report_progress(
        &self,
        _: Request<Streaming<pb::ReportProgressRequest>>,
    ) -> Result<Response<pb::ReportProgressResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

async fn odd(response: pb::StreamResponse) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let service = pb::replication_service_server::ReplicationServiceServer::new(Odd(response));
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming),
    );
    url
}

/// URLs of a server of a later version, and of one that sends nonsense.
pub async fn odd_servers() -> (String, String) {
    // A body that this version does not know arrives as none.
    let unknown = pb::StreamResponse { body: None };
    let beat = pb::Heartbeat {
        position: "nonsense".into(),
        clock_us: 0,
    };
    let invalid = pb::StreamResponse {
        body: Some(pb::stream_response::Body::Heartbeat(beat)),
    };
    (odd(unknown).await, odd(invalid).await)
}

async fn error_of(url: &str, database: &str) -> walcast::client::ClientError {
    let upstream = Upstream::connect_lazy(url).expect("a URL");
    within(upstream.stream(start(database)))
        .await
        .expect_err("no stream")
}

#[tokio::test]
async fn messages_arrive_in_order_and_reports_at_the_primary() {
    let primary = FakePrimary::new("app.db");
    *primary.script.lock().unwrap() = vec![Ok(hello()), Ok(heartbeat(0x20)), Ok(heartbeat(0x40))];
    let server = Running::start(vec![primary.served()]).await;
    let upstream = Upstream::connect_lazy(&server.url()).expect("a URL");
    let mut stream = within(upstream.stream(start("app.db")))
        .await
        .expect("a stream");
    assert!(matches!(
        within(stream.next()).await,
        Some(Ok(Message::Hello(_)))
    ));
    for offset in [0x20, 0x40] {
        match within(stream.next()).await {
            Some(Ok(Message::Heartbeat { position, .. })) => assert_eq!(position, at(offset)),
            other => panic!("{other:?}"),
        }
    }
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let call = tokio::spawn(async move { upstream.report(receiver).await });
    for offset in [0x20, 0x40] {
        let progress = Progress {
            database: "app.db".into(),
            replica_id: "id".into(),
            session_id: "session".into(),
            received: Some(at(offset)),
            applied: Some(at(offset)),
            durable: None,
            apply_lag_seconds: 0.001,
        };
        sender.send(progress).await.expect("an open call");
    }
    drop(sender);
    within(call)
        .await
        .expect("no panic")
        .expect("the call ends with its sender");
    let reports = primary.reports.lock().unwrap();
    assert_eq!(reports.len(), 2);
    assert_eq!(reports[1].applied, Some(at(0x40)));
}

#[tokio::test]
async fn a_drained_server_says_when_to_come_back() {
    let primary = FakePrimary::new("app.db");
    let server = Running::start(vec![primary.served()]).await;
    let upstream = Upstream::connect_lazy(&server.url()).expect("a URL");
    let mut stream = within(upstream.stream(start("app.db")))
        .await
        .expect("a stream");
    assert!(matches!(
        within(stream.next()).await,
        Some(Ok(Message::Hello(_)))
    ));
    server.shut_down();
    let error = within(stream.next())
        .await
        .expect("a status")
        .expect_err("the end");
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(error.reason().as_deref(), Some("DRAINING"));
    assert!(error.is_retryable());
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
}

#[tokio::test]
async fn nobody_listening_is_told_as_such() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("an address").port()
    };
    let error = error_of(&format!("http://127.0.0.1:{port}"), "app.db").await;
    assert!(error.to_string().contains("connection refused"), "{error}");
    assert!(error.is_unreachable() && error.is_retryable());
}

#[tokio::test]
async fn an_unknown_database_is_told_with_those_that_exist() {
    let databases = vec![
        FakePrimary::new("b.db").served(),
        FakePrimary::new("a.db").served(),
    ];
    let server = Running::start(databases).await;
    let error = error_of(&server.url(), "c.db").await;
    assert!(error.to_string().contains("a.db, b.db"), "{error}");
    assert!(!error.is_retryable());
}

/// Answers each connection's first bytes with `answer` and closes.
fn impostor(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let mut connection = connection;
            let mut request = [0; 24];
            let _ = connection.read_exact(&mut request);
            let _ = connection.write_all(answer);
            // What else the client sends is read, so that the close is no reset that overtakes the answer.
            let _ = connection.shutdown(std::net::Shutdown::Write);
            let _ = connection.read_to_end(&mut Vec::new());
        }
    });
    url
}

#[tokio::test]
async fn a_tls_port_and_a_web_server_are_told_apart_from_a_walcast() {
    // A TLS 1.2 alert "unexpected message", which is how a TLS server answers plaintext; and HTTP/1.1.
    let alert = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x0a];
    let alert: &'static [u8] = Box::leak(Box::new(alert));
    for answer in [
        alert,
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".as_slice(),
    ] {
        let error = error_of(&impostor(answer), "app.db").await;
        assert!(error.to_string().contains("TLS port"), "{error}");
        assert!(error.is_unreachable());
    }
}
