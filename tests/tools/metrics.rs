//! Metrics and probes of real processes: the numbers are those of what was done.

use crate::kit::*;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// A GET, by hand: the status, and the body.
fn get(page: &str, path: &str) -> (u16, String) {
    let address = page.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).expect("the port");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status");
    // A long answer comes in pieces, each with its length.
    let body = match head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        false => body.to_owned(),
        true => pieces(body),
    };
    (status.parse().expect("a number"), body)
}

fn pieces(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).expect("a length");
        text.push_str(&rest[..length]);
        body = rest[length..].trim_start_matches("\r\n");
    }
    text
}

/// One scrape.
struct Scrape(String);

impl Scrape {
    fn of(page: &str) -> Scrape {
        let (status, body) = get(page, "/metrics");
        assert_eq!(status, 200);
        Scrape(body)
    }

    /// The value of the one series that begins so and has these words in its labels.
    fn value(&self, name: &str, labels: &[&str]) -> f64 {
        let fits = |line: &&str| {
            let rest = line
                .strip_prefix("walcast_")
                .and_then(|line| line.strip_prefix(name));
            rest.is_some_and(|rest| {
                rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label))
            })
        };
        let lines: Vec<&str> = self.0.lines().filter(fits).collect();
        assert_eq!(lines.len(), 1, "{name} {labels:?}: {lines:?}\n{}", self.0);
        let value = lines[0].rsplit(' ').next().expect("a value");
        value.parse().expect(value)
    }
}

/// Where a position is in its log.
fn offset(position: &str) -> u64 {
    let text = position.rsplit(':').next().expect("an offset");
    u64::from_str_radix(text, 16).expect(text)
}

const HTTP: [&str; 2] = ["--http-listen", "127.0.0.1:0"];
const COMMITS: i64 = 137;
const FRAME: u64 = 24 + 4096;

#[test]
fn every_family_counts_what_was_done() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, copy) = (dir.path().join("app.db"), dir.path().join("copy.db"));
    let connection = fill(&path, 300);
    // What follows stays in one log, so that offsets tell how much was written.
    let quiet = "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA wal_autocheckpoint = 0";
    connection.execute_batch(quiet).expect("a checkpoint");
    let pages: i64 = connection
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .expect("a count");
    let primary = Server::start(&[&["primary", "--db", text(&path)], &HTTP[..]].concat());
    primary.wait_healthy("app.db");
    let here = primary.told("status page on ");
    let at_start = Scrape::of(&here);
    for name in [
        "captured_commits_total",
        "captured_frames_total",
        "captured_bytes_total",
        "sent_bytes_total",
        "streams_total",
        "checksum_failures_total",
        "snapshot_sent_duration_seconds_count",
        "captured_segment_size_bytes_count",
    ] {
        assert_eq!(
            at_start.value(name, &["database=\"app.db\""]),
            0.0,
            "{name}"
        );
    }
    let db = format!("app.db={}", text(&copy));
    let args = [
        "replica",
        "--upstream",
        &primary.url,
        "--db",
        &db,
        "--name",
        "far",
    ];
    let replica = Server::start(&[&args[..], &HTTP].concat());
    replica.wait_healthy("app.db");
    let there = replica.told("status page on ");

    let position = |server: &Server| ok(&["position", "--server", &server.url, "--db", "app.db"]);
    let level = || {
        let at = position(&primary);
        ok(&[
            "wait",
            "--server",
            &replica.url,
            "--db",
            "app.db",
            "--position",
            &at,
        ]);
        at
    };
    // Another value each time: what changes nothing writes nothing.
    let commit = |i: i64| {
        let sql = "UPDATE t SET a = -1 - ?1 WHERE id = 1 + ?1 % 300";
        connection.execute(sql, [i]).expect("a commit");
    };
    // With it the log has its header.
    commit(0);
    let before = level();
    let base = Scrape::of(&here);
    for i in 1..=COMMITS {
        commit(i);
    }
    let after = level();
    assert_eq!(
        before.rsplit_once(':').map(|p| p.0),
        after.rsplit_once(':').map(|p| p.0)
    );
    let written = offset(&after) - offset(&before);
    assert_eq!(written % FRAME, 0, "whole frames");

    let size = std::fs::metadata(path.with_extension("db-wal"))
        .expect("a log")
        .len();
    let of_primary = until("the primary's numbers", || {
        let scrape = Scrape::of(&here);
        // What the replica has is known with its next report.
        (scrape.value("replica_lag_bytes", &["replica=\"far\""]) == 0.0).then_some(scrape)
    });
    let value = |name| of_primary.value(name, &["database=\"app.db\""]);
    let more = |name| value(name) - base.value(name, &["database=\"app.db\""]);
    assert_eq!(more("captured_commits_total"), COMMITS as f64);
    assert_eq!(more("captured_frames_total"), (written / FRAME) as f64);
    assert_eq!(more("captured_bytes_total"), written as f64);
    let segments = more("captured_segment_size_bytes_count");
    assert!((1.0..=COMMITS as f64).contains(&segments), "{segments}");
    assert!(more("capture_duration_seconds_count") >= 1.0);
    assert!(more("capture_duration_seconds_sum") > 0.0);
    let packed = more("captured_segment_size_bytes_sum");
    assert!(
        packed > 0.0 && packed <= written as f64 * 1.1,
        "{packed} of {written}"
    );
    assert_eq!(value("streams_total"), 1.0);
    assert_eq!(value("snapshot_sent_duration_seconds_count"), 1.0);
    assert!(value("snapshot_sent_duration_seconds_sum") > 0.0);
    // The snapshot went unpacked over loopback, and the segments after it.
    let snapshot = u64::try_from(pages).expect("a count") * 4096;
    let sent = value("sent_bytes_total");
    assert!(
        sent >= snapshot as f64 * 0.5 + packed,
        "{sent} for {snapshot} and {packed}"
    );
    assert!(
        sent <= (snapshot + 2 * written) as f64 * 1.1 + 65536.0,
        "{sent}"
    );
    assert_eq!(value("log_size_bytes"), size as f64);
    assert_eq!(value("checksum_failures_total"), 0.0);
    assert_eq!(value("replicas_connected"), 1.0);
    assert_eq!(value("generations_total"), 1.0);
    let far = |name| of_primary.value(name, &["replica=\"far\"", "database=\"app.db\""]);
    assert_eq!(far("replica_connected"), 1.0);
    assert_eq!(far("replica_lag_seconds"), 0.0);
    assert_eq!(far("replica_sent_bytes"), sent);
    assert_eq!(
        of_primary.value("log_held", &["by=\"nothing\""])
            + of_primary.value("log_held", &["by=\"walcast\""])
            + of_primary.value("log_held", &["by=\"checkpoint\""])
            + of_primary.value("log_held", &["by=\"reader\""]),
        1.0
    );
    let build = of_primary.value(
        "build_info",
        &[&format!("version=\"{}\"", env!("CARGO_PKG_VERSION"))],
    );
    assert_eq!(build, 1.0);

    let of_replica = Scrape::of(&there);
    let value = |name| of_replica.value(name, &["database=\"app.db\""]);
    let publications = value("applied_publications_total");
    assert!(
        (1.0..=COMMITS as f64 + 2.0).contains(&publications),
        "{publications}"
    );
    let frames = value("applied_frames_total");
    assert!(
        frames >= 1.0 && frames <= (written / FRAME + 2) as f64,
        "{frames}"
    );
    assert!(value("apply_duration_seconds_count") >= 1.0);
    assert!(value("apply_duration_seconds_sum") > 0.0);
    assert_eq!(value("received_bytes_total"), sent);
    assert_eq!(value("received_segment_size_bytes_sum"), sent);
    assert_eq!(value("snapshot_received_duration_seconds_count"), 1.0);
    assert_eq!(value("reconnects_total"), 0.0);
    assert_eq!(value("checksum_failures_total"), 0.0);
    assert_eq!(value("ready") + value("connected"), 2.0);
    assert_eq!(value("lag_seconds") + value("lag_bytes"), 0.0);
    until("the size of the copy's log", || {
        let wal = std::fs::metadata(copy.with_extension("db-wal"))
            .expect("a log")
            .len();
        (Scrape::of(&there).value("log_size_bytes", &[]) == wal as f64).then_some(())
    });
    assert_eq!(value("database_size_bytes"), snapshot as f64);

    // The primary goes and comes back where it was: one reconnect, and no second snapshot.
    let address = primary.url.trim_start_matches("http://").to_owned();
    primary.stop();
    until("the loss", || {
        (Scrape::of(&there).value("connected", &[]) == 0.0).then_some(())
    });
    let again = ["primary", "--db", text(&path), "--listen", &address];
    let _primary = Server::start_at(&[&again[..], &HTTP].concat());
    until("the reconnect", || {
        (Scrape::of(&there).value("connected", &[]) == 1.0).then_some(())
    });
    let of_replica = Scrape::of(&there);
    assert_eq!(of_replica.value("reconnects_total", &[]), 1.0);
    assert_eq!(
        of_replica.value("snapshot_received_duration_seconds_count", &[]),
        1.0
    );
}

