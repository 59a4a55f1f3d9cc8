//! Whole-part tests: an application in another process, a primary here or in a third one, and a mirror that believes
//! nothing it is sent.

mod access;
mod attach;
mod batch;
mod capture;
mod child;
mod continuity;
mod damage;
mod endings;
mod faults;
mod holes;
mod mirror;
mod next;
mod recent;
mod session;
mod streams;

use super::{Primary, PrimaryConfig, StreamHandle};
use crate::format::dbsum::DbSum;
use crate::format::position::Position;
use crate::model::{DatabaseState, Point, StreamStart};
use child::App;
use mirror::Mirror;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// No wait in a test is longer than this.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with a database `app.db` in WAL mode, and the application's process.
pub struct Bench {
    pub dir: TempDir,
    pub app: App,
}

impl Bench {
    /// `pragmas` run before the tables are made.
    pub fn new(pragmas: &str) -> Bench {
        let dir = tempfile::tempdir().expect("a directory");
        let mut app = App::start(&dir.path().join("app.db"));
        app.sql(&format!(
            "PRAGMA busy_timeout=0; {pragmas}; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;
             CREATE TABLE meta(id INTEGER PRIMARY KEY, mark TEXT);
             INSERT INTO meta VALUES(1, 'VERSION:0000000000000000');
             CREATE TABLE item(id INTEGER PRIMARY KEY, v INTEGER, pad BLOB)"
        ));
        Bench { dir, app }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("app.db")
    }

    pub fn config(&self) -> PrimaryConfig {
        PrimaryConfig {
            heartbeat: Duration::from_millis(200),
            server_id: "test".into(),
            ..PrimaryConfig::new("app.db", self.path())
        }
    }

    pub fn primary(&self) -> Arc<Primary> {
        Primary::start(self.config())
    }
}

pub fn start(id: &str) -> StreamStart {
    StreamStart {
        database: "app.db".into(),
        position: None,
        dbsum: None,
        frame_cksum: None,
        replica_id: id.into(),
        replica_name: id.into(),
        lz4: true,
        recent: true,
        page_size: 0,
        address: "127.0.0.1:1".into(),
        transient: false,
        resume_only: false,
    }
}

/// Where a replica at this point would ask to go on.
pub fn start_at(id: &str, point: &Point) -> StreamStart {
    StreamStart {
        position: Some(point.position),
        dbsum: Some(point.dbsum),
        frame_cksum: point.frame_cksum,
        page_size: point.page_size,
        ..start(id)
    }
}

/// Waits until a file is there.
pub async fn wait_for_file(path: &Path) -> std::fs::Metadata {
    let begun = Instant::now();
    loop {
        match std::fs::metadata(path) {
            Ok(file) => return file,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{}: {error}", path.display()),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Asks until the primary can answer.
pub async fn fence(primary: &Primary) -> Point {
    let begun = Instant::now();
    loop {
        match primary.fence().await {
            Ok(point) => return point,
            Err(error) if begun.elapsed() < PATIENCE => {
                tracing::debug!("{error}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("no fence: {error}"),
        }
    }
}

pub async fn wait_for_state(primary: &Primary, state: DatabaseState, reason: &str) {
    let begun = Instant::now();
    loop {
        let status = primary.status();
        if status.state == state && status.reason.contains(reason) {
            return;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{status:?} is never {state} with '{reason}'"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Applies messages until the mirror is at `position` or past it.
pub async fn follow(stream: &mut StreamHandle, mirror: &mut Mirror, position: Position) {
    let begun = Instant::now();
    while mirror.in_snapshot || mirror.position.is_none_or(|at| at < position) {
        let message = tokio::time::timeout(PATIENCE, stream.next())
            .await
            .expect("a message in time");
        mirror.apply(
            message
                .expect("the stream goes on")
                .expect("the stream is well"),
        );
        assert!(
            begun.elapsed() < 3 * PATIENCE,
            "at {:?}, never at {position}",
            mirror.position
        );
    }
}

/// A new replica: a snapshot, then up to `position`.
pub async fn replicate(primary: &Arc<Primary>, position: Position) -> Mirror {
    let mut mirror = Mirror::default();
    let mut stream = primary.open_stream(start("new")).await.expect("a stream");
    follow(&mut stream, &mut mirror, position).await;
    mirror
}

pub async fn stop(primary: Arc<Primary>) {
    primary.stop();
    primary.stopped().await;
}

pub fn wal_of(path: &Path) -> PathBuf {
    super::LiveLog::path_of(path)
}
