//! One case for each row of the table: what makes it happen.

use crate::fake::*;
use crate::running::{Running, within};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio_stream::StreamExt as _;
use tonic::Status;
use tonic_types::StatusExt as _;
use walcast::config::Limits;
use walcast::server::{Reason, Refusal, ServerConfig};
use walcast::wire::pb;

/// What a case can use: a primary 'app.db' and a replica 'copy.db' on one server with small limits.
pub struct Stage {
    server: Running,
    pub primary: Arc<FakePrimary>,
    replica: Arc<FakeReplica>,
}

impl Stage {
    pub async fn new() -> Stage {
        let (primary, replica) = (FakePrimary::new("app.db"), FakeReplica::new("copy.db"));
        let config = ServerConfig {
            limits: Limits {
                streams: 1,
                waits: 1,
                ..Limits::default()
            },
            ..ServerConfig::default()
        };
        let databases = vec![primary.served(), replica.served()];
        let server = Running::with(databases, None, config).await;
        Stage {
            server,
            primary,
            replica,
        }
    }

    fn remove(&self, name: &str) {
        let served = self.server.registry.remove(name);
        assert!(served.is_some(), "{name} was served");
    }

    async fn stream(&self, request: pb::StreamRequest) -> Status {
        match self.server.replication().await.stream(request).await {
            Err(status) => status,
            Ok(response) => last_status(response.into_inner()).await,
        }
    }

    async fn report(&self, reports: Vec<pb::ReportProgressRequest>) -> Status {
        let mut client = self.server.replication().await;
        // The call stays open: the server has to end it.
        let reports = tokio_stream::iter(reports).chain(tokio_stream::pending());
        client
            .report_progress(reports)
            .await
            .expect_err("a refusal")
    }

    /// A stream that stays open.
    pub async fn open_stream(&self) -> tonic::Streaming<pb::StreamResponse> {
        let response = self
            .server
            .replication()
            .await
            .stream(request("app.db"))
            .await;
        let mut stream = response.expect("a stream").into_inner();
        stream.message().await.expect("a hello").expect("a hello");
        stream
    }

    async fn watch(&self, database: &str) -> tonic::Streaming<pb::WatchPositionResponse> {
        let request = pb::WatchPositionRequest {
            database: database.into(),
        };
        let response = self.server.positions().await.watch_position(request).await;
        let mut stream = response.expect("a stream").into_inner();
        stream
            .message()
            .await
            .expect("a position")
            .expect("a position");
        stream
    }

    async fn wait(&self, database: &str, position: &str) -> Status {
        let request = pb::WaitForPositionRequest {
            database: database.into(),
            position: position.into(),
            max_wait: None,
        };
        self.server
            .positions()
            .await
            .wait_for_position(request)
            .await
            .expect_err("a refusal")
    }
}

/// Reads a stream to its error.
async fn last_status<T>(mut stream: tonic::Streaming<T>) -> Status {
    loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a status"),
            Err(status) => return status,
        }
    }
}

fn request(database: &str) -> pb::StreamRequest {
    pb::StreamRequest {
        database: database.into(),
        replica_id: "id".into(),
        replica_name: "name".into(),
        protocol_min: 1,
        protocol_max: 1,
        ..Default::default()
    }
}

fn report(database: &str) -> pb::ReportProgressRequest {
    pb::ReportProgressRequest {
        database: database.into(),
        replica_id: "id".into(),
        session_id: "session".into(),
        applied: at(0x40).to_string(),
        ..Default::default()
    }
}

const FAR: &str = "89abcdef01234567/0000000000000003:00000000000010f8";

