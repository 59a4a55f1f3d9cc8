//! Clients that open their windows wide and then read nothing: the primary's memory does not grow with what is written.

use crate::process::{Server, database};
use crate::raw::{GOAWAY, HEADERS, RST_STREAM, Raw, headers};
use crate::running::within;
use prost::Message as _;
use walcast::wire::pb;

const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const WIDEST: u32 = (1 << 31) - 1;
const CLIENTS: usize = 8;
const MIB: u64 = 1 << 20;

/// Memory that is the process's own: what the kernel can take back, such as mapped files, is none of it.
fn own_memory(server: &Server) -> u64 {
    let pid = server.child.id().expect("a pid");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.expect("kB") << 10
}

/// A stream of which the headers are read, and nothing more.
async fn stalled(server: &Server, number: usize) -> Raw {
    let mut raw = Raw::connect(server.address.parse().expect("an address")).await;
    // SETTINGS_INITIAL_WINDOW_SIZE, and the connection's own window.
    let wide = [&[0, 4][..], &WIDEST.to_be_bytes()].concat();
    raw.send(SETTINGS, 0, 0, &wide).await;
    raw.send(WINDOW_UPDATE, 0, 0, &(WIDEST - 65535).to_be_bytes())
        .await;
    let path = "/walcast.v1.ReplicationService/Stream";
    raw.send(HEADERS, 4, 1, &headers(path, &[])).await;
    let request = pb::StreamRequest {
        database: "app.db".to_owned(),
        replica_id: format!("stalled-{number}"),
        replica_name: "stalled".to_owned(),
        protocol_min: 1,
        protocol_max: 1,
        ..Default::default()
    }
    .encode_to_vec();
    let length = u32::try_from(request.len())
        .expect("a length")
        .to_be_bytes();
    let body = [&[0][..], &length, &request].concat();
    raw.send(0, 1, 1, &body).await;
    within(async {
        loop {
            let frame = raw.next().await.expect("an answer");
            match frame.kind {
                // A refusal has no message: its headers are followed by the end.
                0 if frame.stream == 1 => return,
                RST_STREAM | GOAWAY => panic!("the stream was refused"),
                _ => {}
            }
        }
    })
    .await;
    raw
}

#[tokio::test]
async fn clients_that_read_nothing_cost_no_memory() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let app = database(dir);
    // A snapshot that is larger than what sockets hold.
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 64)
        INSERT INTO t SELECT randomblob(1000000) FROM n; PRAGMA wal_checkpoint(TRUNCATE)";
    app.execute_batch(rows).expect("rows");
    let start = ["primary", "--db", "app.db", "--listen", "127.0.0.1:0"];
    let server = Server::start(dir, &start).await;
    let url = format!("http://{}", server.address);
    let health = ["health", "--server", &url, "--db", "app.db"];
    crate::process::until_done(dir, "the database", &health, |_| true).await;
    let before = own_memory(&server);
    let mut held = Vec::new();
    for number in 0..CLIENTS {
        held.push(stalled(&server, number).await);
    }
    let status = ["status", "--json", "--server", &url];
    let text = crate::process::until_done(dir, "the streams", &status, |_| true).await;
    assert_eq!(text.matches("\"stalled-").count(), CLIENTS, "{text}");
    let mut most = 0;
    for _ in 0..200 {
        app.execute("INSERT INTO t VALUES (randomblob(1000000))", [])
            .expect("a row");
        most = most.max(own_memory(&server));
    }
    // Everything is captured, so all of it was there to be sent.
    let position = ["position", "--server", &url, "--db", "app.db"];
    crate::process::until_done(dir, "the capture", &position, |_| true).await;
    most = most.max(own_memory(&server));
    let grown = most.saturating_sub(before);
    println!(
        "{CLIENTS} clients that read nothing cost {} KiB while 200 MB were written",
        grown >> 10
    );
    // The newest log, 8 MiB, and some 5 MiB for each client: the message that is sent, the next one, and their copies on the
    // way. 200 MB for one client alone would not fit.
    assert!(grown < 96 * MIB, "{} MiB", grown / MIB);
    drop(held);
}
