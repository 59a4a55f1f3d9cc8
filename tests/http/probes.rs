//! `/livez` and `/readyz`.

use crate::fake::Handle;
use crate::running::Running;
use std::sync::atomic::Ordering;
use std::time::Duration;
use walcast::config::Readiness;
use walcast::model::DatabaseState;
use walcast::security::ServerSecurity;
use walcast::server::Outlook;

async fn ready(server: &Running) -> (u16, String) {
    let answer = server.get("/readyz").await;
    (answer.status, answer.body)
}

#[tokio::test]
async fn a_process_is_ready_once_its_replicas_were_level_and_stays_so() {
    let (primary, replica) = (Handle::primary("own.db"), Handle::replica("copy.db"));
    // A primary that does not exist yet does not count.
    primary.set(|status| status.state = DatabaseState::Waiting);
    replica.0.caught_up.store(false, Ordering::SeqCst);
    replica.set(|status| {
        status.state = DatabaseState::Disconnected;
        status.reason = "nobody listens at primary.example:4040".to_owned();
    });
    let server = Running::start(&[&primary, &replica]).await;
    let (status, body) = ready(&server).await;
    assert_eq!(status, 503);
    assert_eq!(
        body,
        "not ready\ncopy.db: was not level with its primary yet \
         (disconnected: nobody listens at primary.example:4040)\n"
    );
    assert_eq!(server.get("/livez").await.status, 200);
    replica.0.caught_up.store(true, Ordering::SeqCst);
    // It was level once; its age does not matter where no limit is set.
    replica.set(|status| status.staleness_seconds = 1e6);
    assert_eq!(ready(&server).await, (200, "ready\n".to_owned()));
    replica.set(|status| status.state = DatabaseState::Failed);
    assert_eq!(ready(&server).await.0, 503);
    let alive = server.get("/livez").await;
    assert_eq!(alive.status, 200, "a restart would not make it better");
    assert!(
        alive.body.contains("copy.db: failed: nobody listens"),
        "{}",
        alive.body
    );
    server.end().await;
}

#[tokio::test]
async fn age_counts_where_a_limit_is_set() {
    let replica = Handle::replica("copy.db");
    let limit = Some(Duration::from_secs(10));
    let server = Running::with(&[&replica], limit, ServerSecurity::open()).await;
    assert_eq!(ready(&server).await.0, 200);
    replica.set(|status| status.staleness_seconds = 10.5);
    let (status, body) = ready(&server).await;
    assert_eq!(status, 503);
    assert!(
        body.contains("last level with its primary 10.5 s ago, 10 s are allowed"),
        "{body}"
    );
    server.end().await;
}

#[tokio::test]
async fn which_replicas_count_can_be_chosen_while_it_runs() {
    let (a, b) = (Handle::replica("a.db"), Handle::replica("b.db"));
    b.0.caught_up.store(false, Ordering::SeqCst);
    let server = Running::start(&[&a, &b]).await;
    assert_eq!(ready(&server).await.0, 503);
    server.readiness.send_replace(Readiness::Any);
    let (status, body) = ready(&server).await;
    assert_eq!(status, 200);
    assert!(body.contains("b.db: was not level"), "{body}");
    let named = |name: &str| Readiness::Named(vec![name.to_owned()]);
    server.readiness.send_replace(named("a.db"));
    assert_eq!(ready(&server).await.0, 200);
    server.readiness.send_replace(named("b.db"));
    assert_eq!(ready(&server).await.0, 503);
    server.readiness.send_replace(named("c.db"));
    let (status, body) = ready(&server).await;
    assert_eq!(
        (status, body.as_str()),
        (503, "not ready\nc.db: is not here\n")
    );
    // One that its upstream let go is no fault, and no hope either.
    a.0.followed.store(false, Ordering::SeqCst);
    server.readiness.send_replace(Readiness::Any);
    assert_eq!(ready(&server).await.0, 503);
    b.0.caught_up.store(true, Ordering::SeqCst);
    assert_eq!(ready(&server).await.0, 200);
    server.draining.cancel();
    assert_eq!(
        ready(&server).await,
        (503, "not ready: shutting down\n".to_owned())
    );
    server.end().await;
}

#[tokio::test]
async fn a_mirror_is_unready_until_its_upstream_has_answered() {
    let url = "http://primary.example:4040";
    let replica = Handle::replica("copy.db");
    let server = Running::start(&[]).await;
    let unknown = |why: &str| Outlook {
        unknown: [(url.to_owned(), why.to_owned())].into(),
        unsettled: false,
    };
    let why = "was not asked for its databases yet";
    server.registry.set_outlook(unknown(why));
    let line = format!("not ready\n{url}: {why}\n");
    for readiness in [Readiness::All, Readiness::Any] {
        server.readiness.send_replace(readiness);
        assert_eq!(ready(&server).await, (503, line.clone()));
    }
    // One that is level will do for any, and those that are named are known.
    server.registry.add(replica.served()).expect("a new name");
    assert_eq!(ready(&server).await.0, 200);
    let named = Readiness::Named(vec!["copy.db".to_owned()]);
    server.readiness.send_replace(named);
    assert_eq!(ready(&server).await.0, 200);
    server.readiness.send_replace(Readiness::All);
    assert_eq!(ready(&server).await.0, 503);
    server.registry.set_outlook(Outlook::default());
    assert_eq!(ready(&server).await.0, 200);
    server.end().await;
}
