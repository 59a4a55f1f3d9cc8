//! Records a transcript: a proxy between a real primary and a real replica keeps every message.
//!
//! To record anew is to forget what version 1 was: see README.md.

use crate::grpc::{Messages, Peer, connect, report, serve, stream};
use crate::messages::{Body, StreamResponse};
use crate::server::{Server, until};
use crate::stage::{NAME, PAGE_SIZE, Place, content_of, read_only, status, wait_position};
use crate::transcript::{Call, End, State, Transcript, path, recorded};
use bytes::Bytes;
use prost::Message as _;
use rusqlite::Connection;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

#[derive(Default)]
struct Kept {
    target: String,
    calls: Vec<Call>,
}

#[derive(Clone, Default)]
struct Proxy(Arc<Mutex<Kept>>);

impl Proxy {
    fn with<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> T {
        change(&mut self.0.lock().expect("no panic"))
    }

    fn calls(&self) -> usize {
        self.with(|kept| kept.calls.len())
    }

    /// Waits for a heartbeat at this position, after all that was committed.
    fn wait_heartbeat(&self, position: &str) {
        until("a heartbeat", || {
            let last = self.with(|kept| kept.calls.last()?.answers.last().cloned())?;
            match StreamResponse::decode(last).expect("protobuf").body {
                Some(Body::Heartbeat(beat)) if beat.position == position => Some(()),
                _ => None,
            }
        });
    }
}

#[tonic::async_trait]
impl Peer for Proxy {
    async fn stream(&self, request: Bytes) -> Result<Messages, Status> {
        let target = self.with(|kept| kept.target.clone());
        let mut answers = stream(&connect(&target).await?, request.clone()).await?;
        let call = Call {
            request,
            answers: Vec::new(),
            end: End::Left,
            reports: Vec::new(),
            state: None,
        };
        let (proxy, number) = (self.clone(), self.calls());
        self.with(|kept| kept.calls.push(call));
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    () = sender.closed() => return,
                    message = answers.message() => message,
                };
                let message = match message {
                    Ok(Some(message)) => Ok(message),
                    Ok(None) => Err(Status::ok("")),
                    Err(status) => Err(status),
                };
                proxy.with(|kept| match &message {
                    Ok(message) => kept.calls[number].answers.push(message.clone()),
                    Err(status) => kept.calls[number].end = End::of(status),
                });
                let is_over = message.is_err();
                if sender.send(message).await.is_err() || is_over {
                    return;
                }
            }
        });
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }

    async fn report(&self, reports: Streaming<Bytes>) -> Result<Bytes, Status> {
        let target = self.with(|kept| kept.target.clone());
        let (proxy, number) = (self.clone(), self.calls() - 1);
        let kept = reports.map_while(Result::ok).map(move |message| {
            proxy.with(|kept| kept.calls[number].reports.push(message.clone()));
            message
        });
        report(connect(&target).await?, kept).await
    }
}

/// An application that never checkpoints by itself.
struct Application(Connection);

impl Application {
    fn open(db: &Path) -> Application {
        let connection = Connection::open(db).expect("a database");
        connection
            .execute_batch(&format!(
                "PRAGMA page_size={PAGE_SIZE}; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;
                 CREATE TABLE t(n INTEGER PRIMARY KEY, data TEXT);"
            ))
            .expect("a schema");
        Application(connection)
    }

    /// One transaction with rows of some 4 KB that say the same again and again: packed they are small.
    fn add(&self, rows: u32) {
        let sql = "WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < ?1)
                   INSERT INTO t(data) SELECT replace(hex(zeroblob(400)), '00', 'row ' || n || '. ') FROM i";
        self.0.execute(sql, [rows]).expect("rows");
    }

    fn run(&self, sql: &str) {
        self.0.execute_batch(sql).expect(sql);
    }

    /// Until SQLite says that nothing was in its way.
    fn checkpoint(&self, mode: &str) {
        until(mode, || {
            let sql = format!("PRAGMA wal_checkpoint({mode})");
            let busy: i64 = self.0.query_row(&sql, [], |row| row.get(0)).ok()?;
            (busy == 0).then_some(())
        });
    }
}

/// The primary's position now, once the replica has it as well.
fn level(primary: &Server, replica: &Server) -> String {
    let position = until("a position", || {
        let status = status(primary);
        let position = status["position"].as_str()?;
        (status["state"] == "streaming").then(|| position.to_owned())
    });
    wait_position(replica, &position);
    position
}

/// Level, and told so by a heartbeat; what the primary has then.
fn state(proxy: &Proxy, primary: &Server, replica: &Server, application: &Application) -> State {
    let position = level(primary, replica);
    proxy.wait_heartbeat(&position);
    let status = status(primary);
    let checksum = status["database_checksum"].as_str().expect("a checksum");
    let size = status["size_bytes"].as_u64().expect("a size");
    let state = State {
        position,
        checksum: u64::from_str_radix(checksum, 16).expect("a checksum"),
        page_count: u32::try_from(size).expect("small") / PAGE_SIZE as u32,
        content: content_of(&application.0),
    };
    proxy.with(|kept| kept.calls.last_mut().expect("a call").state = Some(state.clone()));
    state
}

/// An address of this machine that is not loopback's: over loopback a snapshot is never packed.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    // Nothing is sent: the kernel chooses the address from which it would be.
    socket.connect("192.0.2.1:9").expect("a route");
    let address = socket.local_addr().expect("an address").ip();
    assert!(!address.is_loopback(), "this machine has only loopback");
    address
}

