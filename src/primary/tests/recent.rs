//! Chunks that refer to those before them: who is sent them, and when.

use super::*;
use crate::format::lz4;
use crate::format::recent::{self, Window};
use crate::model::{Chunk, Codec, Message};
use crate::primary::hub::{After, Entry};

/// No heartbeat comes within a test, but where one is waited for.
fn quiet(bench: &Bench) -> PrimaryConfig {
    PrimaryConfig {
        heartbeat: PATIENCE,
        ..bench.config()
    }
}

async fn commit(bench: &mut Bench, primary: &Primary) -> Point {
    bench.app.write(1);
    fence(primary).await
}

async fn message(stream: &mut StreamHandle) -> Message {
    let message = tokio::time::timeout(PATIENCE, stream.next()).await;
    let message = message.expect("a message in time").expect("goes on");
    message.expect("is well")
}

async fn chunk(stream: &mut StreamHandle) -> Chunk {
    loop {
        if let Message::Chunk(chunk) = message(stream).await {
            return chunk;
        }
    }
}

/// Commits until the stream is sent a chunk that refers to others: none does where the test was held up for so long that
/// the capture rested.
async fn until_recent(bench: &mut Bench, primary: &Primary, stream: &mut StreamHandle) -> Chunk {
    for _ in 0..20 {
        commit(bench, primary).await;
        let chunk = chunk(stream).await;
        if chunk.codec == Codec::Lz4Recent {
            return chunk;
        }
    }
    panic!("20 commits, and none refers to another")
}

/// What the capture made of the chunk after a position.
fn entry(primary: &Primary, after: Position) -> Entry {
    let hub = &primary.shared.hub;
    match hub.after(hub.epoch(), after) {
        After::Entry(entry) => entry,
        _ => panic!("no chunk follows {after}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_commit_is_sent_as_what_it_changes() {
    let mut bench = Bench::new("");
    bench.app.write(10);
    let primary = Primary::start(quiet(&bench));
    let first = fence(&primary).await;
    let (mut mirror, mut stream) = (
        Mirror::default(),
        primary.open_stream(start("r")).await.expect("a stream"),
    );
    follow(&mut stream, &mut mirror, first.position).await;
    let (mut before, mut sent, mut plain) = (first.position, 0, 0);
    for _ in 0..40 {
        let point = commit(&mut bench, &primary).await;
        let Entry {
            chunk,
            recent: made,
        } = entry(&primary, before);
        if let Some(made) = made {
            sent += made.data.len();
            plain += chunk.data.len();
        }
        follow(&mut stream, &mut mirror, point.position).await;
        assert_eq!(mirror.dbsum, point.dbsum);
        before = point.position;
    }
    assert!(mirror.recent > 20, "{} of 40", mirror.recent);
    assert!(sent * 2 < plain, "{sent} bytes instead of {plain}");
    // A log that begins anew goes on with what was sent of the one before.
    let mut recent = mirror.recent;
    let begun = Instant::now();
    loop {
        // It is refused while the capture holds the log.
        bench.app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
        let point = commit(&mut bench, &primary).await;
        follow(&mut stream, &mut mirror, point.position).await;
        assert_eq!(mirror.dbsum, point.dbsum);
        if point.position.index > before.index && mirror.recent > recent {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{point:?}");
        (before, recent) = (point.position, mirror.recent);
    }
    drop(stream);
    stop(primary).await;
}

fn unpacked(chunk: &Chunk, window: &Window) -> Vec<u8> {
    let size = chunk.size() as usize;
    let mut content = Vec::new();
    match chunk.codec {
        Codec::Lz4Recent => {
            content = recent::unpack(&chunk.data, window, 4120, size).expect("it was sent");
        }
        _ => lz4::decompress(&chunk.data, size, &mut content).expect("a frame"),
    }
    content
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_sent_is_never_referred_to() {
    let mut bench = Bench::new("");
    bench.app.write(10);
    let primary = Primary::start(quiet(&bench));
    let first = fence(&primary).await;
    let early = start_at("early", &first);
    let mut early = primary.open_stream(early).await.expect("a stream");
    for round in 0.. {
        assert!(round < 20, "the form is never made");
        let point = fence(&primary).await;
        let late = start_at("late", &point);
        let mut late = primary.open_stream(late).await.expect("a stream");
        commit(&mut bench, &primary).await;
        let (sent, mut window) = (chunk(&mut late).await, Window::default());
        assert_eq!(sent.start, point.position);
        assert_eq!(sent.codec, Codec::Lz4, "it was sent nothing yet");
        window.remember(unpacked(&sent, &window).into());
        if entry(&primary, point.position).recent.is_none() {
            continue;
        }
        // What refers to that chunk alone it may have.
        let mut count = 0;
        for _ in 0..20 {
            commit(&mut bench, &primary).await;
            let chunk = chunk(&mut late).await;
            count += u32::from(chunk.codec == Codec::Lz4Recent);
            window.remember(unpacked(&chunk, &window).into());
        }
        assert!(count > 0, "none of 20");
        break;
    }
    until_recent(&mut bench, &primary, &mut early).await;
    drop(early);
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_refers_to_before_a_heartbeat() {
    let mut bench = Bench::new("");
    bench.app.write(10);
    let primary = bench.primary();
    let first = fence(&primary).await;
    let start = start_at("r", &first);
    let mut stream = primary.open_stream(start).await.expect("a stream");
    for _ in 0..3 {
        until_recent(&mut bench, &primary, &mut stream).await;
        while !matches!(message(&mut stream).await, Message::Heartbeat { .. }) {}
        commit(&mut bench, &primary).await;
        assert_eq!(chunk(&mut stream).await.codec, Codec::Lz4);
    }
    drop(stream);
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_made_while_somebody_takes_it() {
    let mut bench = Bench::new("");
    bench.app.write(10);
    let primary = Primary::start(quiet(&bench));
    let open = async |lz4, recent| {
        let start = StreamStart {
            lz4,
            recent,
            ..start_at("r", &fence(&primary).await)
        };
        primary.open_stream(start).await.expect("a stream")
    };
    let mut others = [open(true, false).await, open(false, true).await];
    for _ in 0..3 {
        let last = fence(&primary).await.position;
        commit(&mut bench, &primary).await;
        assert!(entry(&primary, last).recent.is_none(), "nobody takes it");
    }
    let mut taker = open(true, true).await;
    let last = fence(&primary).await.position;
    commit(&mut bench, &primary).await;
    assert!(entry(&primary, last).recent.is_none(), "the first one");
    until_recent(&mut bench, &primary, &mut taker).await;
    drop(taker);
    let last = fence(&primary).await.position;
    let end = commit(&mut bench, &primary).await.position;
    assert!(entry(&primary, last).recent.is_none(), "it is gone");
    for (stream, codec) in others.iter_mut().zip([Codec::Lz4, Codec::None]) {
        loop {
            let chunk = chunk(stream).await;
            assert_eq!(chunk.codec, codec);
            if chunk.end() == end {
                break;
            }
        }
    }
    drop(others);
    stop(primary).await;
}
