//! The transcript of version 1: played to today's replica, and asked of today's primary.

use crate::grpc::{connect, report, runtime, stream, within};
use crate::messages::*;
use crate::player::Player;
use crate::protobuf::{delimited, with_field};
use crate::reader::Reader;
use crate::server::{Server, until};
use crate::stage::{
    Place, assert_content, content_of, read_only, status, wait_healthy, wait_position,
};
use crate::transcript::{Call, recorded};
use bytes::Bytes;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use tonic_types::StatusExt as _;

/// What the recording is worth: a transcript that lacks a kind of message proves nothing of it.
#[test]
fn the_transcript_holds_what_version_1_can_say() {
    let transcript = recorded();
    let mut reader = Reader::new();
    let mut follows = Vec::new();
    for call in &transcript.calls {
        reader.connected();
        call.answers.iter().for_each(|answer| reader.take(answer));
        let hello = reader.hello.as_ref().expect("a hello");
        follows.push(hello.follows);
        assert_eq!(reader.position, call.state().position);
        assert_eq!(reader.page_count, call.state().page_count);
        assert!(!call.reports.is_empty());
        for report in &call.reports {
            let report = ReportProgressRequest::decode(report.clone()).expect("a report");
            assert_eq!(report.session_id, hello.session_id);
        }
    }
    assert_eq!(
        follows,
        [
            FOLLOWS_SNAPSHOT_NEW_REPLICA,
            FOLLOWS_RESUME,
            FOLLOWS_SNAPSHOT_OTHER_GENERATION,
            FOLLOWS_RESUME
        ]
    );
    let [first, second, third, last] = &transcript.calls[..] else {
        panic!("four calls")
    };
    let hello = reader.hello.as_ref().expect("a hello");
    assert_eq!(
        hello.fork_position,
        second.state().position,
        "it forks there"
    );
    assert!(third.asked().position.starts_with(&hello.parent_generation));
    assert!(reader.chunks_in_snapshot >= 1 && reader.chunks_without_end >= 2);
    assert!(reader.commits >= 10 && reader.indexes >= 2);
    assert!(reader.heartbeats >= transcript.calls.len());
    let with_log =
        |body| matches!(body, Body::SnapshotBegin(begin) if !begin.wal_header.is_empty());
    assert!(first.bodies().any(with_log), "a snapshot within a log");
    let packed = |body| matches!(body, Body::SnapshotPages(pages) if pages.codec == CODEC_LZ4);
    assert!(first.bodies().any(packed), "pages that are packed");
    let size = |body| match body {
        Body::WalChunk(chunk) => chunk.commit.map(|commit| commit.page_count),
        _ => None,
    };
    let sizes: Vec<u32> = first.bodies().filter_map(size).collect();
    assert!(!sizes.is_sorted(), "a database that shrank: {sizes:?}");
    assert_eq!(
        second.end.status().expect("a status").code(),
        Code::Unavailable
    );
    let place = Place::new();
    std::fs::write(place.db(), reader.image()).expect("a file");
    assert_content(&place.db(), last.state());
}

/// Waits for the request that a call is the answer to, and compares it with the recorded replica's.
fn assert_asked(player: &Player, number: usize, recorded: &Call) {
    let request = until("the request", || player.asked().get(number).cloned());
    let (asked, then) = (
        StreamRequest::decode(request).expect("a request"),
        recorded.asked(),
    );
    assert!((asked.protocol_min..=asked.protocol_max).contains(&1));
    assert!(asked.codecs.contains(&CODEC_LZ4));
    // Who asks is another replica, which may know more codecs; what it asks for is the same.
    let expected = StreamRequest {
        replica_id: asked.replica_id.clone(),
        replica_name: asked.replica_name.clone(),
        protocol_min: asked.protocol_min,
        protocol_max: asked.protocol_max,
        codecs: asked.codecs.clone(),
        ..then
    };
    assert_eq!(asked, expected);
}

/// Waits for a report of the position where a call ends, in the session that its hello named.
fn wait_told(player: &Player, recorded: &Call) {
    let session = recorded.bodies().find_map(|body| match body {
        Body::Hello(hello) => Some(hello.session_id),
        _ => None,
    });
    until("a report", || {
        let told = player.told();
        told.into_iter().rev().find(|report| {
            let report = ReportProgressRequest::decode(report.clone()).expect("a report");
            Some(&report.session_id) == session.as_ref()
                && report.applied == recorded.state().position
        })
    });
}

