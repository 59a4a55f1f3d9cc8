//! The transcript's file. README.md says what is in it.

use crate::messages::{Body, StreamRequest, StreamResponse};
use bytes::Bytes;
use prost::Message as _;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use tonic::{Code, Status};
use walcast::format::base64;

const FIRST_LINE: &str = "walcast transcript 1";

/// What was said, and what came of it.
#[derive(Default)]
pub struct Transcript {
    /// One for each `Stream`.
    pub calls: Vec<Call>,
    /// The primary's files at its end, by their path below its directory.
    pub files: Vec<(String, Vec<u8>)>,
}

/// One `Stream`, and the reports that were made beside it.
#[derive(Clone, Debug)]
pub struct Call {
    pub request: Bytes,
    pub answers: Vec<Bytes>,
    pub end: End,
    pub reports: Vec<Bytes>,
    pub state: Option<State>,
}

/// How a stream ended.
#[derive(Clone, Debug)]
pub enum End {
    /// The replica went away.
    Left,
    /// The primary ended it.
    Status {
        code: i32,
        message: String,
        details: Bytes,
    },
}

/// The database at the end of a call, as the primary and SQLite said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub position: String,
    pub checksum: u64,
    pub page_count: u32,
    /// What [`crate::stage::content_of`] reads in it.
    pub content: String,
}

impl End {
    pub fn of(status: &Status) -> End {
        End::Status {
            code: status.code().into(),
            message: status.message().to_owned(),
            details: Bytes::copy_from_slice(status.details()),
        }
    }

    /// The status that a primary ended it with.
    pub fn status(&self) -> Option<Status> {
        match self {
            End::Left => None,
            End::Status {
                code,
                message,
                details,
            } => {
                let code = Code::from(*code);
                Some(Status::with_details(code, message, details.clone()))
            }
        }
    }
}

pub fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/skew/version-1.txt")
}

/// The one in the repository.
pub fn recorded() -> Transcript {
    let path = path();
    let text = std::fs::read_to_string(&path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Transcript::parse(&text)
}

/// What a message is, for those who read the file.
fn comment(answer: &Bytes) -> String {
    let response = StreamResponse::decode(answer.clone()).expect("a message of version 1");
    match response.body.expect("a message of version 1") {
        Body::SnapshotPages(pages) => format!(
            "SnapshotPages from {}, {} bytes, codec {}",
            pages.first_page, pages.size, pages.codec
        ),
        Body::WalChunk(chunk) => format!(
            "WalChunk from {} to {:x}, codec {}, {:?}",
            chunk.start, chunk.end_offset, chunk.codec, chunk.commit
        ),
        body => format!("{body:?}"),
    }
}

impl Transcript {
    pub fn to_text(&self) -> String {
        let mut text = format!("{FIRST_LINE}\n");
        let mut line = |words: std::fmt::Arguments<'_>| writeln!(text, "{words}").expect("memory");
        for call in &self.calls {
            let request = StreamRequest::decode(call.request.clone()).expect("a request");
            line(format_args!("\n# {request:?}"));
            line(format_args!("request {}", text_of(&call.request)));
            for answer in &call.answers {
                line(format_args!("# {}", comment(answer)));
                line(format_args!("answer {}", text_of(answer)));
            }
            for report in &call.reports {
                line(format_args!("report {}", text_of(report)));
            }
            if let End::Status {
                code,
                message,
                details,
            } = &call.end
            {
                line(format_args!("# {message}"));
                let (message, details) =
                    (base64::encode(message.as_bytes()), base64::encode(details));
                line(format_args!("end {code} {message} {details}"));
            }
            if let Some(state) = &call.state {
                let State {
                    position,
                    checksum,
                    page_count,
                    content,
                } = state;
                line(format_args!(
                    "state {position} {checksum:016x} {page_count} {content}"
                ));
            }
        }
        line(format_args!(""));
        for (name, bytes) in &self.files {
            line(format_args!("file {name} {}", text_of(bytes)));
        }
        text
    }

    fn parse(text: &str) -> Transcript {
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some(FIRST_LINE), "an unknown transcript");
        let mut transcript = Transcript::default();
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (word, rest) = line.split_once(' ').expect("a word and what it is about");
            match word {
                "request" => transcript.calls.push(Call {
                    request: message_of(rest),
                    answers: Vec::new(),
                    end: End::Left,
                    reports: Vec::new(),
                    state: None,
                }),
                "file" => {
                    let (name, packed) = rest.split_once(' ').expect("a name");
                    let bytes = message_of(packed).into();
                    transcript.files.push((name.to_owned(), bytes));
                }
                _ => {
                    let call = transcript.calls.last_mut().expect("a request comes first");
                    call.take(word, rest);
                }
            }
        }
        transcript
    }
}

impl Call {
    fn take(&mut self, word: &str, rest: &str) {
        let words: Vec<&str> = rest.split(' ').collect();
        match (word, &words[..]) {
            ("answer", [message]) => self.answers.push(message_of(message)),
            ("report", [message]) => self.reports.push(message_of(message)),
            ("end", [code, message, details]) => {
                self.end = End::Status {
                    code: code.parse().expect("a status code"),
                    message: String::from_utf8(bytes_of(message).into()).expect("UTF-8"),
                    details: bytes_of(details),
                };
            }
            ("state", [position, checksum, page_count, content]) => {
                self.state = Some(State {
                    position: (*position).to_owned(),
                    checksum: u64::from_str_radix(checksum, 16).expect("a checksum"),
                    page_count: page_count.parse().expect("a number of pages"),
                    content: (*content).to_owned(),
                });
            }
            _ => panic!("an unknown line: {word} {rest}"),
        }
    }

    /// Where the database was at the end.
    pub fn state(&self) -> &State {
        self.state.as_ref().expect("a state at the end of the call")
    }

    /// What it answers, as version 1 reads it.
    pub fn bodies(&self) -> impl Iterator<Item = Body> {
        self.answers.iter().map(|answer| {
            let response = StreamResponse::decode(answer.clone()).expect("protobuf");
            response.body.expect("a message of version 1")
        })
    }

    pub fn asked(&self) -> StreamRequest {
        StreamRequest::decode(self.request.clone()).expect("a request of version 1")
    }
}

fn bytes_of(text: &str) -> Bytes {
    base64::decode(text).expect("base64").into()
}

/// Packed, since pages come as they are.
fn text_of(message: &[u8]) -> String {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(message).expect("memory");
    base64::encode(&encoder.finish().expect("memory"))
}

fn message_of(text: &str) -> Bytes {
    unpack(&bytes_of(text)).into()
}

/// What a standard LZ4 frame holds.
pub fn unpack(frame: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut decoder = lz4_flex::frame::FrameDecoder::new(frame);
    decoder.read_to_end(&mut bytes).expect("an LZ4 frame");
    bytes
}
