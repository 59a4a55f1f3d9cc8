//! Streams that idle, report, drain, stop.

use super::streams::hello;
use super::*;
use crate::model::{Message, Progress};
use crate::primary::PrimaryError;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_stream_says_that_the_primary_lives() {
    let bench = Bench::new("");
    let primary = bench.primary();
    let point = fence(&primary).await;
    let mut stream = primary
        .open_stream(start_at("r", &point))
        .await
        .expect("a stream");
    hello(&mut stream).await;
    for _ in 0..3 {
        match stream.next().await {
            Some(Ok(Message::Heartbeat { position, .. })) => assert_eq!(position, point.position),
            other => panic!("a heartbeat, not {other:?}"),
        }
    }
    let replicas = primary.replicas();
    assert_eq!(
        (replicas.len(), replicas[0].state),
        (1, DatabaseState::Streaming)
    );
    assert_eq!((replicas[0].lag_bytes, replicas[0].lag_seconds), (0, 0.0));
    drop(stream);
    assert_eq!(primary.replicas()[0].state, DatabaseState::Disconnected);
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_count_for_an_open_stream_only_and_never_go_back() {
    let mut bench = Bench::new("");
    let primary = bench.primary();
    let first = fence(&primary).await;
    let mut stream = primary
        .open_stream(start_at("r", &first))
        .await
        .expect("a stream");
    let session = hello(&mut stream).await.session_id;
    bench.app.write(10);
    let last = fence(&primary).await;
    let report = |session: &str, at: Position| Progress {
        database: "app.db".into(),
        replica_id: "r".into(),
        session_id: session.into(),
        received: Some(at),
        applied: Some(at),
        durable: Some(at),
        apply_lag_seconds: 0.0,
    };
    assert!(primary.replicas()[0].lag_bytes > 0 && primary.replicas()[0].lag_seconds > 0.0);
    let error = primary
        .progress(report("other", last.position))
        .expect_err("not a session");
    assert!(matches!(error, PrimaryError::UnknownSession(_)));
    primary
        .progress(report(&session, last.position))
        .expect("taken");
    primary
        .progress(report(&session, first.position))
        .expect("taken, and no step back");
    assert_eq!(primary.replicas()[0].applied, Some(last.position));
    assert_eq!(
        (
            primary.replicas()[0].lag_bytes,
            primary.replicas()[0].lag_seconds
        ),
        (0, 0.0)
    );
    drop(stream);
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_ends_streams_at_the_last_position() {
    let mut bench = Bench::new("");
    let primary = bench.primary();
    let first = fence(&primary).await;
    let mut mirror = replicate(&primary, first.position).await;
    let mut stream = primary
        .open_stream(start_at("r", &first))
        .await
        .expect("a stream");
    bench.app.write(500);
    let last = primary.drain().await.expect("a position");
    while let Some(message) = stream.next().await {
        mirror.apply(message.expect("a clean end"));
    }
    assert_eq!(mirror.position, Some(last.position));
    assert_eq!(mirror.dbsum, last.dbsum);
    let refused = primary.open_stream(start("r")).await.err();
    assert!(matches!(refused, Some(PrimaryError::Draining)));
    drop(stream);
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_primary_ends_its_streams_and_leaves_the_application_alone() {
    let mut bench = Bench::new("");
    let primary = bench.primary();
    let first = fence(&primary).await;
    let mut stream = primary
        .open_stream(start_at("r", &first))
        .await
        .expect("a stream");
    hello(&mut stream).await;
    primary.stop();
    primary.stopped().await;
    loop {
        match stream.next().await {
            None => break,
            Some(Ok(_)) => {}
            Some(Err(error)) => panic!("a clean end, not {error}"),
        }
    }
    assert!(primary.fence().await.is_err());
    // The files are ours no more.
    bench.app.sql("PRAGMA journal_mode=DELETE");
}
