//! What a server says of its databases while they are still looked for.

use super::databases::{self, Databases};
use super::keeper::Keeper;
use super::signals;
use crate::config::{
    Config, DirectoryEntry, Entry, PrimaryOptions, ReplicaOptions, ServerOptions, UpstreamEntry,
    UpstreamTls,
};
use crate::security::ServerSecurity;
use crate::server::Registry;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

fn directory(dir: &Path, upstream: Option<&str>) -> Entry {
    Entry::Directory(DirectoryEntry {
        dir: dir.to_owned(),
        pattern: "**".into(),
        upstream: upstream.map(|url| UpstreamEntry {
            url: url.to_owned(),
            tls: UpstreamTls::default(),
            token: None,
        }),
        primary: PrimaryOptions::default(),
        replica: ReplicaOptions::default(),
    })
}

/// Starts a keeper; `test` sees what its server knows before anything was looked at.
async fn keep(entries: Vec<Entry>, test: impl FnOnce(&Registry)) -> (Registry, impl Future) {
    let config = Config {
        server: ServerOptions::default(),
        entries,
        exec: None,
        take_over: false,
    };
    let registry = Registry::new(None);
    let upstreams = databases::connect(&config, &HashMap::new()).expect("upstreams");
    let databases = Databases::new(registry.clone(), "test".into(), upstreams, false);
    let security = ServerSecurity::open();
    let meters = Arc::default();
    let keeper = Keeper::start(config, None, registry.clone(), security, databases, meters);
    test(&registry);
    let end = CancellationToken::new();
    let hangups = signals::listen().expect("signals").1;
    let running = tokio::spawn(keeper.run(hangups, end.clone()));
    let ended = async move {
        end.cancel();
        running.await.expect("no panic");
    };
    (registry, ended)
}

async fn until(registry: &Registry, test: impl Fn(&Registry) -> bool) {
    let mut changes = registry.changes();
    let all = async {
        while !test(registry) {
            changes.changed().await.expect("a registry");
        }
    };
    let seen = || (registry.unknown(), registry.listing().0.len());
    let in_time = timeout(Duration::from_secs(60), all).await;
    in_time.unwrap_or_else(|_| panic!("{:?}", seen()));
}

#[tokio::test]
async fn a_server_is_settled_once_it_has_looked_into_its_directories() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("a.db"), b"").expect("a file");
    let entries = vec![directory(dir.path(), None)];
    let (registry, ended) = keep(entries, |registry| {
        assert!(!registry.listing().1);
        assert!(registry.unknown().is_empty());
    })
    .await;
    until(&registry, |registry| {
        let (databases, settled) = registry.listing();
        assert!(!settled || databases.len() == 1, "settled without a.db");
        settled
    })
    .await;
    for served in registry.list() {
        served.database().stop();
    }
    ended.await;
}

#[tokio::test]
async fn a_mirror_tells_why_it_does_not_know_its_databases() {
    let dir = tempfile::tempdir().expect("a directory");
    // Nobody listens on a port that was just given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", free.local_addr().expect("an address"));
    drop(free);
    let entries = vec![directory(dir.path(), Some(&url))];
    let not_asked = "was not asked for its databases yet";
    let (registry, ended) = keep(entries, |registry| {
        assert!(registry.listing().1, "it has no primaries to miss");
        assert_eq!(registry.unknown()[&url], not_asked);
    })
    .await;
    until(&registry, |registry| registry.unknown()[&url] != not_asked).await;
    ended.await;
}
