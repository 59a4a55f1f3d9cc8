//! A server that answers whatever it likes: no client panics, waits for ever, or hands a terminal what it should not see.

use crate::kit::start;
use crate::running::within;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::{Body, Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpListener;
use walcast::client::{Admin, ClientError, Upstream};
use walcast::format::position::Position;
use walcast::model::CopyRequest;

/// What the server says to the next call.
#[derive(Clone, Debug, Default)]
struct Script {
    /// In the headers or after the messages.
    at_once: bool,
    messages: Vec<Vec<u8>>,
    trailers: Vec<(&'static str, Vec<u8>)>,
}

/// An answer's frames.
struct Answer(VecDeque<Frame<Bytes>>);

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

fn answer(script: &Script) -> Response<Answer> {
    let mut head = Response::new(Answer(VecDeque::new()));
    let named = HeaderValue::from_static("application/grpc");
    head.headers_mut().insert("content-type", named);
    let mut last = HeaderMap::new();
    for (name, value) in &script.trailers {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            last.insert(*name, value);
        }
    }
    if script.at_once {
        head.headers_mut().extend(last);
        return head;
    }
    let mut frames: VecDeque<_> = script
        .messages
        .iter()
        .cloned()
        .map(Bytes::from)
        .map(Frame::data)
        .collect();
    frames.push_back(Frame::trailers(last));
    *head.body_mut() = Answer(frames);
    head
}

async fn serve(script: Arc<Mutex<Script>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let script = script.clone();
            let service = hyper::service::service_fn(move |_: Request<Incoming>| {
                let answer = answer(&script.lock().expect("a script"));
                async move { Ok::<_, Infallible>(answer) }
            });
            let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    });
    url
}

/// Like a message of protobuf, and in the frame of gRPC most of the time.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        Just("app.db".to_owned()),
        Just("89abcdef01234567/0000000000000003:00000000000010f8".to_owned()),
        Just("\u{1b}[2J\u{1b}]0;mine\u{7}".to_owned()),
        "\\PC{0,30}",
        "[a-f0-9/:]{0,60}",
    ];
    let leaf = prop_oneof![
        (1_u8..16, any::<u64>()).prop_map(|(number, value)| tagged(number << 3, &varint(value))),
        (1_u8..16, text).prop_map(|(number, text)| block(number, text.as_bytes())),
        (1_u8..16, any::<[u8; 8]>()).prop_map(|(number, value)| tagged(number << 3 | 1, &value)),
        (1_u8..16, any::<[u8; 4]>()).prop_map(|(number, value)| tagged(number << 3 | 5, &value)),
        proptest::collection::vec(any::<u8>(), 0..12),
    ];
    let fields = leaf.prop_recursive(3, 24, 6, |inner| {
        (1_u8..16, proptest::collection::vec(inner, 0..6))
            .prop_map(|(number, fields)| block(number, &fields.concat()))
    });
    proptest::collection::vec(fields, 0..8).prop_map(|fields| fields.concat())
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 128 {
        out.push((value % 128) as u8 | 128);
        value /= 128;
    }
    out.push(value as u8);
    out
}

fn tagged(tag: u8, value: &[u8]) -> Vec<u8> {
    [&[tag], value].concat()
}

fn block(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &varint(bytes.len() as u64), bytes].concat()
}

fn framed() -> impl Strategy<Value = Vec<u8>> {
    let whole = message().prop_map(|message| {
        let length = u32::try_from(message.len())
            .expect("a length")
            .to_be_bytes();
        [&[0][..], &length, &message].concat()
    });
    // A length that is a lie, a compression that nobody asked for, or no frame at all.
    let lie = (any::<u8>(), any::<u32>(), message()).prop_map(|(packed, length, message)| {
        [&[packed][..], &length.to_be_bytes(), &message].concat()
    });
    prop_oneof![8 => whole, 1 => lie, 1 => proptest::collection::vec(any::<u8>(), 0..20)]
}

