//! `/metrics`, and what is built on it.

use crate::fake::Handle;
use crate::running::{Answer, Running};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;
use walcast::model::{DatabaseState, LogHolder};

/// The value of a series, written as in the answer.
fn value(answer: &Answer, series: &str) -> f64 {
    let line = answer
        .body
        .lines()
        .find_map(|line| line.strip_prefix(series));
    let value = line.unwrap_or_else(|| panic!("no {series} in\n{}", answer.body));
    value.trim().parse().expect("a number")
}

/// The names of all series, with their types.
fn families(answer: &Answer) -> BTreeMap<String, String> {
    let types = answer
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    let pairs = types.filter_map(|line| line.split_once(' '));
    pairs
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect()
}

#[tokio::test]
async fn every_series_of_a_database_is_there_from_its_start() {
    let (primary, replica) = (Handle::primary("own.db"), Handle::replica("copy.db"));
    primary.follow("copenhagen", "1", 0.0);
    primary.archive("s3://bucket/own");
    let server = Running::start(&[&primary, &replica]).await;
    let answer = server.get("/metrics").await;
    assert_eq!(
        answer.header("content-type"),
        ["text/plain; version=0.0.4; charset=utf-8"]
    );
    let kinds = families(&answer);
    for (name, kind) in &kinds {
        let samples: Vec<&str> = answer
            .body
            .lines()
            .filter(|line| line.starts_with(name.as_str()))
            .collect();
        assert!(!samples.is_empty(), "{name} has no sample");
        assert!(
            name.starts_with("walcast_") || name.starts_with("process_"),
            "{name}"
        );
        assert_eq!(
            kind == "counter",
            name.ends_with("_total"),
            "{name} is a {kind}"
        );
        for line in samples.iter().filter(|line| line.starts_with("walcast_")) {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            if kind == "counter" || kind == "histogram" {
                assert_eq!(value.parse(), Ok(0.0), "{series}");
            }
            // Labels come from short lists, but for the two names.
            let labels = series
                .split_once('{')
                .map_or("", |(_, labels)| labels.trim_end_matches('}'));
            for label in labels
                .split("\",")
                .filter_map(|pair| pair.split('=').next())
                .filter(|l| !l.is_empty())
            {
                assert!(
                    [
                        "database", "replica", "archive", "state", "by", "role", "le", "version"
                    ]
                    .contains(&label),
                    "{series}"
                );
            }
        }
    }
    assert!(kinds.len() > 35, "{kinds:?}");
    assert_eq!(
        value(
            &answer,
            "walcast_database_state{database=\"own.db\",state=\"streaming\"}"
        ),
        1.0
    );
    assert_eq!(
        value(
            &answer,
            "walcast_database_state{database=\"own.db\",state=\"failed\"}"
        ),
        0.0
    );
    assert_eq!(
        value(
            &answer,
            "walcast_replica_lag_bytes{database=\"own.db\",replica=\"copenhagen\"}"
        ),
        32.0
    );
    assert_eq!(
        value(&answer, "walcast_lag_bytes{database=\"copy.db\"}"),
        32.0
    );
    assert_eq!(
        value(
            &answer,
            "walcast_log_held{database=\"own.db\",by=\"nothing\"}"
        ),
        1.0
    );
    assert!(value(&answer, "process_resident_memory_bytes") > 1e6);
    server.end().await;
}

#[tokio::test]
async fn what_is_counted_is_shown_in_base_units() {
    let (primary, replica) = (Handle::primary("own.db"), Handle::replica("copy.db"));
    let server = Running::start(&[&primary, &replica]).await;
    let meters = &primary.0.meters;
    meters.frames.add(3);
    meters.segments.observe(1000);
    meters.work.time(Duration::from_millis(3));
    meters.set_holder(LogHolder::Checkpoint);
    let meters = &replica.0.meters;
    meters.streams.add(3);
    meters.checksum_failures.add(1);
    replica.set(|status| status.staleness_seconds = -1.0);
    server.meters.reloads.add(2);
    server.meters.connections_opened.add(5);
    server.meters.connections_closed.add(1);
    let answer = server.get("/metrics").await;
    for (series, wanted) in [
        ("walcast_captured_frames_total{database=\"own.db\"}", 3.0),
        (
            "walcast_captured_segment_size_bytes_sum{database=\"own.db\"}",
            1000.0,
        ),
        (
            "walcast_captured_segment_size_bytes_bucket{database=\"own.db\",le=\"256\"}",
            0.0,
        ),
        (
            "walcast_captured_segment_size_bytes_bucket{database=\"own.db\",le=\"1024\"}",
            1.0,
        ),
        (
            "walcast_captured_segment_size_bytes_bucket{database=\"own.db\",le=\"+Inf\"}",
            1.0,
        ),
        (
            "walcast_capture_duration_seconds_sum{database=\"own.db\"}",
            0.003,
        ),
        (
            "walcast_capture_duration_seconds_count{database=\"own.db\"}",
            1.0,
        ),
        (
            "walcast_log_held{database=\"own.db\",by=\"checkpoint\"}",
            1.0,
        ),
        ("walcast_log_held{database=\"own.db\",by=\"nothing\"}", 0.0),
        ("walcast_reconnects_total{database=\"copy.db\"}", 2.0),
        ("walcast_checksum_failures_total{database=\"copy.db\"}", 1.0),
        (
            "walcast_staleness_seconds{database=\"copy.db\"}",
            f64::INFINITY,
        ),
        ("walcast_config_reloads_total", 2.0),
        ("walcast_connections ", 4.0),
    ] {
        assert_eq!(value(&answer, series), wanted, "{series}");
    }
    server.end().await;
}

