//! Whatever a configuration is, what `show` writes of it reads as the same; and whatever a file is, reading it ends in an
//! answer.

use super::support::env;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use std::path::PathBuf;
use std::time::Duration;
use walcast::archive::{ArchiveOptions, ArchiveSource};
use walcast::config::{
    Config, DatabaseEntry, DirectoryEntry, Entry, Grant, Limits, LogConfig, LogFormat, Permission,
    PrimaryOptions, Readiness, ReplicaOptions, ServerOptions, ServerTls, TokenSource,
    UpstreamEntry, UpstreamTls, parse, show,
};

/// What is hard to write in YAML, or in a variable's neighbourhood.
fn label() -> impl Strategy<Value = String> {
    let hard = select(vec![
        "null", "~", "true", "0640", "1e3", "- a", "a: b", "#", "'", "\"", "$HOME", "$$", "{a",
        "[", "*a", "&a", "!a", "%", "@", "`", "|", ">", "\\n", "\\", "\u{2028}", "\u{feff}", "é",
        "日本", "\u{202e}", " ", "a ", " #a",
    ]);
    let any = "[^\\p{C}/]{1,12}".prop_filter("dots", |text| text != "." && text != "..");
    prop_oneof![hard.prop_map(str::to_owned), any]
}

fn path() -> impl Strategy<Value = PathBuf> {
    vec(label(), 1..4).prop_map(|parts| PathBuf::from(format!("/{}", parts.join("/"))))
}

fn duration() -> impl Strategy<Value = Duration> {
    (1_u64..1 << 42).prop_map(Duration::from_millis)
}

fn heartbeat() -> impl Strategy<Value = Duration> {
    (10_u64..=3_600_000).prop_map(Duration::from_millis)
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), (0_u64..1 << 20).prop_map(|n| n << 20)]
}

fn port() -> impl Strategy<Value = String> {
    let host = select(vec![
        "127.0.0.1",
        "[::1]",
        "localhost",
        "0.0.0.0",
        "h.example",
    ]);
    (host, any::<u16>()).prop_map(|(host, port)| format!("{host}:{port}"))
}

fn upstream() -> impl Strategy<Value = UpstreamEntry> {
    let tls =
        (of(path()), of((path(), path())), of(label())).prop_map(|(ca, cert, server_name)| {
            let (cert, key) = cert.unzip();
            UpstreamTls {
                ca,
                cert,
                key,
                server_name,
            }
        });
    let tls = prop_oneof![Just(UpstreamTls::default()), tls];
    (port(), tls, of(path())).prop_map(|(port, tls, token)| {
        let port = port.replace(":0", ":1");
        UpstreamEntry {
            url: format!("https://{port}"),
            tls,
            token: token.map(TokenSource::File),
        }
    })
}

fn primary() -> impl Strategy<Value = PrimaryOptions> {
    let age = prop_oneof![Just(Duration::ZERO), duration()];
    let archives = proptest::collection::vec(archive(), 0..3);
    (size(), age, heartbeat(), archives).prop_map(
        |(retain_size, retain_age, heartbeat, archives)| PrimaryOptions {
            retain_size,
            retain_age,
            heartbeat,
            archives,
        },
    )
}

/// Each somewhere else, or the file would be refused.
fn archive() -> impl Strategy<Value = ArchiveOptions> {
    let place = (any::<u64>(), 0..4).prop_map(|(number, kind)| {
        let text = match kind {
            0 => format!("/backup/{number:x}"),
            1 => format!("s3://bucket/a b/{number:x}?endpoint=http://127.0.0.1:9000&region=eu-1"),
            2 => format!("gs://bucket/{number:x}"),
            _ => format!("az://container/{number:x}?endpoint=http://h:1/account"),
        };
        text.parse().expect("a location")
    });
    let times = (duration(), duration(), duration(), of(duration()));
    (place, times, 1_usize..9).prop_map(|(location, (sync, snapshot, age, validation), count)| {
        ArchiveOptions {
            sync_interval: sync,
            snapshot_interval: snapshot,
            retain_age: age,
            retain_count: count,
            validation_interval: validation,
            ..ArchiveOptions::new(location)
        }
    })
}