async fn stream_case(stage: &Stage, reason: Reason) -> Status {
    match reason {
        Reason::FieldInvalid => {
            let wrong = pb::StreamRequest {
                position: "nonsense".into(),
                ..request("app.db")
            };
            let status = stage.stream(wrong).await;
            let bad = status.get_details_bad_request().expect("BadRequest");
            assert_eq!(bad.field_violations[0].field, "position");
            status
        }
        Reason::DatabaseUnknown => {
            let status = stage.stream(request("other.db")).await;
            assert!(
                status.message().contains("app.db, copy.db"),
                "{}",
                status.message()
            );
            let resource = status.get_details_resource_info().expect("ResourceInfo");
            assert_eq!(resource.resource_name, "other.db");
            status
        }
        Reason::ProtocolVersion => {
            let later = pb::StreamRequest {
                protocol_min: 7,
                protocol_max: 9,
                ..request("app.db")
            };
            let status = stage.stream(later).await;
            assert!(status.message().contains("7 to 9"), "{}", status.message());
            assert!(status.message().contains("1 to 1"), "{}", status.message());
            status
        }
        Reason::NotAPrimary => {
            let status = stage.stream(request("copy.db")).await;
            assert!(status.message().contains("http://primary.example:4040"));
            status
        }
        Reason::Draining => {
            let stream = stage.open_stream().await;
            stage.server.shut_down();
            last_status(stream).await
        }
        Reason::TooManyCalls => {
            let _first = stage.open_stream().await;
            stage.stream(request("app.db")).await
        }
        Reason::DatabaseRemoved => {
            let stream = stage.open_stream().await;
            stage.remove("app.db");
            let again = stage.stream(request("app.db")).await;
            assert_eq!(again.code(), tonic::Code::NotFound, "the final answer");
            last_status(stream).await
        }
        // These come while a stream is open.
        Reason::GenerationChanged | Reason::TooSlow | Reason::LogDamaged => {
            let refusal = Refusal::new(reason, "as the test says").about("app.db");
            *stage.primary.script.lock().unwrap() = vec![Ok(hello()), Err(refusal)];
            last_status(stage.open_stream().await).await
        }
        _ => {
            stage.primary.fake.refuse_with(reason);
            stage.stream(request("app.db")).await
        }
    }
}

async fn report_case(stage: &Stage, reason: Reason) -> Status {
    match reason {
        Reason::FieldInvalid => {
            let back = pb::ReportProgressRequest {
                applied: at(0x20).to_string(),
                ..report("app.db")
            };
            let status = stage.report(vec![report("app.db"), back]).await;
            assert!(
                status.message().contains("went back"),
                "{}",
                status.message()
            );
            status
        }
        Reason::DatabaseUnknown => stage.report(vec![report("other.db")]).await,
        Reason::NotAPrimary => stage.report(vec![report("copy.db")]).await,
        Reason::TooManyCalls | Reason::Draining | Reason::DatabaseRemoved => {
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            let mut client = stage.server.replication().await;
            let first = tokio::spawn(async move {
                let reports = tokio_stream::wrappers::ReceiverStream::new(receiver);
                client.report_progress(reports).await
            });
            sender.send(report("app.db")).await.expect("an open call");
            poll(|| !stage.primary.reports.lock().unwrap().is_empty()).await;
            if reason == Reason::TooManyCalls {
                return stage.report(vec![report("app.db")]).await;
            }
            match reason {
                Reason::DatabaseRemoved => stage.remove("app.db"),
                _ => stage.server.shut_down(),
            }
            first.await.expect("no panic").expect_err("a refusal")
        }
        _ => {
            stage.primary.fake.refuse_with(reason);
            stage.report(vec![report("app.db")]).await
        }
    }
}

async fn copy_case(stage: &Stage, reason: Reason) -> Status {
    let ask = |database: &str| pb::ReadCopyRequest {
        database: database.into(),
        ..Default::default()
    };
    let mut client = stage.server.replication().await;
    let database = match reason {
        Reason::FieldInvalid => "",
        Reason::DatabaseUnknown => "other.db",
        Reason::NotAReplica => "app.db",
        Reason::TooManyCalls => {
            let _first = stage.open_stream().await;
            return client
                .read_copy(ask("copy.db"))
                .await
                .expect_err("a refusal");
        }
        Reason::Draining => {
            let copy = client.read_copy(ask("copy.db")).await.expect("a copy");
            stage.server.shut_down();
            return last_status(copy.into_inner()).await;
        }
        _ => {
            stage.replica.fake.refuse_with(reason);
            "copy.db"
        }
    };
    client
        .read_copy(ask(database))
        .await
        .expect_err("a refusal")
}

