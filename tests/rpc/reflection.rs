//! Reflection, as grpcurl uses it.

use crate::fake::*;
use crate::running::{Running, within};
use prost::Message as _;
use tonic_reflection::pb::{v1, v1alpha};

const SERVICES: [&str; 6] = [
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "grpc.health.v1.Health",
    "walcast.v1.AdminService",
    "walcast.v1.PositionService",
    "walcast.v1.ReplicationService",
];
/// What the details of a refusal are made of: without a description grpcurl cannot print them.
const DETAILS: [&str; 4] = [
    "google.rpc.ErrorInfo",
    "google.rpc.RetryInfo",
    "google.rpc.BadRequest",
    "google.rpc.ResourceInfo",
];

/// The same for both versions, which differ in the package alone.
macro_rules! reflection {
    ($test:ident, $v:ident) => {
        #[tokio::test]
        async fn $test() {
            use $v::server_reflection_client::ServerReflectionClient;
            use $v::server_reflection_request::MessageRequest;
            use $v::server_reflection_response::MessageResponse;
            let server = Running::start(vec![FakePrimary::new("app.db").served()]).await;
            let ask = |request| {
                let channel = server.channel();
                async move {
                    let request = $v::ServerReflectionRequest {
                        host: String::new(),
                        message_request: Some(request),
                    };
                    let mut client = ServerReflectionClient::new(channel.await);
                    let stream = client.server_reflection_info(tokio_stream::iter([request]));
                    let mut stream = stream.await.expect("a stream").into_inner();
                    let answer = stream
                        .message()
                        .await
                        .expect("no error")
                        .expect("an answer");
                    answer.message_response.expect("a response")
                }
            };
            let list = within(ask(MessageRequest::ListServices(String::new()))).await;
            let MessageResponse::ListServicesResponse(list) = list else {
                panic!("{list:?}")
            };
            for service in SERVICES {
                assert!(
                    list.service.iter().any(|s| s.name == service),
                    "{service} in {list:?}"
                );
            }
            for symbol in SERVICES.into_iter().chain(DETAILS) {
                let request = MessageRequest::FileContainingSymbol(symbol.to_owned());
                let files = within(ask(request)).await;
                let MessageResponse::FileDescriptorResponse(files) = files else {
                    panic!("{symbol}: {files:?}")
                };
                let file = prost_types::FileDescriptorProto::decode(
                    files.file_descriptor_proto[0].as_slice(),
                );
                assert!(
                    symbol.starts_with(file.expect("a descriptor").package()),
                    "{symbol}"
                );
            }
        }
    };
}

reflection!(version_1, v1);
reflection!(version_1_alpha, v1alpha);
