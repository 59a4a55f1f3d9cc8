//! Primaries of a later version, before today's replica.

use crate::messages::*;
use crate::player::Player;
use crate::protobuf::{answer_with_field, answer_with_later_fields, delimited, varint};
use crate::server::{Server, until};
use crate::stage::{Place, assert_content, content_of, read_only, wait_position, wait_reason};
use crate::transcript::{Call, End, State, recorded};
use bytes::Bytes;
use prost::Message as _;
use std::collections::HashMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

const UPGRADE: &str = "the peer is newer than this walcast; upgrade this one";

/// The call as a primary of a later minor version answers it.
fn later(call: &Call) -> Call {
    // The fields of an answer's message that are messages themselves: `frame_checksum` and `commit`.
    let answers = call.answers.iter().map(|answer| {
        let response = StreamResponse::decode(answer.clone()).expect("protobuf");
        let inner: &[u32] = match response.body {
            Some(Body::SnapshotBegin(_)) => &[5],
            Some(Body::WalChunk(_)) => &[6],
            _ => &[],
        };
        answer_with_later_fields(answer, inner)
    });
    Call {
        answers: answers.collect(),
        ..call.clone()
    }
}

#[test]
fn a_replica_reads_past_fields_that_it_does_not_know() {
    let transcript = recorded();
    let (player, place) = (Player::start(), Place::new());
    let mut replica = None;
    for call in &transcript.calls {
        let later = later(call);
        assert!(
            later
                .answers
                .iter()
                .zip(&call.answers)
                .all(|(now, then)| now != then)
        );
        player.play(later);
        let running = replica.take().unwrap_or_else(|| place.replica(&player.url));
        wait_position(&running, &call.state().position);
        place.assert_is(&running, call.state());
        // What the primary ends the replica goes on from by itself; else it is started again.
        match call.end {
            End::Left => assert_eq!(running.stop(), Some(0)),
            End::Status { .. } => replica = Some(running),
        }
    }
    assert_eq!(
        player.asked().len(),
        transcript.calls.len(),
        "without a stop"
    );
}

/// A call that is cut where `change` gives something else for an answer; it ends with that.
fn cut(call: &Call, mut change: impl FnMut(&Bytes, Body) -> Option<Bytes>) -> Call {
    let mut answers = Vec::new();
    for (answer, body) in call.answers.iter().zip(call.bodies()) {
        if let Some(changed) = change(answer, body) {
            answers.push(changed);
            return Call {
                answers,
                ..call.clone()
            };
        }
        answers.push(answer.clone());
    }
    panic!("it is nowhere in the call")
}

/// A message of a later version: field 15 of the answer, or any that a later version may give out.
fn unknown_message() -> Bytes {
    delimited(15, &varint(1, 1))
}

/// What is in the way of a replica that only knows version 1, and what it says of it.
fn critical(call: &Call) -> Vec<(&'static str, Call)> {
    let hello = |number, value| {
        cut(call, |answer, body| {
            let is_hello = matches!(body, Body::Hello(_));
            is_hello.then(|| answer_with_field(answer, number, &varint(number, value)))
        })
    };
    let mut ways = vec![
        (
            "unknown message",
            cut(call, |_, body| {
                matches!(body, Body::Hello(_)).then(unknown_message)
            }),
        ),
        ("unknown reason of what follows", hello(9, 99)),
        ("unknown checksum algorithm", hello(8, 2)),
        (
            "unknown message",
            cut(call, |_, body| {
                let is_late = matches!(body, Body::SnapshotPages(_) | Body::WalChunk(_));
                is_late.then(unknown_message)
            }),
        ),
    ];
    if call
        .bodies()
        .any(|body| matches!(body, Body::SnapshotBegin(_)))
    {
        ways.extend([
            (
                "unknown kind of snapshot",
                cut(call, |answer, body| {
                    let is_begin = matches!(body, Body::SnapshotBegin(_));
                    is_begin.then(|| answer_with_field(answer, 1, &varint(1, 2)))
                }),
            ),
            (
                "unknown codec",
                cut(call, |answer, body| {
                    let is_pages = matches!(body, Body::SnapshotPages(_));
                    is_pages.then(|| answer_with_field(answer, 2, &varint(2, 77)))
                }),
            ),
            (
                "unknown message",
                cut(call, |_, body| {
                    matches!(body, Body::SnapshotEnd(_)).then(unknown_message)
                }),
            ),
        ]);
    }
    ways
}

