//! `PositionService` when all is well.

use crate::fake::*;
use crate::running::{Running, within};
use std::time::Duration;
use walcast::client::Admin;
use walcast::format::position::Position;
use walcast::wire::pb;

async fn replica() -> (std::sync::Arc<FakeReplica>, Running, Admin) {
    let replica = FakeReplica::new("copy.db");
    let server = Running::start(vec![replica.served()]).await;
    let admin = Admin::connect_lazy(&server.url()).expect("a URL");
    (replica, server, admin)
}

#[tokio::test]
async fn a_position_is_what_readers_see() {
    let (replica, server, admin) = replica().await;
    assert_eq!(
        admin.position("copy.db").await.expect("an answer"),
        Some(at(0x20))
    );
    replica.fake.go_to(None);
    assert_eq!(admin.position("copy.db").await.expect("an answer"), None);
    replica.fake.go_to(Some(at(0x40)));
    let request = pb::GetPositionRequest {
        database: "copy.db".into(),
    };
    let answer = server
        .positions()
        .await
        .get_position(request)
        .await
        .expect("an answer");
    let answer = answer.into_inner();
    assert_eq!(answer.position, at(0x40).to_string());
    assert_eq!(
        (
            answer.database_checksum,
            answer.page_count,
            answer.page_size
        ),
        (0x1234, 3, 4096)
    );
}

#[tokio::test]
async fn a_wait_ends_when_the_position_is_reached() {
    let (replica, _server, admin) = replica().await;
    let wanted = at(0x60);
    let wait = tokio::spawn({
        let admin = admin.clone();
        async move { admin.wait("copy.db", wanted, Duration::from_secs(60)).await }
    });
    for offset in [0x40, 0x80] {
        replica.fake.go_to(Some(at(offset)));
    }
    let waited = within(wait).await.expect("no panic").expect("an answer");
    assert!(waited.reached);
    assert_eq!(waited.position, Some(at(0x80)));
    // What is there already needs no time at all.
    let waited = admin
        .wait("copy.db", at(0x80), Duration::ZERO)
        .await
        .expect("an answer");
    assert!(waited.reached);
}

#[tokio::test]
async fn a_wait_ends_in_time_with_the_position_so_far() {
    let (replica, _server, admin) = replica().await;
    let limit = Duration::from_millis(50);
    let waited = within(admin.wait("copy.db", at(0x60), limit))
        .await
        .expect("an answer");
    assert!(!waited.reached);
    assert_eq!(waited.position, Some(at(0x20)));
    replica.fake.go_to(None);
    let waited = within(admin.wait("copy.db", at(0x60), limit))
        .await
        .expect("an answer");
    assert!(!waited.reached);
    assert_eq!(waited.position, None);
}

#[tokio::test]
async fn a_negative_wait_is_refused() {
    let (_replica, server, _admin) = replica().await;
    let request = pb::WaitForPositionRequest {
        database: "copy.db".into(),
        position: at(0x20).to_string(),
        max_wait: Some(prost_types::Duration {
            seconds: -1,
            nanos: 0,
        }),
    };
    let status = server
        .positions()
        .await
        .wait_for_position(request)
        .await
        .expect_err("refused");
    assert!(
        status.message().contains("max_wait"),
        "{}",
        status.message()
    );
}

#[tokio::test]
async fn a_watch_begins_with_what_is_and_leaves_out_what_nobody_read() {
    let (replica, server, _admin) = replica().await;
    let request = pb::WatchPositionRequest {
        database: "copy.db".into(),
    };
    let response = server
        .positions()
        .await
        .watch_position(request)
        .await
        .expect("a stream");
    let mut stream = response.into_inner();
    let first = within(stream.message())
        .await
        .expect("no error")
        .expect("a position");
    assert_eq!(first.position, at(0x20).to_string());
    // The same position again is no change; the flood is coalesced, but never its last.
    replica.fake.go_to(Some(at(0x20)));
    for offset in 0x30..0x3000 {
        replica.fake.go_to(Some(at(offset)));
    }
    let mut seen = vec![at(0x20)];
    while seen.last() != Some(&at(0x2fff)) {
        let next = within(stream.message())
            .await
            .expect("no error")
            .expect("a position");
        let next: Position = next.position.parse().expect("a position");
        assert!(Some(&next) > seen.last(), "{next} after {:?}", seen.last());
        seen.push(next);
    }
    assert!(
        seen.len() < 0x2000,
        "{} of {} positions were sent",
        seen.len(),
        0x2fd0
    );
}

#[tokio::test]
async fn databases_are_listed_by_name_with_their_state() {
    let databases = vec![
        FakeReplica::new("z.db").served(),
        FakePrimary::new("a.db").served(),
    ];
    let server = Running::start(databases).await;
    let admin = Admin::connect_lazy(&server.url()).expect("a URL");
    let listed = admin.databases().await.expect("an answer");
    let names: Vec<&str> = listed.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["a.db", "z.db"]);
    assert_eq!(listed[1].upstream, "http://primary.example:4040");
    assert!(admin.replicas("").await.expect("an answer").is_empty());
}

#[tokio::test]
async fn operators_pause_resume_and_detach() {
    let databases = vec![
        FakeReplica::new("copy.db").served(),
        FakePrimary::new("app.db").served(),
    ];
    let server = Running::start(databases).await;
    let admin = Admin::connect_lazy(&server.url()).expect("a URL");
    assert_eq!(admin.pause("app.db").await.expect("an answer"), at(0x20));
    assert_eq!(
        admin.resume("app.db").await.expect("an answer"),
        (at(0x20), true)
    );
    let (position, path) = admin.detach("copy.db").await.expect("an answer");
    assert_eq!((position, path.as_str()), (Some(at(0x20)), "/data/copy.db"));
}
