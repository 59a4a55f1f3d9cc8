//! A server of a later version that lists its databases in words that are not known today.

use crate::player::Player;
use crate::protobuf::{delimited, varint, with_later_fields};
use crate::server::{Server, until};
use crate::stage::{NAME, Place, assert_content, status_of, wait_position};
use crate::transcript::recorded;
use bytes::Bytes;

const LIST: &str = "/walcast.v1.PositionService/ListDatabases";
const REPLICAS: &str = "/walcast.v1.AdminService/ListReplicas";

/// `Database` of version 1: its name, that it is a primary, a state, and why.
fn database(name: &str, state: &str, reason: &str) -> Bytes {
    let fields = [
        delimited(1, name.as_bytes()),
        varint(2, 1),
        delimited(3, state.as_bytes()),
        delimited(4, reason.as_bytes()),
    ];
    with_later_fields(&fields.concat().into())
}

#[test]
fn a_mirror_follows_databases_in_states_that_it_does_not_know() {
    let call = &recorded().calls[0];
    let (player, place) = (Player::start(), Place::new());
    player.play(call.clone());
    let databases = [
        delimited(1, &database(NAME, "rewinding", "to an older position")),
        // `settled`: what is not listed is not there.
        varint(2, 1),
    ];
    player.answer(LIST, with_later_fields(&databases.concat().into()));
    player.answer(REPLICAS, with_later_fields(&Bytes::new()));

    let shown = status_of(&player.url);
    assert_eq!(shown["name"], NAME);
    assert_eq!(shown["state"], "unknown");
    let reason = "'rewinding', a state that this walcast is too old to know: to an older position";
    assert_eq!(shown["reason"], reason);

    let config = place.path("walcast.yml");
    let copies = place.db().parent().expect("a directory").to_owned();
    let text = format!(
        "listen: 127.0.0.1:0\ndbs:\n  - dir: {}\n    upstream: {{url: '{}'}}\n",
        copies.display(),
        player.url
    );
    std::fs::write(&config, text).expect("a configuration");
    let mirror = Server::start_at(&["run", "--config", config.to_str().expect("UTF-8")]);
    wait_position(&mirror, &call.state().position);
    assert_content(&place.db(), call.state());
    // A look each second: what it read once it must not let go at the next.
    let looks = player.others(LIST);
    until("two more looks", || {
        (player.others(LIST) >= looks + 2).then_some(())
    });
    assert_eq!(status_of(&mirror.url)["state"], "streaming");
}
