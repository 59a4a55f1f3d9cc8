//! grpc.health.v1.

use crate::fake::*;
use crate::running::{Running, within};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use walcast::client::{Admin, Health};
use walcast::model::DatabaseState;
use walcast::server::{Outlook, ServerConfig};

async fn reaches(admin: &Admin, name: &str, wanted: Health) {
    within(async {
        while admin.health(name).await.expect("an answer") != wanted {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_replica_serves_once_it_was_level_and_stays_so() {
    let replica = FakeReplica::new("copy.db");
    replica.caught_up.store(false, Ordering::SeqCst);
    let server = Running::start(vec![replica.served()]).await;
    let admin = Admin::connect_lazy(&server.url()).expect("a URL");
    // From the very first answer: tonic-health would say SERVING for "".
    assert_eq!(
        admin.health("").await.expect("an answer"),
        Health::NotServing
    );
    assert_eq!(
        admin.health("copy.db").await.expect("an answer"),
        Health::NotServing
    );
    assert_eq!(
        admin.health("other.db").await.expect("an answer"),
        Health::Unknown
    );
    replica.caught_up.store(true, Ordering::SeqCst);
    reaches(&admin, "", Health::Serving).await;
    reaches(&admin, "copy.db", Health::Serving).await;
    // Its primary went away, for long: readers keep what they have. Wait until the state has been looked at again.
    *replica.fake.state.lock().unwrap() = DatabaseState::Disconnected;
    *replica.fake.staleness.lock().unwrap() = 1e6;
    replica.caught_up.store(false, Ordering::SeqCst);
    reaches(&admin, "copy.db", Health::NotServing).await;
    replica.caught_up.store(true, Ordering::SeqCst);
    reaches(&admin, "copy.db", Health::Serving).await;
    *replica.fake.state.lock().unwrap() = DatabaseState::Failed;
    reaches(&admin, "copy.db", Health::NotServing).await;
    reaches(&admin, "", Health::NotServing).await;
}

#[tokio::test]
async fn a_mirror_that_does_not_know_its_replicas_does_not_serve() {
    let server = Running::start(Vec::new()).await;
    let admin = Admin::connect_lazy(&server.url()).expect("a URL");
    reaches(&admin, "", Health::Serving).await;
    let listing = || async { admin.listing().await.expect("an answer") };
    assert!(listing().await.settled);
    let why = (
        "http://primary.example:4040".to_owned(),
        "is away".to_owned(),
    );
    server.registry.set_outlook(Outlook {
        unknown: [why].into(),
        unsettled: true,
    });
    reaches(&admin, "", Health::NotServing).await;
    assert!(!listing().await.settled);
    server.registry.set_outlook(Outlook::default());
    reaches(&admin, "", Health::Serving).await;
}

#[tokio::test]
async fn staleness_counts_only_where_it_was_asked_for() {
    let replica = FakeReplica::new("copy.db");
    let max = Some(Duration::from_secs(10));
    let server = Running::with(vec![replica.served()], max, ServerConfig::default()).await;
    let admin = Admin::connect_lazy(&server.url()).expect("a URL");
    reaches(&admin, "copy.db", Health::Serving).await;
    *replica.fake.staleness.lock().unwrap() = 11.0;
    reaches(&admin, "copy.db", Health::NotServing).await;
    *replica.fake.staleness.lock().unwrap() = 9.0;
    reaches(&admin, "copy.db", Health::Serving).await;
    *replica.fake.staleness.lock().unwrap() = -1.0;
    reaches(&admin, "copy.db", Health::NotServing).await;
}

#[tokio::test]
async fn a_primary_that_waits_for_its_database_does_not_hold_up_the_server() {
    let primary = FakePrimary::new("app.db");
    *primary.fake.state.lock().unwrap() = DatabaseState::Waiting;
    let server = Running::start(vec![primary.served()]).await;
    let admin = Admin::connect_lazy(&server.url()).expect("a URL");
    assert_eq!(
        admin.health("app.db").await.expect("an answer"),
        Health::NotServing
    );
    assert_eq!(admin.health("").await.expect("an answer"), Health::Serving);
    *primary.fake.state.lock().unwrap() = DatabaseState::Streaming;
    reaches(&admin, "app.db", Health::Serving).await;
}

#[tokio::test]
async fn nothing_serves_while_the_server_drains() {
    let primary = FakePrimary::new("app.db");
    let server = Running::start(vec![primary.served()]).await;
    let mut client = HealthClient::new(server.channel().await);
    let request = HealthCheckRequest {
        service: String::new(),
    };
    let mut watch = client.watch(request).await.expect("a stream").into_inner();
    let first = within(watch.message())
        .await
        .expect("no error")
        .expect("a state");
    assert_eq!(first.status, 1);
    server.shut_down();
    let next = within(watch.message())
        .await
        .expect("no error")
        .expect("a state");
    assert_eq!(next.status, 2);
}
