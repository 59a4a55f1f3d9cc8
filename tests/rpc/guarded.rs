//! The rows that the guard answers before a byte of the message is read.

use crate::fake::FakePrimary;
use crate::running::Running;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Status};
use walcast::config::{Grant, Permission, ServerOptions, TokenSource};
use walcast::security::ServerSecurity;
use walcast::server::{Reason, ServerConfig};

const TOKEN: &str = "a-token-that-may-see-metrics";

fn service_of(rpc: &str) -> &'static str {
    match rpc {
        "Stream" | "ReportProgress" => "ReplicationService",
        "GetPosition" | "WatchPosition" | "WaitForPosition" | "ListDatabases" => "PositionService",
        _ => "AdminService",
    }
}

/// A call to a server where one token is known, which may do nothing that gRPC offers.
pub async fn guarded(rpc: &str, reason: Reason) -> Status {
    let options = ServerOptions {
        access: vec![Grant {
            name: "dashboard".into(),
            token: Some(TokenSource::Value(TOKEN.into())),
            client_name: None,
            databases: Vec::new(),
            allow: vec![Permission::Metrics],
        }],
        ..ServerOptions::default()
    };
    let config = ServerConfig {
        security: ServerSecurity::load(&options).expect("grants"),
        ..ServerConfig::default()
    };
    let server = Running::with(vec![FakePrimary::new("app.db").served()], None, config).await;
    let path = format!("/walcast.v1.{}/{rpc}", service_of(rpc));
    let mut request = Request::new(());
    if reason == Reason::PermissionDenied {
        let value = format!("Bearer {TOKEN}").parse().expect("a header");
        request.metadata_mut().insert("authorization", value);
    }
    let mut client = tonic::client::Grpc::new(server.channel().await);
    client.ready().await.expect("a connection");
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = PathAndQuery::from_maybe_shared(path).expect("a path");
    client
        .unary(request, path, codec)
        .await
        .expect_err("a refusal")
}
