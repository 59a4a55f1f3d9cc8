//! The end of a server.

use crate::fake::*;
use crate::running::{PATIENCE, Running, within};
use crate::upstream::start;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tonic::Code;
use walcast::client::Upstream;
use walcast::model::Message;
use walcast::server::{Drained, ServerConfig};

fn config(drain_timeout: Duration) -> ServerConfig {
    ServerConfig {
        drain_timeout,
        ..ServerConfig::default()
    }
}

#[tokio::test]
async fn streams_end_with_a_status_and_then_the_databases_stop() {
    let primary = FakePrimary::new("app.db");
    let replica = FakeReplica::new("copy.db");
    let databases = vec![primary.served(), replica.served()];
    let server = Running::with(databases, None, config(PATIENCE)).await;
    let upstream = Upstream::connect_lazy(&server.url()).expect("a URL");
    let mut stream = within(upstream.stream(start("app.db")))
        .await
        .expect("a stream");
    assert!(matches!(
        within(stream.next()).await,
        Some(Ok(Message::Hello(_)))
    ));
    server.shut_down();
    let end = within(stream.next())
        .await
        .expect("a status")
        .expect_err("the end");
    assert_eq!(end.code(), Code::Unavailable);
    assert!(
        within(stream.next()).await.is_none(),
        "nothing after the end"
    );
    assert_eq!(server.ended().await, Drained::Complete);
    assert!(primary.fake.stopped.is_cancelled() && replica.fake.stopped.is_cancelled());
}

#[tokio::test]
async fn a_stream_that_does_not_end_is_cut_with_the_same_status() {
    let primary = FakePrimary::new("app.db");
    primary.stuck.store(true, Ordering::SeqCst);
    let limit = Duration::from_millis(200);
    let server = Running::with(vec![primary.served()], None, config(limit)).await;
    let upstream = Upstream::connect_lazy(&server.url()).expect("a URL");
    let mut stream = within(upstream.stream(start("app.db")))
        .await
        .expect("a stream");
    assert!(matches!(
        within(stream.next()).await,
        Some(Ok(Message::Hello(_)))
    ));
    server.shut_down();
    let end = within(stream.next())
        .await
        .expect("a status")
        .expect_err("the end");
    assert_eq!(end.reason().as_deref(), Some("DRAINING"));
    assert_eq!(server.ended().await, Drained::TimedOut);
    assert!(primary.fake.stopped.is_cancelled());
}

/// tonic's own graceful shutdown would wait for both for ever.
#[tokio::test]
async fn a_silent_connection_and_an_open_call_do_not_hold_up_the_end() {
    let primary = FakePrimary::new("app.db");
    let server = Running::with(vec![primary.served()], None, config(PATIENCE)).await;
    let silent = tokio::net::TcpStream::connect(server.address)
        .await
        .expect("a connection");
    let upstream = Upstream::connect_lazy(&server.url()).expect("a URL");
    let (_sender, receiver) = tokio::sync::mpsc::channel(1);
    let call = tokio::spawn(async move { upstream.report(receiver).await });
    let begin = Instant::now();
    assert_eq!(server.ended().await, Drained::Complete);
    assert!(
        begin.elapsed() < PATIENCE,
        "no stream was open, so nothing to wait for"
    );
    // Refused at the door or ended at the drain, as the two race.
    within(call)
        .await
        .expect("no panic")
        .expect_err("an ended call");
    drop(silent);
}

#[tokio::test]
async fn new_streams_are_refused_while_old_ones_drain() {
    let primary = FakePrimary::new("app.db");
    primary.stuck.store(true, Ordering::SeqCst);
    let server = Running::with(vec![primary.served()], None, config(PATIENCE)).await;
    let upstream = Upstream::connect_lazy(&server.url()).expect("a URL");
    let mut stream = within(upstream.stream(start("app.db")))
        .await
        .expect("a stream");
    assert!(matches!(
        within(stream.next()).await,
        Some(Ok(Message::Hello(_)))
    ));
    server.shut_down();
    within(primary.drain.cancelled()).await;
    let error = within(upstream.stream(start("app.db")))
        .await
        .expect_err("no new stream");
    assert_eq!(error.reason().as_deref(), Some("DRAINING"), "{error}");
    assert!(error.is_retryable());
    drop(stream);
    assert_eq!(server.ended().await, Drained::Complete);
}

#[tokio::test]
async fn a_stream_that_always_has_a_next_message_is_cut_too() {
    let primary = FakePrimary::new("app.db");
    primary.flood.store(true, Ordering::SeqCst);
    let limit = Duration::from_millis(100);
    let server = Running::with(vec![primary.served()], None, config(limit)).await;
    let upstream = Upstream::connect_lazy(&server.url()).expect("a URL");
    let mut stream = within(upstream.stream(start("app.db")))
        .await
        .expect("a stream");
    server.shut_down();
    let end = within(async {
        loop {
            match stream.next().await {
                Some(Ok(_)) => {}
                end => return end,
            }
        }
    });
    let end = end.await.expect("a status").expect_err("the end");
    assert_eq!(end.reason().as_deref(), Some("DRAINING"), "{end:?}");
    assert_eq!(server.ended().await, Drained::TimedOut);
}