/// Every file below the directory, but those that the next start makes anew.
fn files(root: &Path, below: &str, into: &mut Vec<(String, Vec<u8>)>) {
    let mut entries: Vec<_> = std::fs::read_dir(root.join(below))
        .expect("a directory")
        .map(|entry| entry.expect("an entry"))
        .collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().into_string().expect("UTF-8");
        let below = Path::new(below).join(&name);
        let shown = below.to_str().expect("UTF-8").to_owned();
        if entry.path().is_dir() {
            files(root, &shown, into);
        } else if !name.ends_with("-shm") && !name.ends_with(".tmp") && name != "lock" {
            into.push((shown, std::fs::read(entry.path()).expect("a file")));
        }
    }
}

/// With `WALCAST_RECORD=1` it is recorded first, which replaces what version 1 was: README.md says when that is right.
#[test]
fn the_transcript_has_the_calls_that_its_readme_names() {
    if std::env::var("WALCAST_RECORD").is_ok_and(|value| value == "1") {
        record();
    }
    let transcript = recorded();
    let [first, second, third, fourth] = transcript.calls.as_slice() else {
        panic!("{} calls", transcript.calls.len());
    };
    let begins = |call: &Call| {
        call.bodies()
            .any(|body| matches!(body, Body::SnapshotBegin(_)))
    };
    assert_eq!(
        transcript.calls.iter().map(begins).collect::<Vec<_>>(),
        [true, false, true, false],
        "snapshots"
    );
    assert!(first.asked().position.is_empty());
    assert_eq!(second.asked().position, first.state().position);
    assert!(matches!(second.end, End::Status { .. }));
    let generation = |call: &Call| call.state().position[..16].to_owned();
    assert_ne!(generation(third), generation(second));
    assert_eq!(generation(fourth), generation(third));
    assert!(transcript.calls.iter().all(|call| !call.reports.is_empty()));
    assert!(transcript.files.len() > 5);
}

fn record() {
    let address = own_address();
    let (here, there, proxy) = (Place::new(), Place::new(), Proxy::default());
    let url = serve(Arc::new(proxy.clone()));
    let application = Application::open(&here.db());
    application.add(300);
    let primary = here.primary_at(address);
    proxy.with(|kept| kept.target.clone_from(&primary.url));

    // The first call: a snapshot with a log that begins before it and goes on in it; a transaction of many chunks; one that
    // makes the database smaller; the log begins anew.
    level_alone(&primary);
    let reader = read_only(&here.db());
    reader.execute_batch("BEGIN").expect("a transaction");
    content_of(&reader);
    // The reader keeps the log from beginning anew.
    application.checkpoint("PASSIVE");
    application.add(1);
    application.add(2);
    let replica = there.replica(&url);
    level(&primary, &replica);
    drop(reader);
    for _ in 0..3 {
        application.add(1);
        level(&primary, &replica);
    }
    application.add(400);
    level(&primary, &replica);
    application.run("DELETE FROM t WHERE n % 3 = 1");
    application.run("VACUUM");
    level(&primary, &replica);
    application.checkpoint("RESTART");
    application.add(1);
    state(&proxy, &primary, &replica, &application);
    assert_eq!(replica.stop(), Some(0));

    // The second: it goes on where it was, and the primary ends it.
    application.add(1);
    application.run("UPDATE t SET data = 'changed' WHERE n % 50 = 0");
    let replica = there.replica(&url);
    application.add(1);
    state(&proxy, &primary, &replica, &application);
    assert_eq!(primary.stop(), Some(0));
    until("the end of the call", || {
        proxy.with(|kept| kept.calls[1].end.status()).map(|_| ())
    });

    // The third: the log was overwritten while nobody looked, so another history begins.
    application.add(1);
    application.checkpoint("TRUNCATE");
    application.run("DELETE FROM t WHERE n > 40");
    let primary = here.primary_at(address);
    level_alone(&primary);
    proxy.with(|kept| kept.target.clone_from(&primary.url));
    until("the next call", || (proxy.calls() == 3).then_some(()));
    state(&proxy, &primary, &replica, &application);
    application.add(1);
    state(&proxy, &primary, &replica, &application);
    assert_eq!(replica.stop(), Some(0));

    // The fourth: it goes on in that history, to the end.
    application.add(1);
    let replica = there.replica(&url);
    level(&primary, &replica);
    application.add(1);
    let last = state(&proxy, &primary, &replica, &application);
    assert_eq!(replica.stop(), Some(0));
    assert_eq!(primary.stop(), Some(0));
    let mut transcript = Transcript {
        calls: proxy.with(|kept| std::mem::take(&mut kept.calls)),
        files: Vec::new(),
    };
    // While the application has it open: its end would take the log away.
    files(
        here.db().parent().expect("a directory"),
        "",
        &mut transcript.files,
    );
    assert_eq!(transcript.calls.len(), 4, "nothing came between");
    std::fs::write(path(), transcript.to_text()).expect("a transcript");
    eprintln!(
        "{NAME} recorded up to {} in {}",
        last.position,
        path().display()
    );
}

/// Waits until the primary knows what it has.
fn level_alone(primary: &Server) {
    until("the primary to stream", || {
        (status(primary)["state"] == "streaming").then_some(())
    });
}
