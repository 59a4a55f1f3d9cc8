//! The page and its events.

use crate::fake::Handle;
use crate::running::{Running, within};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use walcast::model::DatabaseState;

#[tokio::test]
async fn every_answer_is_for_looking_only() {
    let server = Running::start(&[]).await;
    for path in ["/", "/metrics", "/livez", "/readyz", "/nothing"] {
        let answer = server.get(path).await;
        assert_eq!(
            answer.status,
            if path == "/nothing" { 404 } else { 200 },
            "{path}"
        );
        assert_eq!(answer.header("x-content-type-options"), ["nosniff"]);
        assert_eq!(answer.header("cache-control"), ["no-store"]);
        assert_eq!(answer.header("x-frame-options"), ["DENY"]);
        let policy = answer.header("content-security-policy");
        assert!(policy[0].starts_with("default-src 'none'"), "{policy:?}");
        assert!(!policy[0].contains("unsafe"), "{policy:?}");
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let refused = server
                .ask(&format!("{method} {path}"), "content-length: 0\r\n")
                .await;
            let wanted = if path == "/nothing" { 404 } else { 405 };
            assert_eq!(refused.status, wanted, "{method} {path}");
        }
    }
    server.end().await;
}

/// The events of one page.
struct Events(Lines<BufReader<TcpStream>>);

impl Events {
    async fn open(server: &Running) -> Events {
        let stream = server.open("GET /events", "").await;
        Events(BufReader::new(stream).lines())
    }

    /// The next event: its name and its data. `None` when the stream has ended.
    async fn next(&mut self) -> Option<(String, Value)> {
        let mut name = String::new();
        while let Some(line) = within(self.0.next_line()).await.expect("a line") {
            if let Some(event) = line.strip_prefix("event: ") {
                name = event.to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Some((name, serde_json::from_str(data).expect("JSON")));
            }
        }
        None
    }

    /// The first event for which the test holds.
    async fn until(&mut self, test: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (_, data) = self.next().await.expect("an event");
            if test(&data) {
                return data;
            }
        }
    }
}

fn row<'a>(data: &'a Value, name: &str) -> Option<&'a Value> {
    data["rows"]
        .as_array()?
        .iter()
        .find(|row| row["name"] == name)
}

#[tokio::test]
async fn a_page_gets_everything_once_and_then_what_changes() {
    let (primary, replica) = (Handle::primary("own.db"), Handle::replica("copy.db"));
    primary.follow("copenhagen", "1", 0.0);
    let server = Running::start(&[&primary, &replica]).await;
    let mut events = Events::open(&server).await;
    let (name, full) = events.next().await.expect("an event");
    assert_eq!(name, "full");
    assert_eq!(full["server"]["id"], "node-1");
    assert_eq!(full["summary"]["databases"], 2);
    assert_eq!(full["summary"]["connected"], 1);
    assert_eq!(full["history"].as_array().map(Vec::len), Some(1));
    let own = row(&full, "own.db").expect("a row");
    assert_eq!(own["replicas"][0]["name"], "copenhagen");
    assert_eq!(own["health"], "ok");
    assert_eq!(
        own["position"],
        "89abcdef01234567/0000000000000003:0000000000000020"
    );
    let (name, quiet) = events.next().await.expect("an event");
    assert_eq!(name, "tick");
    assert_eq!(quiet["rows"], Value::Array(vec![]), "nothing changed");

    replica.set(|status| {
        status.state = DatabaseState::Disconnected;
        status.reason = "gone".to_owned();
        status.staleness_seconds = 12.0;
    });
    let tick = events.until(|data| row(data, "copy.db").is_some()).await;
    let copy = row(&tick, "copy.db").expect("a row");
    assert_eq!(
        (&copy["state"], &copy["health"]),
        (&Value::from("disconnected"), &Value::from("warn"))
    );
    assert_eq!(
        (&copy["behind"], &copy["stale"]),
        (&Value::from(12.0), &Value::from(12.0))
    );
    assert!(row(&tick, "own.db").is_none(), "it did not change");
    assert_eq!(tick["summary"]["attention"], 1);
    assert_eq!(tick["point"][1], 12.0);

    // A replica that falls behind makes its primary's row worth a look, though the capture is well.
    primary.0.replicas.lock().unwrap()[0].lag_seconds = 7.5;
    let tick = events.until(|data| row(data, "own.db").is_some()).await;
    let own = row(&tick, "own.db").expect("a row");
    assert_eq!(
        (&own["health"], &own["behind"]),
        (&Value::from("ok"), &Value::from(7.5))
    );
    assert_eq!(own["replicas"][0]["health"], "warn");

    server.registry.remove("copy.db").expect("it is there");
    let tick = events
        .until(|data| data["gone"] != Value::Array(vec![]))
        .await;
    assert_eq!(tick["gone"], Value::from(vec!["copy.db"]));
    assert_eq!(tick["summary"]["databases"], 1);
    assert_eq!(server.get("/history?database=copy.db").await.status, 404);
    let history = server.get("/history?database=own.db").await;
    assert!(history.body.contains(",7.5,"), "{}", history.body);
    server.end().await;
    assert!(events.next().await.is_none(), "the page is told the end");
}

#[tokio::test]
async fn rates_are_of_the_last_second_and_throughput_is_their_sum() {
    let primary = Handle::primary("own.db");
    let server = Running::start(&[&primary]).await;
    let mut events = Events::open(&server).await;
    events.next().await.expect("an event");
    primary.set(|status| {
        status.bytes_streamed += 100_000;
        status.commits += 50;
    });
    let tick = events.until(|data| row(data, "own.db").is_some()).await;
    let rate = row(&tick, "own.db").expect("a row")["bytes_per_second"]
        .as_f64()
        .expect("a number");
    // The second may have been a long one.
    assert!((1_000.0..=110_000.0).contains(&rate), "{rate}");
    assert_eq!(tick["summary"]["bytes_per_second"].as_f64(), Some(rate));
    let tick = events.until(|data| row(data, "own.db").is_some()).await;
    assert_eq!(
        row(&tick, "own.db").expect("a row")["bytes_per_second"],
        0.0
    );
    server.end().await;
}
