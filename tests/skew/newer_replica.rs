//! Replicas of a later version, before today's primary.

use crate::grpc::{connect, runtime, stream, within};
use crate::messages::*;
use crate::protobuf::{delimited, varint, with_field, with_later_fields};
use crate::reader::Reader;
use crate::server::Server;
use crate::stage::{Place, assert_content, wait_position};
use crate::transcript::{Transcript, recorded};
use bytes::Bytes;
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The recorded primary, with today's program.
fn started() -> (Transcript, Place, Server) {
    let transcript = recorded();
    let place = Place::of_recorded_primary(&transcript);
    let primary = place.primary();
    wait_position(&primary, &transcript.calls[3].state().position);
    (transcript, place, primary)
}

/// The request of a replica that speaks versions `min` to `max` and knows these codecs.
fn later(request: &Bytes, (min, max): (u64, u64), codecs: &[u8]) -> Bytes {
    let request = with_field(request, 7, &varint(7, min));
    let request = with_field(&request, 8, &varint(8, max));
    // Below 128 a packed list of enum values is a byte for each.
    let request = with_field(&request, 9, &delimited(9, codecs));
    with_later_fields(&request)
}

/// The codecs of the WAL that the primary sends for this request, up to this position.
fn codecs_of(primary: &Server, request: Bytes, reader: &mut Reader, to: &str) -> Vec<i32> {
    let mut codecs = Vec::new();
    let work = async {
        let channel = connect(&primary.url).await.expect("a connection");
        let mut answers = stream(&channel, request).await.expect("a stream");
        while reader.position != to || reader.heartbeats == 0 {
            let answer = answers.message().await.expect("a message");
            let answer = answer.expect("a stream has no natural end");
            let response = StreamResponse::decode(answer.clone()).expect("protobuf");
            match response.body {
                // Over loopback they are never packed.
                Some(Body::SnapshotPages(pages)) => assert_eq!(pages.codec, CODEC_NONE),
                Some(Body::WalChunk(chunk)) => codecs.push(chunk.codec),
                _ => {}
            }
            reader.take(&answer);
        }
    };
    runtime().block_on(within(to, work));
    codecs
}

#[test]
fn a_later_replica_is_answered_in_the_version_and_the_codecs_that_both_know() {
    let (transcript, place, primary) = started();
    let [first, _, third, last] = &transcript.calls[..] else {
        panic!("four calls")
    };
    let to = &last.state().position;
    // 3 is of version 1 as well, and taken beside LZ4 alone; nothing was sent before that it could refer to.
    let asked: [(&[u8], i32); 4] = [
        (&[7, 2, 120], CODEC_LZ4),
        (&[7, 120], CODEC_NONE),
        (&[2, 3, 120], CODEC_LZ4),
        (&[3, 120], CODEC_NONE),
    ];
    for (codecs, sent) in asked {
        let mut reader = Reader::new();
        let request = later(&first.request, (1, 3), codecs);
        let used = codecs_of(&primary, request, &mut reader, to);
        assert!(
            !used.is_empty() && used.iter().all(|codec| *codec == sent),
            "{used:?}"
        );
        std::fs::write(place.path("copy.db"), reader.image()).expect("a file");
        assert_content(&place.path("copy.db"), last.state());

        let mut reader = Reader::new();
        third.answers.iter().for_each(|answer| reader.take(answer));
        reader.connected();
        reader.heartbeats = 0;
        let request = later(&last.request, (0, 9), codecs);
        let used = codecs_of(&primary, request, &mut reader, to);
        assert_eq!(reader.hello.expect("a hello").follows, FOLLOWS_RESUME);
        assert!(
            !used.is_empty() && used.iter().all(|codec| *codec == sent),
            "{used:?}"
        );
    }
}

fn refused(primary: &Server, request: Bytes) -> Status {
    let work = async {
        let channel = connect(&primary.url).await.expect("a connection");
        stream(&channel, request).await.map(|_| ())
    };
    let answer = runtime().block_on(within("a refusal", work));
    answer.expect_err("no version in common")
}

#[test]
fn a_replica_without_a_version_in_common_is_told_which_side_is_older() {
    let (transcript, _place, primary) = started();
    for (min, max) in [(2, 3), (7, 9), (0, 0)] {
        let request = later(&transcript.calls[3].request, (min, max), &[2]);
        let status = refused(&primary, request);
        assert_eq!(status.code(), Code::FailedPrecondition);
        let info = status.get_details_error_info().expect("ErrorInfo");
        assert_eq!(
            (&*info.domain, &*info.reason),
            ("walcast", "PROTOCOL_VERSION")
        );
        let words = format!(
            "the peer speaks protocol versions {min} to {max}, this walcast speaks 1 to 1; upgrade the older one"
        );
        assert_eq!(status.message(), words);
        assert!(
            status.get_details_retry_info().is_none(),
            "to ask again is of no use"
        );
    }
}
