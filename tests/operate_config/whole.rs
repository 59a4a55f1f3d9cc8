//! Files that are right, to the last value.

use super::support::{env, read};
use std::path::PathBuf;
use std::time::Duration;
use walcast::archive::{ArchiveOptions, ArchiveSource};
use walcast::config::{
    Config, DatabaseEntry, DirectoryEntry, Entry, Grant, Limits, LogConfig, LogFormat, Permission,
    PrimaryOptions, Readiness, ReplicaOptions, ServerOptions, ServerTls, TokenSource,
    UpstreamEntry, UpstreamTls, parse,
};

const EVERYTHING: &str = r#"
listen: 0.0.0.0:$PORT
http-listen: "[::1]:4080"
insecure: $YES
server-id: "7"
drain-timeout: 1m30s
reflection: false
readiness: [two, tenants/x]
max-staleness: 30s
log: {level: "warn,walcast::primary=debug", format: json}
tls: {cert: c.pem, key: k.pem, client-ca: ca.pem}
limits:
  request-bytes: 1MiB
  streams: $MANY
  streams-per-client: 3
  waits: 4
  connections: 50
  unauthenticated-connections: 6
  handshake-timeout: 7s
  idle-timeout: 8s
  stall-timeout: 9s
access:
  - {name: one, token: $TOKEN, databases: [a.db, "tenants/*"], allow: [stream, position, status]}
  - name: two
    token-file: /run/two
    client-name: two.example
    allow: [admin, reflection, metrics]
exec: echo "$$HOME ${HOST}"   # $NOT expanded here
dbs:
  - path: $DATA/app.db
    name: one
    retain-size: 5MB
    retain-age: 7d
    heartbeat: 500ms
    archives:
      - url: backup/app
      - {url: "s3://bucket/app?endpoint=http://${HOST}:9000", sync-interval: 10s, snapshot-interval: 1h, retain-age: 30d,
         retain-count: 5, validation-interval: 7d}
  - path: r/app.db
    name: two
    upstream:
      url: https://${HOST}:${PORT}/
      database: deep/app.db
      tls: {ca: ca.pem, cert: c.pem, key: k.pem, server-name: other.example}
      token-file: t
    archive: /backup/app
    replica-name: eu-1
    scrub-interval: 24h
    wal-soft-limit: 1MiB
    wal-hard-limit: 2MiB
    mode: 0600
  - {dir: tenants, pattern: "**/*.db", retain-age: 0s}
  - dir: mirror
    upstream: {url: "http://h:1", token: plain}
  - {path: standby.db, archive: "s3://bucket/app", archive-poll: 10s}
"#;

fn everything() -> Config {
    Config {
        server: ServerOptions {
            listen: "0.0.0.0:4040".into(),
            http_listen: Some("[::1]:4080".into()),
            insecure: true,
            server_id: Some("7".into()),
            drain_timeout: Duration::from_secs(90),
            tls: Some(ServerTls {
                cert: "c.pem".into(),
                key: "k.pem".into(),
                client_ca: Some("ca.pem".into()),
            }),
            access: grants(),
            reflection: false,
            limits: Limits {
                request_bytes: 1 << 20,
                streams: 12,
                streams_per_client: 3,
                waits: 4,
                connections: 50,
                unauthenticated_connections: 6,
                handshake_timeout: Duration::from_secs(7),
                idle_timeout: Duration::from_secs(8),
                stall_timeout: Duration::from_secs(9),
            },
            readiness: Readiness::Named(vec!["two".into(), "tenants/x".into()]),
            max_staleness: Some(Duration::from_secs(30)),
            log: LogConfig {
                level: "warn,walcast::primary=debug".into(),
                format: LogFormat::Json,
            },
        },
        entries: entries(),
        exec: Some("echo \"$HOME primary.example\"".into()),
        take_over: false,
    }
}

fn grants() -> Vec<Grant> {
    vec![
        Grant {
            name: "one".into(),
            token: Some(TokenSource::Value("from-the-environment".into())),
            client_name: None,
            databases: vec!["a.db".into(), "tenants/*".into()],
            allow: vec![Permission::Stream, Permission::Position, Permission::Status],
        },
        Grant {
            name: "two".into(),
            token: Some(TokenSource::File("/run/two".into())),
            client_name: Some("two.example".into()),
            databases: Vec::new(),
            allow: vec![
                Permission::Admin,
                Permission::Reflection,
                Permission::Metrics,
            ],
        },
    ]
}

fn archives() -> Vec<ArchiveOptions> {
    let at = |text: &str| ArchiveOptions::new(text.parse().expect("a location"));
    vec![
        at("backup/app"),
        ArchiveOptions {
            sync_interval: Duration::from_secs(10),
            snapshot_interval: Duration::from_secs(3600),
            retain_age: Duration::from_secs(30 * 86_400),
            retain_count: 5,
            validation_interval: Some(Duration::from_secs(7 * 86_400)),
            ..at("s3://bucket/app?endpoint=http://primary.example:9000")
        },
    ]
}

