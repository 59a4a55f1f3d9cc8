//! Databases that come and go while the server runs.

use crate::fake::*;
use crate::running::{PATIENCE, Running, within};
use crate::upstream::start;
use std::sync::atomic::Ordering;
use walcast::client::{Admin, Health, Upstream};
use walcast::model::{DatabaseState, Message, ReplicaStatus};
use walcast::server::{Drained, RegistryError, ServerConfig};

async fn reaches(admin: &Admin, name: &str, wanted: Health) {
    within(async {
        while admin.health(name).await.expect("an answer") != wanted {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn health_and_lists_follow_what_comes_and_goes() {
    let server = Running::start(Vec::new()).await;
    let admin = Admin::connect_lazy(&server.url()).expect("a URL");
    let mut changes = server.registry.changes();
    assert_eq!(admin.health("").await.expect("an answer"), Health::Serving);
    assert_eq!(
        admin.health("a/b.db").await.expect("an answer"),
        Health::Unknown
    );

    let replica = FakeReplica::new("a/b.db");
    replica.caught_up.store(false, Ordering::SeqCst);
    server.registry.add(replica.served()).expect("a new name");
    within(changes.changed()).await.expect("a registry");
    reaches(&admin, "a/b.db", Health::NotServing).await;
    reaches(&admin, "", Health::NotServing).await;
    let listed = admin.databases().await.expect("a list");
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].name, "a/b.db");
    assert_eq!(
        server.registry.add(FakePrimary::new("a/b.db").served()),
        Err(RegistryError::NameTaken("a/b.db".into()))
    );

    server.registry.remove("a/b.db").expect("it was there");
    within(changes.changed()).await.expect("a registry");
    reaches(&admin, "a/b.db", Health::Unknown).await;
    reaches(&admin, "", Health::Serving).await;
    assert!(admin.databases().await.expect("a list").is_empty());
    assert!(server.registry.remove("a/b.db").is_none());
}

#[tokio::test]
async fn a_database_that_is_removed_takes_no_other_with_it() {
    let (gone, stays) = (FakePrimary::new("gone.db"), FakePrimary::new("stays.db"));
    // Its stream always has a next message, as in a snapshot.
    gone.flood.store(true, Ordering::SeqCst);
    let server = Running::start(vec![gone.served(), stays.served()]).await;
    let upstream = Upstream::connect_lazy(&server.url()).expect("a URL");
    let mut first = within(upstream.stream(start("gone.db")))
        .await
        .expect("a stream");
    let mut other = within(upstream.stream(start("stays.db")))
        .await
        .expect("a stream");
    assert!(matches!(
        within(other.next()).await,
        Some(Ok(Message::Hello(_)))
    ));
    server.registry.remove("gone.db").expect("it was there");
    let end = within(async {
        loop {
            match first.next().await {
                Some(Ok(_)) => {}
                end => return end,
            }
        }
    });
    let end = end.await.expect("a status").expect_err("the end");
    assert_eq!(end.reason().as_deref(), Some("DATABASE_REMOVED"));
    assert!(end.is_retryable());
    let refused = within(upstream.stream(start("gone.db")))
        .await
        .expect_err("gone");
    assert!(!refused.is_retryable(), "{refused}");
    // The other stream has not ended, and ends as a drained one does.
    server.shut_down();
    let end = within(other.next())
        .await
        .expect("a status")
        .expect_err("the end");
    assert_eq!(end.reason().as_deref(), Some("DRAINING"));
}

#[tokio::test]
async fn what_comes_while_the_server_drains_is_closed_too_and_then_nothing_comes() {
    let first = FakePrimary::new("first.db");
    first.stuck.store(true, Ordering::SeqCst);
    let config = ServerConfig {
        drain_timeout: PATIENCE,
        ..ServerConfig::default()
    };
    let server = Running::with(vec![first.served()], None, config).await;
    let upstream = Upstream::connect_lazy(&server.url()).expect("a URL");
    let stream = within(upstream.stream(start("first.db")))
        .await
        .expect("a stream");
    server.shut_down();
    within(first.drain.cancelled()).await;
    let late = FakePrimary::new("late.db");
    let registry = server.registry.clone();
    registry.add(late.served()).expect("not sealed yet");
    drop(stream);
    assert_eq!(server.ended().await, Drained::Complete);
    assert!(first.fake.stopped.is_cancelled() && late.fake.stopped.is_cancelled());
    assert_eq!(
        registry.add(FakePrimary::new("too-late.db").served()),
        Err(RegistryError::Ending("too-late.db".into()))
    );
}

/// Longer than gRPC takes of an answer by itself, 4 MiB.
#[tokio::test]
async fn the_replicas_of_a_thousand_databases_are_one_list() {
    let status = |database: &str, number: usize| ReplicaStatus {
        database: database.to_owned(),
        replica_id: format!("{number:032x}"),
        name: format!("replica-{number}.eu-central-1.example"),
        address: "[2001:db8:0:1:2:3:4:5]:54321".to_owned(),
        state: DatabaseState::Disconnected,
        reason: "the connection was lost: the peer did not answer a ping in time".to_owned(),
        sent: Some(at(0x40)),
        received: Some(at(0x40)),
        applied: Some(at(0x20)),
        durable: Some(at(0x20)),
        lag_bytes: 0x20,
        lag_seconds: 1.5,
        connected_since_us: 1_700_000_000_000_000,
        bytes_sent: 1 << 40,
    };
    let databases: Vec<_> = (0..1000)
        .map(|i| {
            let name = format!("tenants/number-{i}.db");
            let primary = FakePrimary::new(&name);
            let replicas = (0..32).map(|number| status(&name, number));
            *primary.replicas.lock().unwrap() = replicas.collect();
            primary.served()
        })
        .collect();
    let server = Running::start(databases).await;
    let admin = Admin::connect_lazy(&server.url()).expect("a URL");
    let replicas = within(admin.replicas("")).await.expect("a list");
    assert_eq!(replicas.len(), 32_000);
    assert_eq!(within(admin.databases()).await.expect("a list").len(), 1000);
}
