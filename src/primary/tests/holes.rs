//! A log of which a part is not there: an index in the middle, a segment that goes, and positions that it never had.

use super::damage::error_of;
use super::*;
use crate::model::Follows;
use crate::primary::PrimaryError;
use crate::primary::shadow::{Layout, recover};

/// The end of the index that is captured now. The next one has begun when this returns.
async fn restart(bench: &mut Bench, primary: &Primary) -> Point {
    let begun = Instant::now();
    loop {
        let end = fence(primary).await;
        bench.app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
        bench.app.write(10);
        if fence(primary).await.position.index > end.position.index {
            return end;
        }
        assert!(begun.elapsed() < PATIENCE);
    }
}

/// As after a power cut that took commits from the primary, which then began the next index; or a wrong request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_beyond_the_end_of_an_old_index_is_no_damage() {
    let mut bench = Bench::new("PRAGMA wal_autocheckpoint=0");
    let primary = bench.primary();
    bench.app.write(10);
    let ends = [
        restart(&mut bench, &primary).await,
        restart(&mut bench, &primary).await,
    ];
    for frames in [1, 3, 1000] {
        let mut start = start_at("ahead", &ends[1]);
        start.position = start.position.map(|at| Position {
            offset: at.offset + frames * (24 + 4096),
            ..at
        });
        let mut stream = primary.open_stream(start).await.expect("a stream");
        let hello = super::streams::hello(&mut stream).await;
        assert_eq!(hello.follows, Follows::ReplicaAhead, "{}", hello.reason);
    }
    assert_eq!(primary.meters().checksum_failures.get(), 0);
    for end in &ends {
        super::streams::resumed(&primary, "innocent", end).await;
    }
    stop(primary).await;
}

/// What is gone of an index.
const HOLES: [&str; 4] = ["all", "the sidecar", "the directory", "the segments"];

/// Takes it away.
fn make_hole(path: &Path, at: Position, what: &str) {
    let layout = Layout::of(path);
    if matches!(what, "all" | "the sidecar") {
        std::fs::remove_file(layout.sidecar(at.generation, at.index)).expect("removed");
    }
    let directory = layout.index(at.generation, at.index);
    if matches!(what, "all" | "the directory") {
        std::fs::remove_dir_all(&directory).expect("removed");
    }
    if what == "the segments" {
        for file in std::fs::read_dir(&directory).expect("listed") {
            std::fs::remove_file(file.expect("a file").path()).expect("removed");
        }
    }
}

/// What a replica at `end` is told, and that it comes to `last` by what it is sent.
async fn healed(primary: &Arc<Primary>, end: &Point, last: &Point) -> Follows {
    let stream = primary.open_stream(start_at("r", end)).await;
    let (mut stream, mut mirror) = (stream.expect("a stream"), Mirror::default());
    follow(&mut stream, &mut mirror, last.position).await;
    assert_eq!(mirror.dbsum, last.dbsum);
    mirror.follows[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_that_comes_while_the_log_is_kept_is_met_once() {
    for hole in HOLES {
        let mut bench = Bench::new("PRAGMA wal_autocheckpoint=0");
        let primary = bench.primary();
        bench.app.write(10);
        let end = restart(&mut bench, &primary).await;
        let next = restart(&mut bench, &primary).await;
        let last = fence(&primary).await;
        // Nothing of it is in memory after a start.
        stop(primary).await;
        let primary = bench.primary();
        assert_eq!(fence(&primary).await.position, last.position);
        make_hole(&bench.path(), next.position, hole);
        let error = error_of(super::streams::resumed(&primary, "r", &end).await).await;
        assert!(matches!(error, PrimaryError::Damaged(_)), "{hole}: {error}");
        let told = healed(&primary, &end, &last).await;
        assert_eq!(told, Follows::NotRetained, "{hole}");
        stop(primary).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_before_a_hole_is_not_kept_after_a_start() {
    for hole in HOLES {
        let mut bench = Bench::new("PRAGMA wal_autocheckpoint=0");
        let primary = bench.primary();
        bench.app.write(10);
        let ends = [
            restart(&mut bench, &primary).await,
            restart(&mut bench, &primary).await,
            restart(&mut bench, &primary).await,
        ];
        let last = fence(&primary).await;
        stop(primary).await;
        make_hole(&bench.path(), ends[1].position, hole);
        let primary = bench.primary();
        assert_eq!(fence(&primary).await.position, last.position);
        for end in &ends[..2] {
            let told = healed(&primary, end, &last).await;
            assert_eq!(told, Follows::NotRetained, "{hole}");
        }
        super::streams::resumed(&primary, "behind it", &ends[2]).await;
        assert_eq!(primary.meters().checksum_failures.get(), 0, "{hole}");
        stop(primary).await;
        let layout = Layout::of(&bench.path());
        let left = layout.list_indexes(last.position.generation);
        assert_eq!(left.expect("listed"), [2, 3], "{hole}");
    }
}

/// Something takes a segment away after it was listed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_goes_during_a_start_does_not_hold_it_up() {
    let mut bench = Bench::new("PRAGMA wal_autocheckpoint=0");
    let primary = bench.primary();
    bench.app.write(10);
    let end = restart(&mut bench, &primary).await.position;
    stop(primary).await;
    let layout = Layout::of(&bench.path());
    let gone = layout.segment(end.generation, end.index, end.offset);
    std::os::unix::fs::symlink("nowhere", gone).expect("made");
    let recovered = recover(&layout).expect("no error").expect("a generation");
    let old: Vec<u64> = recovered.old.iter().map(|old| old.index).collect();
    assert_eq!(old, [end.index]);
}