fn entries() -> Vec<Entry> {
    let upstream = UpstreamEntry {
        url: "https://primary.example:4040".into(),
        tls: UpstreamTls {
            ca: Some("ca.pem".into()),
            cert: Some("c.pem".into()),
            key: Some("k.pem".into()),
            server_name: Some("other.example".into()),
        },
        token: Some(TokenSource::File("t".into())),
    };
    vec![
        Entry::Database(DatabaseEntry {
            name: "one".into(),
            path: "/data/app.db".into(),
            upstream: None,
            primary: PrimaryOptions {
                retain_size: 5_000_000,
                retain_age: Duration::from_secs(7 * 86_400),
                heartbeat: Duration::from_millis(500),
                archives: archives(),
            },
            replica: ReplicaOptions::default(),
        }),
        Entry::Database(DatabaseEntry {
            name: "two".into(),
            path: "r/app.db".into(),
            upstream: Some((upstream, "deep/app.db".into())),
            primary: PrimaryOptions::default(),
            replica: ReplicaOptions {
                name: Some("eu-1".into()),
                scrub_interval: Some(Duration::from_secs(86_400)),
                wal_soft_limit: 1 << 20,
                wal_hard_limit: 2 << 20,
                mode: 0o600,
                archive: Some(ArchiveSource::new("/backup/app".parse().expect("a path"))),
            },
        }),
        Entry::Directory(DirectoryEntry {
            dir: "tenants".into(),
            pattern: "**/*.db".into(),
            upstream: None,
            primary: PrimaryOptions {
                retain_age: Duration::ZERO,
                ..PrimaryOptions::default()
            },
            replica: ReplicaOptions::default(),
        }),
        Entry::Directory(DirectoryEntry {
            dir: "mirror".into(),
            pattern: "**".into(),
            upstream: Some(UpstreamEntry {
                url: "http://h:1".into(),
                tls: UpstreamTls::default(),
                token: Some(TokenSource::Value("plain".into())),
            }),
            primary: PrimaryOptions::default(),
            replica: ReplicaOptions::default(),
        }),
        Entry::Database(DatabaseEntry {
            name: "standby.db".into(),
            path: "standby.db".into(),
            upstream: None,
            primary: PrimaryOptions::default(),
            replica: ReplicaOptions {
                archive: Some(ArchiveSource {
                    location: "s3://bucket/app".parse().expect("a bucket"),
                    poll: Duration::from_secs(10),
                }),
                ..ReplicaOptions::default()
            },
        }),
    ]
}

#[test]
fn every_key_is_read() {
    assert_eq!(read(EVERYTHING), Ok(everything()));
}

#[test]
fn one_path_is_enough() {
    let config = read("dbs: [{path: /data/app.db}]").expect("valid");
    let want = Config {
        server: ServerOptions::default(),
        entries: vec![Entry::Database(DatabaseEntry {
            name: "app.db".into(),
            path: PathBuf::from("/data/app.db"),
            upstream: None,
            primary: PrimaryOptions::default(),
            replica: ReplicaOptions::default(),
        })],
        exec: None,
        take_over: false,
    };
    assert_eq!(config, want);
}