fn replica() -> impl Strategy<Value = ReplicaOptions> {
    let mode = (0_u32..0o67).prop_map(|rest| 0o600 | (rest & 0o66));
    (of(label()), of(duration()), size(), size(), mode).prop_map(
        |(name, scrub_interval, one, other, mode)| ReplicaOptions {
            name,
            scrub_interval,
            wal_soft_limit: one.min(other),
            wal_hard_limit: one.max(other),
            mode,
            archive: None,
        },
    )
}

/// Entries whose names and files differ by their number.
fn entry(number: usize) -> impl Strategy<Value = Entry> {
    (
        (any::<bool>(), path(), label(), label()),
        of(upstream()),
        primary(),
        replica(),
    )
        .prop_map(
            move |((one, path, name, database), upstream, primary, replica)| {
                // Keys of the other kind are refused, so only defaults can be shown of them.
                let source = primary
                    .archives
                    .first()
                    .map(|archive| ArchiveSource::new(archive.location.clone()));
                let (primary, replica) = match (&upstream, one, source) {
                    (Some(_), _, archive) => (
                        PrimaryOptions::default(),
                        ReplicaOptions { archive, ..replica },
                    ),
                    (None, true, Some(archive)) if number.is_multiple_of(2) => {
                        let archive = ArchiveSource {
                            poll: primary.heartbeat,
                            ..archive
                        };
                        let archive = Some(archive);
                        (
                            PrimaryOptions::default(),
                            ReplicaOptions { archive, ..replica },
                        )
                    }
                    _ => (primary, ReplicaOptions::default()),
                };
                match one {
                    true => Entry::Database(DatabaseEntry {
                        name: format!("{name}/{number}"),
                        path: path.join(format!("file-{number}")),
                        upstream: upstream.map(|upstream| (upstream, database)),
                        primary,
                        replica,
                    }),
                    false => Entry::Directory(DirectoryEntry {
                        dir: path.join(format!("dir-{number}")),
                        pattern: ["*.db", "**/*.{db,sqlite}", "[!$a-z]*", "**"][number % 4]
                            .to_owned(),
                        upstream,
                        primary,
                        replica,
                    }),
                }
            },
        )
}

fn limits() -> impl Strategy<Value = Limits> {
    let times = (duration(), duration(), duration());
    let counts = vec(1_usize..=1_000_000, 5);
    (
        (1_usize << 10)..=(16 << 20),
        counts,
        1_usize..=1_000_000,
        times,
    )
        .prop_map(|(request_bytes, counts, waits, times)| Limits {
            request_bytes,
            streams: counts[0].max(counts[1]),
            streams_per_client: counts[0].min(counts[1]),
            waits,
            connections: counts[2].max(counts[3]),
            unauthenticated_connections: counts[2].min(counts[3]),
            handshake_timeout: times.0,
            idle_timeout: times.1,
            stall_timeout: times.2,
        })
}

const PERMISSIONS: [Permission; 6] = [
    Permission::Stream,
    Permission::Position,
    Permission::Status,
    Permission::Admin,
    Permission::Reflection,
    Permission::Metrics,
];