#[tokio::test]
async fn series_go_with_their_database_and_no_two_are_one() {
    let (a, b) = (Handle::primary("a.db"), Handle::primary("b.db"));
    for id in ["1", "2"] {
        a.follow("same", id, 1.0);
    }
    a.follow("a \"quoted\" \\ name\nof two lines", "3", 2.0);
    let server = Running::start(&[&a, &b]).await;
    let answer = server.get("/metrics").await;
    let series: Vec<&str> = answer
        .body
        .lines()
        .filter(|l| !l.starts_with('#'))
        .map(|l| l.rsplit_once(' ').expect("a value").0)
        .collect();
    let unique: BTreeSet<&str> = series.iter().copied().collect();
    assert_eq!(unique.len(), series.len());
    assert_eq!(
        value(
            &answer,
            "walcast_replica_lag_seconds{database=\"a.db\",replica=\"same (1)\"}"
        ),
        1.0
    );
    let odd = r#"walcast_replica_lag_seconds{database="a.db",replica="a \"quoted\" \\ name\nof two lines"}"#;
    assert_eq!(value(&answer, odd), 2.0);
    server.registry.remove("a.db").expect("it is there");
    let answer = server.get("/metrics").await;
    assert!(!answer.body.contains("a.db") && answer.body.contains("b.db"));
    server.end().await;
}

pub fn monitoring(file: &str) -> String {
    let path = format!("{}/deploy/monitoring/{file}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Everything that looks like a metric of ours.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|w| w.starts_with("walcast_") || w.starts_with("process_"))
        .collect()
}

#[tokio::test]
async fn rules_dashboard_and_documentation_use_only_metrics_that_exist() {
    let (primary, replica) = (Handle::primary("own.db"), Handle::replica("copy.db"));
    primary.follow("copenhagen", "1", 0.0);
    let server = Running::start(&[&primary, &replica]).await;
    let answer = server.get("/metrics").await;
    let mut known = BTreeSet::new();
    for (name, kind) in families(&answer) {
        if kind == "histogram" {
            known.extend(["_bucket", "_sum", "_count"].map(|part| format!("{name}{part}")));
        }
        known.insert(name);
    }
    for file in ["alerts.yml", "alerts_test.yml", "grafana.json"] {
        let text = monitoring(file);
        let used = names(&text);
        assert!(used.len() > 8, "{file}: only {used:?} were found");
        for name in used {
            assert!(known.contains(name), "{file}: {name} does not exist");
        }
    }
    let readme = monitoring("README.md");
    // `walcast_a_{b,c}_total` stands for two.
    let told = expand(&readme);
    for name in families(&answer)
        .keys()
        .filter(|name| name.starts_with("walcast_"))
    {
        assert!(
            told.contains(name.as_str()),
            "README.md does not tell of {name}"
        );
    }
    serde_json::from_str::<serde_json::Value>(&monitoring("grafana.json")).expect("JSON");
    server.end().await;
}

fn expand(text: &str) -> BTreeSet<String> {
    let mut told = BTreeSet::new();
    for word in text.split('`') {
        match (word.split_once('{'), word.split_once('}')) {
            (Some((before, _)), Some((list, after))) if word.starts_with("walcast_") => {
                let list = &list[before.len() + 1..];
                told.extend(list.split(',').map(|part| format!("{before}{part}{after}")));
            }
            _ => {
                told.insert(word.to_owned());
            }
        }
    }
    told
}

#[tokio::test]
async fn a_copy_that_its_upstream_let_go_alerts_nobody() {
    let (orphan, copy) = (Handle::replica("orphan.db"), Handle::replica("copy.db"));
    orphan.0.followed.store(false, Ordering::SeqCst);
    orphan.set(|status| {
        status.state = DatabaseState::Stopped;
        status.staleness_seconds = -1.0;
    });
    let server = Running::start(&[&orphan, &copy]).await;
    let answer = server.get("/metrics").await;
    for series in ["connected", "lag_seconds", "lag_bytes", "staleness_seconds"] {
        let of = |name: &str| format!("walcast_{series}{{database=\"{name}\"}}");
        value(&answer, &of("copy.db"));
        assert!(!answer.body.contains(&of("orphan.db")), "{series}");
    }
    assert_eq!(
        value(
            &answer,
            "walcast_database_state{database=\"orphan.db\",state=\"stopped\"}"
        ),
        1.0
    );
    server.end().await;
}
