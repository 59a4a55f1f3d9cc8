//! Streams that idle, report, drain, stop.

use super::streams::hello;
use super::*;
use crate::disk::File;
use crate::model::{Message, Progress, SnapshotBegin};
use crate::primary::PrimaryError;
use crate::primary::shared::{Pin, Request, Shared, SnapshotStart};

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

/// As while the capture is at a transaction of some gigabytes. The test answers in the place of the capture thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_whose_end_is_not_known_yet_says_that_the_primary_lives() {
    let bench = Bench::new("");
    let path = bench.dir.path().join("other.db");
    std::fs::write(&path, [0; 8192]).expect("written");
    let config = PrimaryConfig {
        heartbeat: Duration::from_millis(20),
        ..PrimaryConfig::new("app.db", &path)
    };
    let shared = Arc::new(Shared::new(config));
    let position = Position::start_of(crate::format::position::Generation(7));
    let point = Point {
        position,
        dbsum: DbSum(1),
        page_count: 2,
        page_size: 4096,
        frame_cksum: None,
        time_us: 0,
    };
    shared.hub.begin(position, 0);
    shared.hub.set_tip(point);
    let file = Arc::new(File::open_read("test.open", &path).expect("opened"));
    let (beats, mut beaten) = tokio::sync::watch::channel(0);
    let answering = {
        let shared = Arc::clone(&shared);
        let mut fences = 0;
        tokio::spawn(async move {
            loop {
                for request in shared.take_requests() {
                    match request {
                        Request::Fence(reply) => {
                            fences += 1;
                            if fences > 1 {
                                let enough = beaten.wait_for(|beats| *beats >= 3).await;
                                enough.expect("the stream goes on");
                            }
                            drop(reply.send(Ok(point)));
                        }
                        Request::Snapshot(reply) => {
                            let begin = SnapshotBegin {
                                page_count: 2,
                                start: position,
                                log: None,
                            };
                            let start = SnapshotStart {
                                begin,
                                file: Arc::clone(&file),
                                pin: Pin::new(&shared, 0),
                                epoch: shared.hub.epoch(),
                            };
                            drop(reply.send(Ok(start)));
                        }
                        other => other.refuse(PrimaryError::Draining),
                    }
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    };
    let primary = Primary::simulated(Arc::clone(&shared));
    let mut stream = primary.open_stream(start("r")).await.expect("a stream");
    hello(&mut stream).await;
    let mut pages = 0;
    loop {
        let message = tokio::time::timeout(PATIENCE, stream.next()).await;
        let message = message.expect("in time").expect("goes on");
        match message.expect("is well") {
            Message::SnapshotBegin(_) => {}
            Message::SnapshotPages(some) => pages += some.size / 4096,
            Message::Heartbeat { position: at, .. } => {
                assert_eq!((pages, at), (2, position));
                beats.send_modify(|beats| *beats += 1);
            }
            Message::SnapshotEnd(end) => break assert_eq!(end.position, position),
            other => panic!("{other:?}"),
        }
    }
    answering.abort();
}