/// Of a grant: its name, whether it has a token and a client's name, its databases, what it allows.
type Drawn = (String, (bool, bool), Vec<&'static str>, Vec<Permission>);

fn grants() -> impl Strategy<Value = Vec<Grant>> {
    let grant = (
        label(),
        (any::<bool>(), any::<bool>()),
        vec(select(vec!["*", "a/**", "$b"]), 0..3),
        subsequence(PERMISSIONS.to_vec(), 1..=6),
    );
    vec(grant, 0..4).prop_map(|grants| {
        let grants = grants.into_iter().enumerate();
        let grant = |(i, drawn): (usize, Drawn)| {
            let (name, known, databases, allow) = drawn;
            let token = known.0 || !known.1;
            Grant {
                name: format!("{name} {i}"),
                token: token.then(|| TokenSource::File(PathBuf::from(format!("/{name}/{i}")))),
                client_name: known.1.then(|| format!("{i}{name}")),
                databases: databases.into_iter().map(str::to_owned).collect(),
                allow,
            }
        };
        grants.map(grant).collect()
    })
}

fn server() -> impl Strategy<Value = ServerOptions> {
    let log = (select(vec!["off", "info", "warn,a=debug"]), any::<bool>());
    let ports = (port(), of(port()), of(label()), duration());
    let readiness = select(vec![Readiness::Any, Readiness::All]);
    (
        ports,
        (path(), path(), path()),
        grants(),
        any::<bool>(),
        limits(),
        readiness,
        (of(duration()), log),
    )
        .prop_map(
            |(ports, tls, access, switch, limits, readiness, (max_staleness, log))| ServerOptions {
                http_listen: ports.1.filter(|http| *http != ports.0),
                listen: ports.0,
                insecure: switch,
                server_id: ports.2,
                drain_timeout: ports.3,
                tls: Some(ServerTls {
                    cert: tls.0,
                    key: tls.1,
                    client_ca: Some(tls.2),
                }),
                access,
                reflection: !switch,
                limits,
                readiness,
                max_staleness,
                log: LogConfig {
                    level: log.0.to_owned(),
                    format: if log.1 {
                        LogFormat::Json
                    } else {
                        LogFormat::Text
                    },
                },
            },
        )
}

fn config() -> impl Strategy<Value = Config> {
    let exec = of(label().prop_filter("words", |text| {
        !text.trim().is_empty() && !text.contains(['\'', '"', '\\', '#'])
    }));
    let entries = (entry(0), entry(1), entry(2), entry(3));
    (server(), entries, 1_usize..=4, exec).prop_map(|(server, entries, number, exec)| {
        let entries = [entries.0, entries.1, entries.2, entries.3];
        Config {
            server,
            entries: entries.into_iter().take(number).collect(),
            exec,
            take_over: false,
        }
    })
}

const VALID: &str = include_str!("../../deploy/walcast.example.yml");

/// Pieces by which a file goes wrong.
const PIECES: [&str; 24] = [
    "\n", "  ", "- ", ": ", "#", "\"", "'", "[", "]", "{", "}", "&a ", "*a", "!!str ", "|\n",
    ">-\n", "$", "${", "$HOST", "\t", "---\n", "\u{feff}", "dbs:\n", "<<: ",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_is_shown_reads_as_the_same(config in config()) {
        let shown = show(&config);
        let read = parse(&shown, "shown.yml", Some(&env));
        let read = read.map_err(|error| TestCaseError::fail(format!("{error}\n{shown}")))?;
        prop_assert_eq!(&read, &config, "{}", shown);
        prop_assert_eq!(show(&read), shown);
    }

    #[test]
    fn any_text_gets_an_answer(text in "(?s).{0,200}") {
        check(&text)?;
    }

    #[test]
    fn any_bytes_get_an_answer(bytes in vec(any::<u8>(), 0..200)) {
        let here = tempfile::tempdir().expect("a directory");
        let file = here.path().join("c.yml");
        std::fs::write(&file, bytes).expect("a file");
        if let Err(error) = walcast::config::load(&file, true) {
            prop_assert!(error.lines().count() > 0);
        }
    }

    #[test]
    fn any_pieces_get_an_answer(pieces in vec(select(PIECES.to_vec()), 0..60)) {
        check(&pieces.concat())?;
    }

    #[test]
    fn a_valid_file_with_damage_gets_an_answer(
        cuts in vec((any::<prop::sample::Index>(), 0_usize..20, select(PIECES.to_vec())), 1..6)
    ) {
        let mut text: Vec<char> = VALID.replace('#', "").chars().collect();
        for (at, length, piece) in cuts {
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, piece.chars());
        }
        check(&text.into_iter().collect::<String>())?;
    }
}

/// An answer is a configuration or lines that name places in the file.
fn check(text: &str) -> Result<(), TestCaseError> {
    let Err(error) = parse(text, "c.yml", Some(&env)) else {
        return Ok(());
    };
    // YAML has more line breaks than one, and the place behind the last line is one too.
    let lines = text.chars().filter(|c| matches!(c, '\n' | '\r')).count() + 2;
    prop_assert!(!error.problems().is_empty());
    for problem in error.problems() {
        let place = problem
            .place
            .unwrap_or(walcast::config::Place { line: 1, column: 1 });
        prop_assert!(
            place.column > 0 && (1..=lines).contains(&place.line),
            "{problem:?}"
        );
    }
    for line in error.lines() {
        prop_assert!(
            line.starts_with("c.yml:") && !line.chars().any(char::is_control),
            "{line:?}"
        );
    }
    Ok(())
}
