//! Tokens and grants: what each may do, and that nothing else is told.

use crate::certs::replace;
use crate::kit::*;
use crate::running::within;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use walcast::client::{Admin, Health, Upstream};
use walcast::config::{Grant, Limits, Permission, ServerOptions, TokenSource};
use walcast::wire::pb;

const READER: &str = "a-token-that-reads-positions";
const REPLICA: &str = "a-token-of-one-replica-only";
const OPERATOR: &str = "a-token-of-the-operators";

fn grants() -> Vec<Grant> {
    use Permission::*;
    vec![
        grant("reader", READER, &["app.db", "copy.db"], &[Position]),
        grant("replica", REPLICA, &["tenants/*"], &[Stream, Position]),
        grant("operator", OPERATOR, &[], &Permission::ALL),
    ]
}

async fn guarded() -> Stage {
    Stage::new(&options(None, grants()), Limits::default()).await
}

fn with_token<T>(message: T, token: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let value = MetadataValue::try_from(format!("Bearer {token}")).expect("a header");
        request.metadata_mut().insert("authorization", value);
    }
    request
}

async fn get(stage: &Stage, database: &str, token: Option<&str>) -> Result<(), Status> {
    let request = pb::GetPositionRequest {
        database: database.into(),
    };
    let mut client = stage.server.positions().await;
    within(client.get_position(with_token(request, token)))
        .await
        .map(drop)
}

async fn stream(stage: &Stage, database: &str, token: Option<&str>) -> Result<(), Status> {
    let request = pb::StreamRequest::from(start(database));
    let mut client = stage.server.replication().await;
    within(client.stream(with_token(request, token)))
        .await
        .map(drop)
}

fn code(result: Result<(), Status>) -> Code {
    result.map_or_else(|status| status.code(), |()| Code::Ok)
}

#[tokio::test]
async fn a_token_for_positions_is_no_token_for_streams() {
    let stage = guarded().await;
    assert_eq!(code(get(&stage, "app.db", Some(READER)).await), Code::Ok);
    assert_eq!(
        code(stream(&stage, "app.db", Some(READER)).await),
        Code::PermissionDenied
    );
    assert_eq!(
        code(stream(&stage, "tenants/1.db", Some(REPLICA)).await),
        Code::Ok
    );
    let mut admin = stage.server.admin().await;
    let pause = pb::PauseDatabaseRequest {
        database: "app.db".into(),
    };
    let status = within(admin.pause_database(with_token(pause.clone(), Some(READER)))).await;
    assert_eq!(
        status.expect_err("not permitted").code(),
        Code::PermissionDenied
    );
    within(admin.pause_database(with_token(pause, Some(OPERATOR))))
        .await
        .expect("permitted");
}

#[tokio::test]
async fn nobody_is_let_in_without_the_right_token() {
    let stage = guarded().await;
    for wrong in [
        None,
        Some("wrong"),
        Some(&READER[1..]),
        Some(""),
        Some("a-token-that-reads-positionsX"),
    ] {
        assert_eq!(
            code(get(&stage, "app.db", wrong).await),
            Code::Unauthenticated,
            "{wrong:?}"
        );
    }
    let mut client = stage.server.positions().await;
    for value in [
        &format!("Basic {READER}"),
        READER,
        &format!("Bearer{READER}"),
    ] {
        let mut request = Request::new(pb::GetPositionRequest {
            database: "app.db".into(),
        });
        let header = MetadataValue::try_from(value).expect("a header");
        request.metadata_mut().insert("authorization", header);
        let status = within(client.get_position(request))
            .await
            .expect_err("a refusal");
        assert_eq!(status.code(), Code::Unauthenticated, "{value}");
    }
    // Two tokens are none: which one did the caller mean?
    let mut request = with_token(
        pb::GetPositionRequest {
            database: "app.db".into(),
        },
        Some(READER),
    );
    let second = MetadataValue::try_from(format!("Bearer {OPERATOR}")).expect("a header");
    request.metadata_mut().append("authorization", second);
    let status = within(client.get_position(request))
        .await
        .expect_err("a refusal");
    assert_eq!(status.code(), Code::Unauthenticated);
    // The scheme's case does not matter (RFC 9110).
    let mut request = Request::new(pb::GetPositionRequest {
        database: "app.db".into(),
    });
    let header = MetadataValue::try_from(format!("bearer {READER}")).expect("a header");
    request.metadata_mut().insert("authorization", header);
    within(client.get_position(request))
        .await
        .expect("an answer");
}