/// A process with two replicas of which one has no upstream yet.
#[test]
fn readiness_follows_the_replicas_that_count() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.db");
    drop(fill(&path, 5));
    let late = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let late_address = late.local_addr().expect("an address").to_string();
    // Nobody listens there until the second primary does.
    drop(late);
    let primary = Server::start(&["primary", "--db", text(&path)]);
    primary.wait_healthy("app.db");
    let config = |readiness: &str, name: &str| {
        let file = dir.path().join(format!("{name}.yml"));
        let yaml = format!(
            "listen: 127.0.0.1:0\nhttp-listen: 127.0.0.1:0\nreadiness: {readiness}\ndbs:\n  \
             - {{path: {name}-a.db, name: a.db, upstream: {{url: '{}', database: app.db}}}}\n  \
             - {{path: {name}-b.db, name: b.db, upstream: {{url: 'http://{late_address}', database: app.db}}}}\n",
            primary.url
        );
        std::fs::write(&file, yaml).expect("a file");
        file
    };
    let node = |readiness, name| {
        let file = config(readiness, name);
        Server::start_here(&["run", "--config", text(&file)], dir.path())
    };
    let (all, any) = (node("all", "all"), node("any", "any"));
    let (first, second) = (node("[a.db]", "first"), node("[b.db]", "second"));
    let ready = |server: &Server| get(&server.told("status page on "), "/readyz");
    until("a.db to be level", || {
        (ready(&first).0 == 200).then_some(())
    });
    until("any to be level", || (ready(&any).0 == 200).then_some(()));
    for server in [&all, &second] {
        let (status, body) = ready(server);
        assert_eq!(status, 503, "{body}");
        assert!(
            body.contains("b.db: was not level with its primary yet (disconnected: "),
            "{body}"
        );
        assert_eq!(get(&server.told("status page on "), "/livez").0, 200);
    }
    let other = dir.path().join("other/app.db");
    std::fs::create_dir(dir.path().join("other")).expect("a directory");
    drop(fill(&other, 5));
    let _late = Server::start_at(&["primary", "--db", text(&other), "--listen", &late_address]);
    for server in [&all, &second, &first, &any] {
        until("all to be ready", || (ready(server).0 == 200).then_some(()));
    }
    all.stop();
}
