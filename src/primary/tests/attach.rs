//! Databases that cannot be captured are left as they are, with the reason.

use super::*;

async fn refused(path: &Path, reason: &str) {
    let before = std::fs::read(path).ok();
    let primary = Primary::start(PrimaryConfig::new("app.db", path));
    wait_for_state(&primary, DatabaseState::Waiting, reason).await;
    let error = primary.fence().await.expect_err("not ready").to_string();
    assert!(error.contains(reason), "{error}");
    stop(primary).await;
    assert_eq!(std::fs::read(path).ok(), before, "left as it is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_captured_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    refused(&path("missing.db"), "does not exist yet").await;
    assert!(!path("missing.db-walcast").exists());
    std::fs::write(path("empty.db"), b"").expect("written");
    refused(&path("empty.db"), "empty").await;
    std::fs::write(path("secret.db"), [0x5a; 8192]).expect("written");
    refused(&path("secret.db"), "encrypted").await;

    App::start(&path("rollback.db")).sql("CREATE TABLE t(a)");
    refused(&path("rollback.db"), "PRAGMA journal_mode=WAL").await;

    let wal =
        |name: &str| App::start(&path(name)).sql("PRAGMA journal_mode=WAL; CREATE TABLE t(a)");
    wal("linked.db");
    std::fs::hard_link(path("linked.db"), path("other.db")).expect("linked");
    refused(&path("linked.db"), "hard links").await;

    wal("replica.db");
    let patch = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(path(name)).expect("read");
        change(&mut bytes);
        std::fs::write(path(name), bytes).expect("written");
    };
    patch("replica.db", &|bytes| bytes[18] = 3);
    refused(&path("replica.db"), "walcast backup").await;
    let own = path("replica.db-walcast");
    std::fs::create_dir_all(&own).expect("a directory");
    std::fs::write(own.join("replica"), "").expect("a mark");
    refused(&path("replica.db"), "walcast detach").await;

    wal("checked.db");
    patch("checked.db", &|bytes| {
        bytes[20] = 8;
        let end = bytes.len().min(4096) - 8;
        let sum = crate::format::wal::checksum(false, &bytes[..end], Default::default());
        bytes[end..end + 4].copy_from_slice(&sum.0.to_le_bytes());
        bytes[end + 4..end + 8].copy_from_slice(&sum.1.to_le_bytes());
    });
    refused(&path("checked.db"), "checksum VFS").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_holds_it_alone_is_waited_for() {
    let mut bench = Bench::new("");
    bench.app.sql("PRAGMA locking_mode=EXCLUSIVE");
    bench.app.write(1);
    let primary = bench.primary();
    wait_for_state(&primary, DatabaseState::Waiting, "holds it alone").await;
    bench
        .app
        .sql("PRAGMA locking_mode=NORMAL; SELECT count(*) FROM item");
    fence(&primary).await;
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_comes_later_is_captured_then() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.db");
    let primary = Primary::start(PrimaryConfig::new("app.db", &path));
    wait_for_state(&primary, DatabaseState::Waiting, "does not exist yet").await;
    let mut app = App::start(&path);
    app.sql("CREATE TABLE meta(id INTEGER PRIMARY KEY, mark TEXT)");
    wait_for_state(&primary, DatabaseState::Waiting, "not in WAL mode").await;
    app.sql("PRAGMA journal_mode=WAL");
    let first = fence(&primary).await;
    app.sql("INSERT INTO meta VALUES(1, 'VERSION:0000000000000001')");
    let last = fence(&primary).await;
    assert_eq!(last.position.generation, first.position.generation);
    let mirror = replicate(&primary, last.position).await;
    mirror.verify(dir.path());
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_primary_at_a_time() {
    let bench = Bench::new("");
    let primary = bench.primary();
    fence(&primary).await;
    let second = bench.primary();
    wait_for_state(&second, DatabaseState::Waiting, "another walcast").await;
    stop(primary).await;
    fence(&second).await;
    stop(second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_on_every_slot_are_waited_for() {
    let mut bench = Bench::new("");
    let mut readers = Vec::new();
    for _ in 0..4 {
        bench.app.write(1);
        let mut reader = App::start(&bench.path());
        reader.sql("BEGIN; SELECT count(*) FROM item");
        readers.push(reader);
    }
    let primary = bench.primary();
    wait_for_state(&primary, DatabaseState::Waiting, "every read slot").await;
    bench.app.write(5);
    readers.pop();
    let point = fence(&primary).await;
    let mirror = replicate(&primary, point.position).await;
    assert_eq!(mirror.versions.last(), Some(&9));
    stop(primary).await;
}