#[test]
fn a_replica_follows_the_database_with_its_files_name() {
    let config = read("dbs: [{path: r/app.db, name: x, upstream: {url: 'http://h:1'}}]");
    let config = config.expect("valid");
    match &config.entries[..] {
        [Entry::Database(entry)] => {
            let database = entry
                .upstream
                .as_ref()
                .map(|(_, database)| database.as_str());
            assert_eq!((entry.name.as_str(), database), ("x", Some("app.db")));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_variable_holds_is_one_value() {
    let evil = env("EVIL").expect("set");
    for written in ["$EVIL", "\"$EVIL\"", "'${EVIL}'", "|-\n  $EVIL"] {
        let config = read(&format!("exec: {written}\ndbs: [{{path: a}}]\n")).expect(written);
        assert_eq!(config.exec.as_deref(), Some(evil.as_str()), "{written}");
        assert_eq!(config.entries.len(), 1);
    }
}

#[test]
fn without_expansion_a_dollar_is_a_dollar() {
    let text = "exec: $NO $$ ${\ndbs: [{path: $DATA/a}]\n";
    let config = parse(text, "walcast.yml", None).expect("valid");
    assert_eq!(config.exec.as_deref(), Some("$NO $$ ${"));
}

#[test]
fn limits_follow_the_whole_that_was_lowered() {
    let config = read("limits: {streams: 10, connections: 5}\ndbs: [{path: a}]").expect("valid");
    let limits = config.server.limits;
    assert_eq!(
        (
            limits.streams_per_client,
            limits.unauthenticated_connections
        ),
        (10, 5)
    );
}

#[test]
fn an_alias_repeats_a_value() {
    let config = read(
        "dbs:\n  - {path: a, upstream: &up {url: 'http://h:1'}}\n  - {path: b, upstream: *up}\n",
    );
    let upstreams: Vec<_> = config
        .expect("valid")
        .entries
        .into_iter()
        .map(|entry| match entry {
            Entry::Database(entry) => entry.upstream.expect("an upstream").0,
            Entry::Directory(entry) => panic!("{entry:?}"),
        })
        .collect();
    assert_eq!(upstreams[0], upstreams[1]);
}

#[test]
fn bombs_are_refused_before_they_go_off() {
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..30 {
        let before = vec![format!("*a{}", i - 1); 10].join(", ");
        laughs += &format!("a{i}: &a{i} [{before}]\n");
    }
    // Each within the next, so that the depth grows and the number of values hardly does.
    let mut chain = "a0: &a0 [x]\n".to_owned();
    for i in 1..40 {
        chain += &format!("a{i}: &a{i} [*a{}]\n", i - 1);
    }
    let variables = format!("exec: {}\n", "$BIG".repeat(10_000));
    let big = |_: &str| Ok("x".repeat(100_000));
    for (text, said) in [
        (laughs, "more than 262144 values"),
        (chain, "more than 32 values within each other"),
        ("[".repeat(100_000), "this is not YAML"),
        ("- ".repeat(100_000), "this is not YAML"),
        ("{a: ".repeat(100_000), "this is not YAML"),
        ("[]\n".repeat(2_000_000), "more than 4194304 bytes"),
        (format!("a: [{}]", ",".repeat(3_000_000)), ""),
        (
            format!("a: [{}]", "x,".repeat(1_000_000)),
            "more than 262144 values",
        ),
        (variables, "more than 4194304 bytes"),
    ] {
        let error = parse(&text, "bomb.yml", Some(&big)).expect_err("a bomb");
        let first = error.lines().next().expect("a line");
        assert!(first.contains(said) && first.len() < 600, "{said}: {first}");
    }
}

/// A thousand databases with every key are no bomb.
#[test]
fn large_files_are_read() {
    let mut text = "dbs:\n".to_owned();
    for i in 0..1000 {
        text += &format!(
            "  - path: /replica/{i}.db\n    name: tenant-{i}\n    upstream:\n      url: https://h:1\n      database: \
             {i}.db\n      token-file: t\n      tls: {{ca: a, cert: b, key: c, server-name: d}}\n    mode: 0640\n"
        );
    }
    assert_eq!(read(&text).expect("valid").entries.len(), 1000);
}
/// What grows faster than the file would not come back from this.
#[test]
fn repetition_gets_an_answer() {
    let pieces = "- |? |'|\"|&a |*a |!a |#|%|a: |>\n |{|}|[|]|,|:|\n|\t|a\n|? a\n|[a]: |x: &a\n|$A|$|${|a, |- [|---\n|\\|é";
    for piece in pieces.split('|') {
        for before in ["", "dbs: [", "exec: \"", "exec: |\n "] {
            let text = format!("{before}{}", piece.repeat((1 << 17) / piece.len().max(1)));
            let error = read(&text).expect_err("no databases");
            assert!(error.lines().count() <= 51, "{piece:?} after {before:?}");
        }
    }
}

#[test]
fn an_archive_is_one_databases() {
    for text in [
        "dbs: [{path: a, archives: [{url: /x/y}]}, {path: b, archives: [{url: /x/./y}]}]",
        "dbs: [{path: a, archives: [{url: s3://b/y}, {url: s3://b/y}]}]",
        "dbs: [{path: a, archives: [{url: /x}]}, {dir: d, pattern: '*.db', archives: [{url: file:///x}]}]",
    ] {
        let error = read(text).expect_err(text).to_string();
        assert!(error.contains("an archive holds one database"), "{error}");
    }
    for (text, what) in [
        ("dbs: [{path: a, archives: []}]", "empty list"),
        (
            "dbs: [{path: a, archives: [{sync-interval: 1s}]}]",
            "`url` is missing",
        ),
        (
            "dbs: [{path: a, archives: [{url: ftp://x/y}]}]",
            "s3://BUCKET/PREFIX",
        ),
        (
            "dbs: [{path: a, archives: [{url: /x, retain-count: 0}]}]",
            "between 1",
        ),
        (
            "dbs: [{path: a, archives: [{url: /x, sync-interval: 0s}]}]",
            "sync-interval",
        ),
        (
            "dbs: [{path: a, upstream: {url: 'http://h:1'}, archives: [{url: /x}]}]",
            "is for primaries",
        ),
    ] {
        let error = read(text).expect_err(text).to_string();
        assert!(error.contains(what), "{text}: {error}");
    }
}