async fn poll(done: impl Fn() -> bool) {
    within(async {
        while !done() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn get_case(stage: &Stage, reason: Reason) -> Status {
    let database = match reason {
        Reason::FieldInvalid => "",
        Reason::DatabaseUnknown => "other.db",
        _ => "app.db",
    };
    stage.primary.fake.refuse_with(reason);
    let request = pb::GetPositionRequest {
        database: database.into(),
    };
    stage
        .server
        .positions()
        .await
        .get_position(request)
        .await
        .expect_err("a refusal")
}

async fn watch_case(stage: &Stage, reason: Reason) -> Status {
    let ask = |database: &str| pb::WatchPositionRequest {
        database: database.into(),
    };
    let mut client = stage.server.positions().await;
    match reason {
        Reason::FieldInvalid => client.watch_position(ask("")).await.expect_err("a refusal"),
        Reason::DatabaseUnknown => client
            .watch_position(ask("x"))
            .await
            .expect_err("a refusal"),
        Reason::TooManyCalls => {
            let _first = stage.watch("app.db").await;
            client
                .watch_position(ask("app.db"))
                .await
                .expect_err("a refusal")
        }
        Reason::DatabaseNotReady => {
            let stream = stage.watch("app.db").await;
            stage.primary.fake.end_points();
            last_status(stream).await
        }
        Reason::DatabaseRemoved => {
            let stream = stage.watch("app.db").await;
            stage.remove("app.db");
            last_status(stream).await
        }
        Reason::Draining => {
            let stream = stage.watch("app.db").await;
            stage.server.shut_down();
            last_status(stream).await
        }
        other => panic!("no case for {other:?}"),
    }
}

async fn wait_case(stage: &Stage, reason: Reason) -> Status {
    match reason {
        Reason::FieldInvalid => {
            let status = stage.wait("app.db", "3:10f8").await;
            assert!(
                status.message().contains("89abcdef01234567/"),
                "an example: {}",
                status.message()
            );
            status
        }
        Reason::DatabaseUnknown => stage.wait("other.db", FAR).await,
        Reason::GenerationDiffers => {
            stage
                .wait(
                    "copy.db",
                    "0000000000000001/0000000000000000:0000000000000020",
                )
                .await
        }
        Reason::TooManyCalls => {
            let _first = stage.watch("app.db").await;
            stage.wait("app.db", FAR).await
        }
        Reason::DatabaseNotReady => {
            let (status, ()) = tokio::join!(stage.wait("app.db", FAR), async {
                stage.primary.fake.end_points();
            });
            status
        }
        Reason::DatabaseRemoved => {
            let (status, ()) = tokio::join!(stage.wait("app.db", FAR), async {
                poll(|| stage.primary.fake.watchers() > 0).await;
                stage.remove("app.db");
            });
            status
        }
        Reason::Draining => {
            let (status, ()) = tokio::join!(stage.wait("app.db", FAR), async {
                poll(|| stage.primary.fake.watchers() > 0).await;
                stage.server.shut_down();
            });
            status
        }
        other => panic!("no case for {other:?}"),
    }
}

async fn admin_case(stage: &Stage, rpc: &str, reason: Reason) -> Status {
    let name = match (rpc, reason) {
        (_, Reason::FieldInvalid) => "",
        (_, Reason::DatabaseUnknown) => "other.db",
        (_, Reason::NotAPrimary) | ("DetachDatabase", Reason::WrongState) => "copy.db",
        _ => "app.db",
    };
    stage.primary.fake.refuse_with(reason);
    stage.replica.fake.refuse_with(reason);
    let database = name.to_owned();
    let mut client = stage.server.admin().await;
    let answer = match rpc {
        "ListReplicas" => client
            .list_replicas(pb::ListReplicasRequest { database })
            .await
            .err(),
        "PauseDatabase" => client
            .pause_database(pb::PauseDatabaseRequest { database })
            .await
            .err(),
        "ResumeDatabase" => client
            .resume_database(pb::ResumeDatabaseRequest { database })
            .await
            .err(),
        "DetachDatabase" => client
            .detach_database(pb::DetachDatabaseRequest { database })
            .await
            .err(),
        other => panic!("no case for {other}"),
    };
    answer.expect("a refusal")
}

/// Makes a row happen; the status that the client gets.
pub fn case<'a>(
    stage: &'a Stage,
    rpc: &'a str,
    reason: Reason,
) -> Pin<Box<dyn Future<Output = Status> + 'a>> {
    match rpc {
        "Stream" => Box::pin(stream_case(stage, reason)),
        "ReportProgress" => Box::pin(report_case(stage, reason)),
        "ReadCopy" => Box::pin(copy_case(stage, reason)),
        "GetPosition" => Box::pin(get_case(stage, reason)),
        "WatchPosition" => Box::pin(watch_case(stage, reason)),
        "WaitForPosition" => Box::pin(wait_case(stage, reason)),
        _ => Box::pin(admin_case(stage, rpc, reason)),
    }
}
