//! Streams: where they begin and why, what they send, how they end.

use super::*;
use crate::format::wal::{Cksum, frames_end};
use crate::model::{Codec, Follows, Hello, Message};
use crate::primary::PrimaryError;

const BLOBS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<4000)
    INSERT OR REPLACE INTO item SELECT i, i, randomblob(3000) FROM n";

pub async fn hello(stream: &mut StreamHandle) -> Hello {
    match stream.next().await {
        Some(Ok(Message::Hello(hello))) => hello,
        other => panic!("a hello, not {other:?}"),
    }
}

/// The stream of a replica that has this point, and needs no snapshot.
pub async fn resumed(primary: &Arc<Primary>, id: &str, point: &Point) -> StreamHandle {
    let stream = primary.open_stream(start_at(id, point)).await;
    let mut stream = stream.expect("a stream");
    let hello = hello(&mut stream).await;
    assert_eq!(hello.follows, Follows::Resume, "{}", hello.reason);
    stream
}

async fn follows(primary: &Arc<Primary>, start: StreamStart) -> Follows {
    let mut stream = primary.open_stream(start).await.expect("a stream");
    let hello = hello(&mut stream).await;
    let next = stream.next().await.expect("goes on").expect("is well");
    let snapshot = matches!(next, Message::SnapshotBegin(_));
    assert_eq!(
        snapshot,
        hello.follows != Follows::Resume,
        "{}",
        hello.reason
    );
    hello.follows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_goes_on_or_is_told_why_not() {
    let mut bench = Bench::new("");
    bench.app.write(10);
    let primary = bench.primary();
    let first = fence(&primary).await;
    bench.app.write(10);
    fence(&primary).await;
    bench.app.write(10);
    let last = fence(&primary).await;
    let at = |point: &Point| start_at("r", point);
    let tampered = |point: &Point| StreamStart {
        frame_cksum: point.frame_cksum.map(|c| Cksum(c.0 ^ 1, c.1)),
        ..at(point)
    };
    let position = |point: &Point, change: fn(&mut Position)| {
        let mut start = at(point);
        start.position.iter_mut().for_each(change);
        start
    };
    let cases = [
        (start("r"), Follows::NewReplica),
        (at(&first), Follows::Resume),
        (at(&last), Follows::Resume),
        (tampered(&first), Follows::ChecksumDiffers),
        (tampered(&last), Follows::ChecksumDiffers),
        (
            StreamStart {
                dbsum: Some(DbSum(7)),
                ..at(&last)
            },
            Follows::ChecksumDiffers,
        ),
        // Who does not know the checksum of the database there is held to the frame's.
        (
            StreamStart {
                dbsum: None,
                ..at(&last)
            },
            Follows::Resume,
        ),
        (
            StreamStart {
                dbsum: None,
                ..tampered(&first)
            },
            Follows::ChecksumDiffers,
        ),
        (
            StreamStart {
                frame_cksum: None,
                ..at(&first)
            },
            Follows::ChecksumDiffers,
        ),
        (
            StreamStart {
                page_size: 512,
                ..at(&first)
            },
            Follows::PageSizeDiffers,
        ),
        (position(&last, |p| p.offset += 4120), Follows::ReplicaAhead),
        (position(&last, |p| p.index += 1), Follows::ReplicaAhead),
        (
            position(&first, |p| p.generation.0 ^= 1),
            Follows::OtherGeneration,
        ),
        (
            position(&first, |p| p.offset -= 1),
            Follows::ChecksumDiffers,
        ),
        (position(&first, |p| p.offset = 0), Follows::Resume),
    ];
    for (start, expected) in cases {
        let what = format!("{start:?}");
        if start.position.is_some_and(|p| p.offset == 0) {
            // Only a replica that began with an empty log is there, and it has no frame to prove.
            assert_eq!(follows(&primary, start).await, Follows::ChecksumDiffers);
            continue;
        }
        assert_eq!(follows(&primary, start).await, expected, "{what}");
    }
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generation_that_began_with_an_empty_log_resumes_from_its_start() {
    let mut bench = Bench::new("");
    bench.app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    let primary = bench.primary();
    let first = fence(&primary).await;
    assert_eq!(
        (
            first.position.index,
            first.position.offset,
            first.frame_cksum
        ),
        (0, 0, None)
    );
    let mut mirror = replicate(&primary, first.position).await;
    assert_eq!(
        follows(&primary, start_at("r", &first)).await,
        Follows::Resume
    );
    stop(primary).await;
    let primary = bench.primary();
    assert_eq!(fence(&primary).await.position, first.position);
    bench.app.write(5);
    let last = fence(&primary).await;
    assert_eq!(last.position.index, 0);
    let mut stream = primary
        .open_stream(start_at("r", &first))
        .await
        .expect("a stream");
    follow(&mut stream, &mut mirror, last.position).await;
    assert_eq!(
        (mirror.follows.last(), mirror.dbsum),
        (Some(&Follows::Resume), last.dbsum)
    );
    drop(stream);
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_away_reads_the_shadow_wal() {
    let mut bench = Bench::new("");
    bench.app.write(10);
    let primary = bench.primary();
    let first = fence(&primary).await;
    let mut mirror = replicate(&primary, first.position).await;
    // More than the ring holds, over several indexes.
    for _ in 0..3 {
        bench.app.sql(BLOBS);
        bench.app.write(500);
        bench.app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    }
    let last = fence(&primary).await;
    assert!(last.position.index > first.position.index);
    let mut stream = primary
        .open_stream(start_at("r", &first))
        .await
        .expect("a stream");
    follow(&mut stream, &mut mirror, last.position).await;
    assert_eq!(
        (mirror.follows.last(), mirror.snapshots),
        (Some(&Follows::Resume), 1)
    );
    mirror.assert_complete(1510);
    assert_eq!(mirror.dbsum, last.dbsum);
    // One that does not take lz4 gets plain bytes.
    let mut plain = mirror;
    let point = fence(&primary).await;
    let start = StreamStart {
        lz4: false,
        ..start_at("plain", &point)
    };
    let mut stream = primary.open_stream(start).await.expect("a stream");
    bench.app.write(1);
    let last = fence(&primary).await;
    loop {
        let message = stream.next().await.expect("goes on").expect("is well");
        let done = matches!(&message, Message::Chunk(chunk) if chunk.codec == Codec::None);
        plain.apply(message);
        if done {
            break;
        }
    }
    assert_eq!(plain.dbsum, last.dbsum);
    drop(stream);
    stop(primary).await;
}

/// Zeros pack so well that what is read at one time would unpack to a hundred times as much.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_stream_without_lz4_stays_packed() {
    let mut bench = Bench::new("");
    let primary = bench.primary();
    let first = fence(&primary).await;
    bench.app.sql(&BLOBS.replace("randomblob", "zeroblob"));
    let last = fence(&primary).await;
    let start = StreamStart {
        lz4: false,
        recent: false,
        ..start_at("plain", &first)
    };
    let mut stream = primary.open_stream(start).await.expect("a stream");
    hello(&mut stream).await;
    let mut sent = 0;
    while stream.cursor != last.position || !stream.out.is_empty() {
        let message = stream.next().await.expect("goes on").expect("is well");
        if let Message::Chunk(chunk) = message {
            assert_eq!(
                (chunk.codec, chunk.data.len() as u64),
                (Codec::None, chunk.size())
            );
            sent += chunk.data.len();
        }
        let bytes = |message: &Message| match message {
            Message::Chunk(chunk) => chunk.data.len(),
            _ => 0,
        };
        let waiting: usize = stream.out.iter().map(bytes).sum();
        assert!(waiting < 2 << 20, "{waiting} bytes wait");
    }
    assert!(sent > 8 << 20, "{sent} bytes");
    drop(stream);
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_begins_inside_a_chunk() {
    let mut bench = Bench::new("");
    // One frame each: the table's page, from the second commit on.
    bench.app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    bench.app.write(300);
    // Captured at the attachment, in one piece.
    let primary = bench.primary();
    let last = fence(&primary).await;
    let wal = std::fs::read(wal_of(&bench.path())).expect("the log");
    let header = |frame: u32| {
        let at = frames_end(4096, frame - 1) as usize;
        crate::format::wal::FrameHeader::parse(wal[at..].first_chunk().expect("a frame"))
    };
    let total =
        crate::format::wal::frames_before(4096, last.position.offset).expect("whole frames");
    let middle = (total / 2..)
        .find(|frame| header(*frame).is_commit())
        .expect("a commit");
    let offset = frames_end(4096, middle);
    let position = Position {
        offset,
        ..last.position
    };
    let start = StreamStart {
        position: Some(position),
        frame_cksum: Some(header(middle).cksum),
        ..start("r")
    };
    let mut stream = primary.open_stream(start).await.expect("a stream");
    assert_eq!(hello(&mut stream).await.follows, Follows::Resume);
    let Some(Ok(Message::Chunk(chunk))) = stream.next().await else {
        panic!("a chunk")
    };
    assert_eq!(chunk.start, position);
    let mut data = Vec::new();
    crate::format::lz4::decompress(&chunk.data, 1 << 21, &mut data).expect("whole");
    assert_eq!(data, wal[offset as usize..chunk.end_offset as usize]);
    // Between two transactions' ends nothing begins.
    let wrong = (total / 2..)
        .find(|frame| !header(*frame).is_commit())
        .expect("not a commit");
    let position = Position {
        offset: frames_end(4096, wrong),
        ..last.position
    };
    let cksum = Some(header(wrong).cksum);
    let start = StreamStart {
        position: Some(position),
        frame_cksum: cksum,
        ..super::start("r")
    };
    assert_eq!(follows(&primary, start).await, Follows::ChecksumDiffers);
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_under_writes_and_checkpoints_are_one_state() {
    let mut bench = Bench::new("");
    bench
        .app
        .sql("PRAGMA wal_autocheckpoint=50; PRAGMA synchronous=OFF");
    for _ in 0..4 {
        bench.app.sql(
            &BLOBS
                .replace("SELECT i, i", "SELECT i+5000, i")
                .replace("4000", "12000"),
        );
    }
    let primary = bench.primary();
    fence(&primary).await;
    for round in 0..5 {
        bench.app.begin_write(2000);
        let target = fence(&primary).await;
        let mirror = replicate(&primary, target.position).await;
        assert_eq!(mirror.snapshots, 1, "round {round}");
        mirror.verify(bench.dir.path());
        tokio::task::block_in_place(|| bench.app.end_write());
    }
    assert_eq!(primary.status().snapshots, 5);
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_log_goes_and_a_replica_before_it_gets_a_snapshot() {
    let mut bench = Bench::new("");
    let config = PrimaryConfig {
        retain_bytes: 8 << 20,
        ..bench.config()
    };
    let primary = Primary::start(config);
    bench.app.write(10);
    let first = fence(&primary).await;
    let mut slow = primary
        .open_stream(start_at("slow", &first))
        .await
        .expect("a stream");
    assert_eq!(hello(&mut slow).await.follows, Follows::Resume);
    let layout = crate::primary::shadow::Layout::of(&bench.path());
    let begun = Instant::now();
    while layout
        .index(first.position.generation, first.position.index)
        .exists()
    {
        bench.app.sql(BLOBS);
        bench.app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
        fence(&primary).await;
        assert!(begun.elapsed() < PATIENCE);
    }
    assert_eq!(
        follows(&primary, start_at("r", &first)).await,
        Follows::NotRetained
    );
    // One that has an archive is told, and sent nothing.
    let elsewhere = StreamStart {
        resume_only: true,
        ..start_at("elsewhere", &first)
    };
    let mut elsewhere = primary.open_stream(elsewhere).await.expect("a stream");
    assert_eq!(hello(&mut elsewhere).await.follows, Follows::NotRetained);
    let end = elsewhere.next().await;
    assert!(matches!(end, Some(Err(PrimaryError::TooSlow(_)))));
    assert!(elsewhere.next().await.is_none());
    let listed = primary.replicas();
    assert!(listed.iter().all(|r| r.replica_id != "elsewhere"));
    let error = loop {
        match slow.next().await.expect("no clean end") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, PrimaryError::TooSlow(_)), "{error}");
    assert!(slow.next().await.is_none());
    stop(primary).await;
}
