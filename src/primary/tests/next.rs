//! The files that are made for the next index, in a primary at work.

use super::*;
use crate::primary::shadow::Layout;
use std::os::unix::fs::MetadataExt;

/// The number of a file in its file system, once it is there.
async fn inode(path: &Path) -> u64 {
    wait_for_file(path).await.ino()
}

/// The log restarts until an index has begun with the files that were made for it. The position after that.
async fn restart(bench: &mut Bench, primary: &Primary) -> Position {
    let layout = Layout::of(&bench.path());
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE, "they are never used");
        bench.app.write(1);
        let before = fence(primary).await.position;
        let made = [
            inode(&layout.next_segment()).await,
            inode(&layout.next_sidecar()).await,
        ];
        bench.app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
        bench.app.write(1);
        let Position {
            generation, index, ..
        } = fence(primary).await.position;
        assert_eq!((generation, index), (before.generation, before.index + 1));
        let used = [
            inode(&layout.segment(generation, index, 0)).await,
            inode(&layout.sidecar(generation, index)).await,
        ];
        // They are there a moment before they are known to be.
        if used == made {
            return fence(primary).await.position;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_restarts_goes_on_in_files_that_were_made_before() {
    let mut bench = Bench::new("");
    // A checkpoint waits until what it copied is captured.
    bench.app.sql("PRAGMA busy_timeout=1000");
    bench.app.write(10);
    let layout = Layout::of(&bench.path());
    let primary = bench.primary();
    let first = fence(&primary).await;
    let mut stream = primary.open_stream(start("one")).await.expect("a stream");
    let mut mirror = Mirror::default();
    for _ in 0..3 {
        let at = restart(&mut bench, &primary).await;
        follow(&mut stream, &mut mirror, at).await;
    }
    drop(stream);
    inode(&layout.next_sidecar()).await;
    stop(primary).await;
    // What an end leaves there, and a power cut, is no index, and is in nobody's way.
    let later = layout.next_index().join("0000000000001018.wal.lz4");
    for path in [layout.next_segment(), layout.next_sidecar(), later] {
        std::fs::write(path, b"of another log").expect("written");
    }
    let primary = bench.primary();
    let last = restart(&mut bench, &primary).await;
    assert_eq!(last.generation, first.position.generation);
    let indexes = layout.list_indexes(last.generation).expect("listed");
    assert_eq!(indexes, (0..=last.index).collect::<Vec<_>>());
    let mut stream = super::streams::resumed(&primary, "all", &first).await;
    loop {
        let message = stream.next().await.expect("goes on").expect("is well");
        if let crate::model::Message::Chunk(chunk) = message
            && chunk.end() == last
        {
            break;
        }
    }
    drop(stream);
    replicate(&primary, last).await.verify(bench.dir.path());
    stop(primary).await;
}