/// Whether 'tenants/1.db' exists must not be told to who may not know: the answers differ in the name alone.
#[tokio::test]
async fn a_database_that_is_not_permitted_is_not_there() {
    let stage = guarded().await;
    let answer = async |database: &str| {
        let status = get(&stage, database, Some(READER))
            .await
            .expect_err("a refusal");
        let details = String::from_utf8_lossy(status.details()).replace(database, "NAME");
        (
            status.code(),
            status.message().replace(database, "NAME"),
            details.len(),
        )
    };
    let (hidden, missing) = (answer("tenants/1.db").await, answer("tenants/2.db").await);
    assert_eq!(hidden, missing);
    assert_eq!(hidden.0, Code::NotFound);
    assert!(
        hidden.1.contains("app.db, copy.db") && !hidden.1.contains("tenants"),
        "{}",
        hidden.1
    );
    // One that it may know of, but not use so, is refused as such.
    let mut both = grants();
    both.push(grant(
        "reader",
        READER,
        &["tenants/*"],
        &[Permission::Stream],
    ));
    let stage = Stage::new(&options(None, both), Limits::default()).await;
    assert_eq!(
        code(stream(&stage, "tenants/1.db", Some(READER)).await),
        Code::Ok
    );
    let status = get(&stage, "tenants/1.db", Some(READER))
        .await
        .expect_err("a refusal");
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn lists_show_what_the_caller_may_see() {
    let stage = guarded().await;
    let mut client = stage.server.positions().await;
    let mut names = async |token| {
        let request = with_token(pb::ListDatabasesRequest {}, Some(token));
        let list = within(client.list_databases(request))
            .await
            .expect("a list")
            .into_inner();
        list.databases
            .into_iter()
            .map(|d| d.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(READER).await, ["app.db", "copy.db"]);
    assert_eq!(names(REPLICA).await, ["tenants/1.db"]);
    assert_eq!(names(OPERATOR).await, ["app.db", "copy.db", "tenants/1.db"]);
}

#[tokio::test]
async fn health_is_open_and_reflection_is_not() {
    let stage = guarded().await;
    let admin = Admin::connect_lazy(&stage.server.url()).expect("a URL");
    assert_eq!(
        within(admin.health("")).await.expect("an answer"),
        Health::Serving
    );
    let reflect = async |stage: &Stage, token| {
        let request = tokio_stream::iter(Vec::new());
        let mut client = ServerReflectionClient::new(stage.server.channel().await);
        let answer = within(client.server_reflection_info(with_token(request, token))).await;
        code(answer.map(drop))
    };
    assert_eq!(reflect(&stage, None).await, Code::Unauthenticated);
    assert_eq!(reflect(&stage, Some(READER)).await, Code::PermissionDenied);
    assert_eq!(reflect(&stage, Some(OPERATOR)).await, Code::Ok);
    let off = ServerOptions {
        reflection: false,
        ..ServerOptions::default()
    };
    let stage = Stage::new(&off, Limits::default()).await;
    assert_eq!(reflect(&stage, None).await, Code::Unimplemented);
}

#[tokio::test]
async fn a_token_file_is_read_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("token");
    replace(
        &file,
        "the-first-token-of-this-test\nwhat follows is a comment\n",
    );
    let mut access = grants();
    access[0].token = Some(TokenSource::File(file.clone()));
    let stage = Stage::new(&options(None, access), Limits::default()).await;
    let open = entry(
        &stage.server.url(),
        None,
        None,
        Some("the-first-token-of-this-test"),
    );
    let upstream: Upstream = upstream(&open);
    let (sender, receiver) = tokio::sync::mpsc::channel::<walcast::model::Progress>(1);
    let refused = within(upstream.report(receiver))
        .await
        .expect_err("it may not stream");
    assert_eq!(refused.code(), Code::PermissionDenied);
    drop(sender);
    ask(&open).await.expect("the first token");
    replace(&file, "the-second-token-of-this-test");
    let next = entry(
        &stage.server.url(),
        None,
        None,
        Some("the-second-token-of-this-test"),
    );
    poll("the second token", || async { ask(&next).await.ok() }).await;
    assert_eq!(
        ask(&open).await.expect_err("the first is gone").code(),
        Code::Unauthenticated
    );
}

#[tokio::test]
async fn a_token_is_not_sent_in_plaintext_beyond_loopback() {
    let far = entry("http://primary.example:4040", None, None, Some(READER));
    let line = Admin::connect_to(&far, false)
        .expect_err("refused")
        .to_string();
    assert!(
        line.contains("plaintext") && line.contains("--insecure"),
        "{line}"
    );
    assert!(!line.contains(READER), "no token in a message: {line}");
    Admin::connect_to(&far, true).expect("it is meant");
    for near in [
        "http://127.0.0.1:4040",
        "http://localhost:4040",
        "http://[::1]:4040",
    ] {
        Admin::connect_to(&entry(near, None, None, Some(READER)), false).expect(near);
    }
    Admin::connect_to(
        &entry("http://primary.example:4040", None, None, None),
        false,
    )
    .expect("no token");
}

#[test]
fn grants_that_nobody_can_mean_are_refused() {
    let wrong = |grant: Grant| {
        let error = walcast::security::Access::new(&[grant], false);
        error.expect_err("refused").to_string()
    };
    let good = grant("g", READER, &[], &[Permission::Position]);
    let line = wrong(Grant {
        token: None,
        ..good.clone()
    });
    assert!(line.contains("neither a token nor a client-name"), "{line}");
    let line = wrong(Grant {
        client_name: Some("x".into()),
        ..good.clone()
    });
    assert!(line.contains("client-ca"), "{line}");
    let line = wrong(Grant {
        databases: vec!["a[".into()],
        ..good.clone()
    });
    assert!(line.contains("pattern"), "{line}");
    for token in ["", "two words", "tab\there", "n\u{f6}n"] {
        let token = Some(TokenSource::Value(token.into()));
        wrong(Grant {
            token,
            ..good.clone()
        });
    }
    let token = Some(TokenSource::File("/nowhere/token".into()));
    assert!(wrong(Grant { token, ..good }).contains("/nowhere/token"));
}

/// Who was let in stays: neither a stream nor a report that is open notices that the token is another now.
#[tokio::test]
async fn a_token_changes_without_dropping_a_stream() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("token");
    replace(&file, "the-first-token-of-this-test");
    let allow = [Permission::Stream, Permission::Position];
    let mut access = vec![grant("replica", "", &["app.db"], &allow)];
    access[0].token = Some(TokenSource::File(file.clone()));
    let stage = Stage::new(&options(None, access), Limits::default()).await;
    let with = |token| entry(&stage.server.url(), None, None, Some(token));
    let first = with("the-first-token-of-this-test");
    let second = with("the-second-token-of-this-test");
    let upstream: Upstream = upstream(&first);
    let mut stream = within(upstream.stream(start("app.db")))
        .await
        .expect("a stream");
    let hello = within(stream.next()).await;
    assert!(matches!(hello, Some(Ok(walcast::model::Message::Hello(_)))));
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let reporting = tokio::spawn(async move { upstream.report(receiver).await });
    let report = |offset| walcast::model::Progress {
        database: "app.db".into(),
        replica_id: "id".into(),
        session_id: "session".into(),
        received: Some(crate::fake::at(offset)),
        applied: None,
        durable: None,
        apply_lag_seconds: 0.0,
    };
    let reported = |count| {
        let reports = stage.primary.reports.lock().expect("reports").len();
        async move { (reports >= count).then_some(()) }
    };
    sender.send(report(0x20)).await.expect("an open call");
    poll("the first report", || reported(1)).await;
    replace(&file, "the-second-token-of-this-test");
    poll("the second token", || async { ask(&second).await.ok() }).await;
    let refused = ask(&first).await.expect_err("the first is gone");
    assert_eq!(refused.code(), Code::Unauthenticated);
    // A new stream with the old token is refused, and the open ones go on.
    let refused = within(crate::kit::upstream(&first).stream(start("app.db"))).await;
    assert_eq!(
        refused.expect_err("it is too late").code(),
        Code::Unauthenticated
    );
    sender.send(report(0x40)).await.expect("an open call");
    poll("the second report", || reported(2)).await;
    drop(sender);
    within(reporting)
        .await
        .expect("no panic")
        .expect("it ends in order");
    // What the primary has to say still comes: here it is the end of the server, in order.
    stage.server.shut_down();
    assert!(
        within(stream.next()).await.is_none(),
        "an end without an error"
    );
}
