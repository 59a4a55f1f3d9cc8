//! Requests of every shape at a real server: no panic, nothing changed, and every answer is a status.

use crate::bytes_codec::Raw;
use crate::kit::*;
use crate::running::within;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::sync::Mutex;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request};
use walcast::config::Limits;

const METHODS: [&str; 15] = [
    "walcast.v1.ReplicationService/Stream",
    "walcast.v1.ReplicationService/ReportProgress",
    "walcast.v1.ReplicationService/ReadCopy",
    "walcast.v1.PositionService/GetPosition",
    "walcast.v1.PositionService/WatchPosition",
    "walcast.v1.PositionService/WaitForPosition",
    "walcast.v1.PositionService/ListDatabases",
    "walcast.v1.AdminService/ListReplicas",
    "walcast.v1.AdminService/PauseDatabase",
    "walcast.v1.AdminService/ResumeDatabase",
    "walcast.v1.AdminService/DetachDatabase",
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Protobuf-like bytes: fields with plausible numbers and types, whose texts may be names, positions, paths or noise.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        Just("app.db".to_owned()),
        Just("copy.db".to_owned()),
        Just("walcast.v1.PositionService".to_owned()),
        Just("../../etc/passwd".to_owned()),
        Just("/etc/passwd".to_owned()),
        Just("89abcdef01234567/0000000000000003:00000000000010f8".to_owned()),
        Just("ffffffffffffffff/ffffffffffffffff:ffffffffffffffff".to_owned()),
        "\\PC{0,40}",
        "[a-f0-9/:]{0,60}",
    ];
    let field = prop_oneof![
        (1_u8..16, any::<u64>()).prop_map(|(number, value)| {
            let mut out = vec![number << 3];
            varint(&mut out, value);
            out
        }),
        (1_u8..16, text).prop_map(|(number, text)| {
            let mut out = vec![number << 3 | 2];
            varint(&mut out, text.len() as u64);
            out.extend_from_slice(text.as_bytes());
            out
        }),
        (1_u8..16, any::<[u8; 8]>()).prop_map(|(number, value)| {
            let mut out = vec![number << 3 | 1];
            out.extend_from_slice(&value);
            out
        }),
        proptest::collection::vec(any::<u8>(), 0..20),
    ];
    proptest::collection::vec(field, 0..12).prop_map(|fields| fields.concat())
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 128 {
        out.push((value % 128) as u8 | 128);
        value /= 128;
    }
    out.push(value as u8);
}

#[test]
fn requests_of_every_shape() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let stage = runtime.block_on(Stage::new(&options(None, Vec::new()), Limits::default()));
    let channel = runtime.block_on(stage.server.channel());
    let seen = Mutex::new(std::collections::HashSet::new());
    let mut runner = TestRunner::new(Config {
        cases: 600,
        failure_persistence: None,
        ..Config::default()
    });
    let strategy = (0..METHODS.len(), message());
    runner
        .run(&strategy, |(method, message)| {
            let code = runtime.block_on(within(call(channel.clone(), METHODS[method], message)));
            seen.lock().expect("codes").insert((METHODS[method], code));
            // A fault of ours would be one of these.
            prop_assert!(!matches!(code, Code::Unknown | Code::DataLoss), "{code:?}");
            Ok(())
        })
        .expect("no request harms");
    let seen = seen.into_inner().expect("codes");
    for code in [Code::Ok, Code::InvalidArgument] {
        assert!(seen.iter().any(|(_, seen)| *seen == code), "{seen:?}");
    }
    for method in METHODS {
        assert!(
            seen.iter().any(|(seen, _)| *seen == method),
            "{method} was never called"
        );
    }
    // No request has named a path, and what the fakes were asked for are the names that exist.
    for start in stage.primary.starts.lock().expect("starts").iter() {
        assert_eq!(start.database, "app.db");
    }
    let url = entry(&stage.server.url(), None, None, None);
    runtime
        .block_on(ask(&url))
        .expect("the server is as good as before");
}

/// The first answer's code; a stream is dropped then.
async fn call(channel: tonic::transport::Channel, method: &str, message: Vec<u8>) -> Code {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.expect("a connection");
    let path = PathAndQuery::from_maybe_shared(format!("/{method}")).expect("a path");
    // A wait would take its time if the position is far.
    let mut request = Request::new(bytes::Bytes::from(message));
    request.set_timeout(std::time::Duration::from_millis(500));
    let answer = client.server_streaming(request, path, Raw);
    match tokio::time::timeout(std::time::Duration::from_millis(500), answer).await {
        Err(_) => Code::DeadlineExceeded,
        Ok(Err(status)) => status.code(),
        Ok(Ok(mut stream)) => {
            let first = stream.get_mut().message();
            match tokio::time::timeout(std::time::Duration::from_millis(500), first).await {
                Err(_) => Code::DeadlineExceeded,
                Ok(Err(status)) => status.code(),
                Ok(Ok(_)) => Code::Ok,
            }
        }
    }
}
