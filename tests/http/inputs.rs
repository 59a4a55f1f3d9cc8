//! Requests of every shape at the second port: each is answered or its connection closed, and the port goes on.

use crate::access::guarding;
use crate::fake::Handle;
use crate::running::{Running, within};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use walcast::config::Limits;

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..most)
}

/// A request line, plausible or not.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let path = prop_oneof![
        Just("/".to_owned()),
        Just("/metrics".to_owned()),
        Just("/readyz".to_owned()),
        Just("/livez".to_owned()),
        Just("/history".to_owned()),
        Just("/history?database=tenants/a.db".to_owned()),
        "/history\\?[a-z=&%0-9]{0,40}",
        "/[ -~]{0,60}",
        "[!-~]{0,30}",
    ];
    let method = prop_oneof![4 => Just("GET".to_owned()), 1 => "[A-Z]{0,9}", 1 => "[ -~]{0,9}"];
    let version = prop_oneof![4 => Just("HTTP/1.1".to_owned()), 1 => Just("HTTP/1.0".to_owned()), 1 => "[ -~]{0,12}"];
    let text = (method, path, version)
        .prop_map(|(method, path, version)| format!("{method} {path} {version}").into_bytes());
    prop_oneof![6 => text, 1 => bytes(60)]
}

fn header() -> impl Strategy<Value = Vec<u8>> {
    let host = prop_oneof![
        Just("localhost".to_owned()),
        "[ -~]{0,30}",
        "\\[[0-9a-f:]{0,20}\\]?:?[0-9]{0,6}"
    ];
    let token = prop_oneof![
        Just("Bearer token-of-the-monitoring".to_owned()),
        "Bearer [ -~]{0,30}",
        "Basic [A-Za-z0-9+/=]{0,40}",
        "[Bb]asic +[ -~]{0,20}",
    ];
    let named = prop_oneof![
        host.prop_map(|value| format!("host: {value}").into_bytes()),
        token.prop_map(|value| format!("authorization: {value}").into_bytes()),
        (0_u64..=u64::MAX).prop_map(|length| format!("content-length: {length}").into_bytes()),
        Just(b"transfer-encoding: chunked".to_vec()),
        "[a-zA-Z-]{1,20}: [ -~]{0,40}".prop_map(String::into_bytes),
    ];
    prop_oneof![8 => named, 1 => bytes(40)]
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let headers = proptest::collection::vec(header(), 0..6);
    let end = prop_oneof![8 => Just(b"connection: close\r\n\r\n".to_vec()), 1 => bytes(30)];
    (line(), headers, end).prop_map(|(line, headers, end)| {
        let mut request = [&line[..], b"\r\n"].concat();
        for header in headers {
            request.extend_from_slice(&header);
            request.extend_from_slice(b"\r\n");
        }
        [request, end].concat()
    })
}

/// What comes back until the server hangs up: it is told that nothing more comes.
async fn answer(server: &Running, request: &[u8]) -> Vec<u8> {
    let connected = TcpStream::connect(server.address).await;
    let mut stream = connected.expect("the port accepts");
    // A server that has heard enough may have closed already.
    let _ = stream.write_all(request).await;
    let _ = stream.shutdown().await;
    let mut text = Vec::new();
    let _ = within(stream.read_to_end(&mut text)).await;
    text
}

#[test]
fn requests_of_every_shape() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let databases = [
        Handle::primary("tenants/a.db"),
        Handle::primary("tenants/b.db"),
    ];
    let server = runtime.block_on(guarding(&databases.each_ref(), Limits::default()));
    let seen = std::sync::Mutex::new(std::collections::BTreeSet::new());
    let mut runner = TestRunner::new(Config {
        cases: 600,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&request(), |request| {
            let text = runtime.block_on(answer(&server, &request));
            let text = String::from_utf8_lossy(&text);
            let status = text
                .strip_prefix("HTTP/1.")
                .and_then(|rest| rest.split(' ').nth(1));
            let status: u16 = status.and_then(|word| word.parse().ok()).unwrap_or(0);
            prop_assert!(
                text.is_empty() || status >= 200,
                "no answer of HTTP: {text:?}"
            );
            prop_assert!(status < 500, "{text}");
            // Names are for those who may see them.
            let known = request
                .windows(24)
                .any(|part| part == b"token-of-the-monitoring\r".as_slice());
            prop_assert!(known || !text.contains("tenants/"), "{text}");
            seen.lock().expect("codes").insert(status);
            Ok(())
        })
        .expect("no request harms");
    let seen = seen.into_inner().expect("codes");
    for status in [200, 400, 401, 404] {
        assert!(seen.contains(&status), "{seen:?}");
    }
    let alive = runtime.block_on(server.get("/livez"));
    assert_eq!(alive.status, 200);
    runtime.block_on(server.end());
}