/// A copy that has what the recorded one had after so many calls, and the player that it has it from.
pub fn copy_after(calls: &[Call]) -> (Player, Place) {
    let (player, place) = (Player::start(), Place::new());
    for call in calls {
        // As the primary would have ended it: the replica would ask again before it is stopped.
        player.play(Call {
            end: End::Left,
            ..call.clone()
        });
        let replica = place.replica(&player.url);
        wait_position(&replica, &call.state().position);
        assert_eq!(replica.stop(), Some(0));
    }
    (player, place)
}

/// Starts the replica before what it cannot read; it must say so, and its readers keep what they had.
fn assert_stops(place: &Place, player: &Player, call: Call, words: &str, has: &State) -> Server {
    player.always(Ok(call));
    let reader = read_only(&place.db());
    let replica = place.replica(&player.url);
    let status = wait_reason(&replica, words);
    assert_eq!(status["state"], "disconnected", "{words}");
    assert_eq!(status["position"], *has.position, "{words}");
    assert_eq!(content_of(&reader), has.content, "{words}");
    assert_content(&place.db(), has);
    // Its line comes after the state.
    until("the log's line", || {
        replica.log().contains(words).then_some(())
    });
    replica
}

#[test]
fn what_a_replica_must_not_skip_stops_it_and_its_readers_keep_the_last_state() {
    let transcript = recorded();
    let [_, second, third, _] = &transcript.calls[..] else {
        panic!("four calls")
    };
    let (player, place) = copy_after(&transcript.calls[..2]);
    let mut last = None;
    for (what, call) in critical(third) {
        drop(last.take());
        let words = format!("{what}: {UPGRADE}");
        last = Some(assert_stops(&place, &player, call, &words, second.state()));
    }
    let replica = last.expect("many ways");
    // The primary's operator took the older version back: nobody has to do anything to the replica.
    player.play(third.clone());
    wait_position(&replica, &third.state().position);
    place.assert_is(&replica, third.state());
}

#[test]
fn commits_before_what_a_replica_must_not_skip_are_applied_and_it_goes_on_from_them() {
    let transcript = recorded();
    let last = &transcript.calls[3];
    let (player, place) = copy_after(&transcript.calls[..3]);
    let mut first_commit = None;
    let mut later = cut(last, |_, body| match body {
        Body::WalChunk(chunk) if first_commit.is_none() => {
            let (index, _) = chunk.start.split_once(':')?;
            first_commit = Some(format!("{index}:{:016x}", chunk.end_offset));
            None
        }
        Body::WalChunk(_) => Some(unknown_message()),
        _ => None,
    });
    let first_commit = first_commit.expect("a commit");
    let rest = &last.answers[later.answers.len() - 1..];
    let hello = last.answers[0].clone();
    // What follows it must not be taken either.
    later.answers.extend_from_slice(rest);
    player.play(later);
    // It may ask again before it was looked at.
    player.always(Ok(cut(last, |_, body| {
        matches!(body, Body::WalChunk(_)).then(unknown_message)
    })));
    let replica = place.replica(&player.url);
    let status = wait_reason(&replica, &format!("unknown message: {UPGRADE}"));
    assert_eq!(status["position"], *first_commit);

    player.play(Call {
        answers: [&[hello], rest].concat(),
        ..last.clone()
    });
    wait_position(&replica, &last.state().position);
    place.assert_is(&replica, last.state());
    let asked = player.asked().pop().expect("a request");
    let asked = StreamRequest::decode(asked).expect("a request");
    assert_eq!(asked.position, first_commit, "it asks from there");
}

#[test]
fn a_primary_without_a_version_in_common_is_told_as_such() {
    let transcript = recorded();
    let [_, second, third, _] = &transcript.calls[..] else {
        panic!("four calls")
    };
    let (player, place) = copy_after(&transcript.calls[..2]);
    // It should have refused, and speaks version 2 all the same.
    let call = cut(third, |answer, body| {
        let is_hello = matches!(body, Body::Hello(_));
        is_hello.then(|| answer_with_field(answer, 1, &varint(1, 2)))
    });
    let words = "the peer speaks protocol versions 2 to 2, this walcast speaks 1 to 1; upgrade the older one";
    let replica = assert_stops(&place, &player, call, words, second.state());

    // It refuses, in its own words.
    let words = "the peer speaks protocol versions 1 to 1, this walcast speaks 2 to 3; upgrade the older one";
    let mut details = ErrorDetails::new();
    details.set_error_info("PROTOCOL_VERSION", "walcast", HashMap::new());
    player.always(Err(Status::with_error_details(
        Code::FailedPrecondition,
        words,
        details,
    )));
    let status = wait_reason(&replica, words);
    assert_eq!(status["state"], "disconnected");
    place.assert_is(&replica, second.state());
}