fn script() -> impl Strategy<Value = Script> {
    let code = prop_oneof![
        4 => Just(b"0".to_vec()),
        4 => (0_u8..20).prop_map(|code| code.to_string().into_bytes()),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    // Percent-encoded, as gRPC has it: escapes of a terminal among them.
    let words = prop_oneof![
        Just(b"%1B%5B2Jgone%0Aand%20a%20second%20line".to_vec()),
        "[ -~]{0,40}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..20),
    ];
    let details = prop_oneof![
        message().prop_map(|status| base64(&status)),
        // google.rpc.Status with one google.protobuf.Any of a kind that walcast reads.
        (
            prop_oneof![Just("ErrorInfo"), Just("RetryInfo"), Just("BadRequest")],
            message()
        )
            .prop_map(|(kind, value)| {
                let url = format!("type.googleapis.com/google.rpc.{kind}");
                let any = [block(1, url.as_bytes()), block(2, &value)].concat();
                base64(&[tagged(1 << 3, &[3]), block(3, &any)].concat())
            }),
        proptest::collection::vec(any::<u8>(), 0..30),
    ];
    let messages = proptest::collection::vec(framed(), 0..3);
    (any::<bool>(), messages, code, words, details).prop_map(
        |(at_once, messages, code, words, details)| Script {
            at_once: at_once && messages.is_empty(),
            messages,
            trailers: vec![
                ("grpc-status", code),
                ("grpc-message", words),
                ("grpc-status-details-bin", details),
            ],
        },
    )
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    for three in bytes.chunks(3) {
        let number = three
            .iter()
            .fold(0_u32, |all, byte| all << 8 | u32::from(*byte))
            << (8 * (3 - three.len()));
        for digit in 0..=three.len() {
            out.push(DIGITS[(number >> (18 - 6 * digit)) as usize & 63]);
        }
    }
    out
}

/// Every call that a command or a replica makes.
async fn every_call(url: &str) -> Vec<Result<(), ClientError>> {
    let admin = Admin::connect_lazy(url).expect("a URL");
    let upstream = Upstream::connect_lazy(url).expect("a URL");
    let far: Position = "89abcdef01234567/0000000000000003:00000000000010f8"
        .parse()
        .expect("a position");
    let copy = CopyRequest {
        database: "app.db".to_owned(),
        hashes_only: false,
        lz4: true,
    };
    let streamed = async {
        let mut stream = upstream.stream(start("app.db")).await?;
        while let Some(message) = stream.next().await {
            message?;
        }
        Ok(())
    };
    let copied = async {
        let mut copy = upstream.read_copy(copy).await?;
        while let Some(message) = copy.next().await {
            message?;
        }
        Ok(())
    };
    vec![
        admin.position("app.db").await.map(drop),
        admin
            .wait("app.db", far, Duration::from_millis(1))
            .await
            .map(drop),
        admin.databases().await.map(drop),
        admin.replicas("").await.map(drop),
        admin.pause("app.db").await.map(drop),
        admin.resume("app.db").await.map(drop),
        admin.detach("app.db").await.map(drop),
        admin.health("app.db").await.map(drop),
        streamed.await,
        copied.await,
    ]
}

#[test]
fn answers_of_every_shape() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let said = Arc::new(Mutex::new(Script::default()));
    let url = runtime.block_on(serve(said.clone()));
    let (good, bad) = (Mutex::new(0), Mutex::new(0));
    let mut runner = TestRunner::new(Config {
        cases: 300,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&script(), |script| {
            *said.lock().expect("a script") = script;
            for result in runtime.block_on(within(every_call(&url))) {
                let Err(error) = result else {
                    *good.lock().expect("a count") += 1;
                    continue;
                };
                *bad.lock().expect("a count") += 1;
                let line = error.to_string();
                prop_assert!(
                    !line.chars().any(char::is_control),
                    "not one plain line: {line:?}"
                );
                prop_assert!(line.len() < 4096, "{} bytes", line.len());
                let _ = (error.reason(), error.code(), error.is_retryable());
                prop_assert!(
                    error
                        .retry_after()
                        .is_none_or(|pause| pause <= Duration::from_secs(60))
                );
            }
            Ok(())
        })
        .expect("no answer harms");
    assert!(*good.lock().expect("a count") > 0 && *bad.lock().expect("a count") > 0);
}