#[test]
fn todays_replica_follows_a_primary_of_version_1() {
    let transcript = recorded();
    let [first, second, third, last] = &transcript.calls[..] else {
        panic!("four calls")
    };
    let (player, place) = (Player::start(), Place::new());

    player.play(first.clone());
    let replica = place.replica(&player.url);
    wait_position(&replica, &first.state().position);
    place.assert_is(&replica, first.state());
    assert_asked(&player, 0, first);
    wait_told(&player, first);
    wait_healthy(&replica);
    assert_eq!(replica.stop(), Some(0));

    player.play(second.clone());
    let replica = place.replica(&player.url);
    wait_position(&replica, &second.state().position);
    // A reader that is there from now on goes through a new history with the replica.
    let reader = read_only(&place.db());
    assert_eq!(content_of(&reader), second.state().content);
    place.assert_is(&replica, second.state());
    assert_asked(&player, 1, second);

    // The second call ended as the recorded primary ended it; until there is another the copy is what it was.
    wait_healthy(&replica);
    player.play(third.clone());
    wait_position(&replica, &third.state().position);
    assert_eq!(content_of(&reader), third.state().content);
    place.assert_is(&replica, third.state());
    assert_asked(&player, 2, third);
    wait_told(&player, third);
    assert_eq!(replica.stop(), Some(0));

    player.play(last.clone());
    let replica = place.replica(&player.url);
    wait_position(&replica, &last.state().position);
    assert_eq!(content_of(&reader), last.state().content);
    place.assert_is(&replica, last.state());
    assert_asked(&player, 3, last);
    wait_told(&player, last);
    // One snapshot in this run's life would be one too many.
    assert_eq!(status(&replica)["snapshots"], 0);
}

/// Asks what a replica of version 1 asked; reads until it is at this position and hears a heartbeat.
fn follow(
    primary: &Server,
    request: Bytes,
    reader: &mut Reader,
    position: &str,
) -> (tonic::transport::Channel, Streaming<Bytes>) {
    reader.connected();
    let beats = reader.heartbeats;
    let work = async {
        let channel = connect(&primary.url).await.expect("a connection");
        let mut answers = stream(&channel, request).await.expect("a stream");
        while reader.position != position || reader.heartbeats == beats {
            let answer = answers.message().await.expect("a message");
            reader.take(&answer.expect("a stream has no natural end"));
        }
        (channel, answers)
    };
    runtime().block_on(within(position, work))
}

#[test]
fn todays_primary_answers_a_replica_of_version_1() {
    let transcript = recorded();
    let place = Place::of_recorded_primary(&transcript);
    let primary = place.primary();
    let [first, second, third, last] = &transcript.calls[..] else {
        panic!("four calls")
    };
    let (there, expected) = (last.state().position.as_str(), last.state());
    // Its files are version 1's as well: today's program goes on in the history that they are of.
    wait_position(&primary, there);
    let mut reader = Reader::new();
    for (call, follows) in [
        (first, FOLLOWS_SNAPSHOT_NEW_REPLICA),
        (second, FOLLOWS_SNAPSHOT_OTHER_GENERATION),
        (third, FOLLOWS_SNAPSHOT_OTHER_GENERATION),
    ] {
        reader = Reader::new();
        drop(follow(&primary, call.request.clone(), &mut reader, there));
        let hello = reader.hello.as_ref().expect("a hello");
        assert_eq!(hello.follows, follows, "{}", hello.reason);
        assert_eq!(hello.fork_position, second.state().position);
        assert!(hello.fork_position.starts_with(&hello.parent_generation));
        assert_eq!(reader.page_count, expected.page_count);
        std::fs::write(place.path("copy.db"), reader.image()).expect("a file");
        assert_content(&place.path("copy.db"), expected);
    }
    assert_eq!(reader.position, there);

    // A replica that was there at the end of the third call: it goes on from what it has.
    let mut reader = Reader::new();
    third.answers.iter().for_each(|answer| reader.take(answer));
    let (channel, answers) = follow(&primary, last.request.clone(), &mut reader, there);
    let hello = reader.hello.as_ref().expect("a hello");
    assert_eq!(hello.follows, FOLLOWS_RESUME, "{}", hello.reason);
    assert_eq!(reader.page_count, expected.page_count);
    std::fs::write(place.path("copy.db"), reader.image()).expect("a file");
    assert_content(&place.path("copy.db"), expected);
    reports(&primary, &channel, last, &hello.session_id);
    drop(answers);
}

/// Makes the recorded reports, on another session of the same replica.
fn reports(primary: &Server, channel: &tonic::transport::Channel, last: &Call, session: &str) {
    let (sender, receiver) = mpsc::channel(1);
    let call = runtime().spawn(report(channel.clone(), ReceiverStream::new(receiver)));
    let session = delimited(3, session.as_bytes());
    for message in &last.reports {
        let message = with_field(message, 3, &session);
        sender.blocking_send(message).expect("an open call");
    }
    let id = last.asked().replica_id;
    until("the reports in the status", || {
        let replicas = status(primary)["replicas"].clone();
        let known = replicas
            .as_array()?
            .iter()
            .find(|replica| replica["replica_id"] == id)?;
        (known["applied"] == last.state().position && known["state"] == "streaming").then_some(())
    });
    drop(sender);
    let ended = runtime().block_on(within("the end of the reports", call));
    ended
        .expect("no panic")
        .expect("the call ends with its sender");
    // Of a session that is over it is told, in the words that version 1 has for it.
    let stale = tokio_stream::iter(last.reports.clone());
    let refused = runtime().block_on(within("a refusal", report(channel.clone(), stale)));
    let status = refused.expect_err("that session is over");
    assert_eq!(status.code(), Code::Aborted);
    let info = status.get_details_error_info().expect("ErrorInfo");
    assert_eq!(
        (&*info.domain, &*info.reason),
        ("walcast", "SESSION_UNKNOWN")
    );
}
