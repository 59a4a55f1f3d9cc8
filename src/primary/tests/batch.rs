//! A reader of the stream that is behind: many commits come as one chunk, but to an archive or a command.

use super::streams::hello;
use super::*;
use crate::model::{Chunk, Message};

/// More than are read from the ring.
const COMMITS: u32 = 500;

/// The chunks up to `last`.
async fn chunks(stream: &mut StreamHandle, last: Position) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    while chunks.last().is_none_or(|chunk| chunk.end() < last) {
        let next = tokio::time::timeout(PATIENCE, stream.next());
        let message = next.await.expect("a message in time").expect("goes on");
        if let Message::Chunk(chunk) = message.expect("is well") {
            chunks.push(chunk);
        }
    }
    chunks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_commits_come_as_one_chunk_but_to_an_archive_or_a_command() {
    let mut bench = Bench::new("PRAGMA wal_autocheckpoint=0");
    bench.app.write(3);
    let primary = bench.primary();
    let mut mirror = Mirror::default();
    let first = fence(&primary).await;
    let mut stream = primary.open_stream(start("r")).await.expect("a stream");
    follow(&mut stream, &mut mirror, first.position).await;
    drop(stream);
    let mut last = first;
    for _ in 0..COMMITS {
        // Each is captured before the next is made.
        bench.app.write(1);
        last = fence(&primary).await;
    }

    let mut archive = start_at("", &first);
    archive.recent = false;
    let (mut log, _) = primary.open_log(archive).await.expect("the log");
    let each = chunks(&mut log, last.position).await;
    assert_eq!(each.len(), COMMITS as usize);
    assert!(each.iter().all(|chunk| chunk.commit.is_some()));

    // One that goes to where a replica is: within a chunk there is no place to stop.
    let command = StreamStart {
        transient: true,
        ..start_at("once", &first)
    };
    let mut stream = primary.open_stream(command).await.expect("a stream");
    hello(&mut stream).await;
    let to_command = chunks(&mut stream, last.position).await;
    assert_eq!(to_command.len(), COMMITS as usize);
    drop(stream);

    let mut stream = primary
        .open_stream(start_at("r", &first))
        .await
        .expect("a stream");
    hello(&mut stream).await;
    let together = chunks(&mut stream, last.position).await;
    assert!(together.len() < 300, "{} chunks", together.len());
    // Each ends where a commit does, and says what that commit is.
    for chunk in &together {
        let same = each.iter().find(|one| one.end() == chunk.end());
        assert_eq!(same.expect("a commit").commit, chunk.commit);
    }

    let mut stream = primary
        .open_stream(start_at("r", &first))
        .await
        .expect("a stream");
    follow(&mut stream, &mut mirror, last.position).await;
    assert_eq!(mirror.dbsum, last.dbsum);
    mirror.verify(bench.dir.path());
    primary.stop();
}
