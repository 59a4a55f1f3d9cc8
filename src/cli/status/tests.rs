use super::{Entry, json, text};
use crate::format::dbsum::DbSum;
use crate::format::position::{Generation, Position};
use crate::model::{DatabaseState, DatabaseStatus, ReplicaStatus, Role};

fn at(generation: u64, offset: u64) -> Option<Position> {
    Some(Position {
        generation: Generation(generation),
        index: 3,
        offset,
    })
}

fn entries() -> Vec<Entry> {
    let database = DatabaseStatus {
        name: "app.db".into(),
        role: Role::Primary,
        state: DatabaseState::Streaming,
        reason: String::new(),
        position: at(0x89ab, 0x10f8),
        size_bytes: 3 << 20,
        dbsum: DbSum(7),
        wal_bytes: 4152,
        durable: None,
        upstream_position: None,
        lag_seconds: 0.0,
        staleness_seconds: 0.0,
        upstream: String::new(),
        path: "/data/app.db".into(),
        bytes_streamed: 0,
        commits: 1,
        snapshots: 1,
    };
    let replica = ReplicaStatus {
        database: "app.db".into(),
        replica_id: "r1".into(),
        name: "reader".into(),
        address: "10.0.0.2:5555".into(),
        state: DatabaseState::CatchingUp,
        reason: "was away".into(),
        sent: at(0x89ab, 0x10f8),
        received: None,
        applied: at(0x77, 0x20),
        durable: None,
        lag_bytes: 4120,
        lag_seconds: 0.25,
        connected_since_us: 1,
        bytes_sent: 2,
    };
    let mut waiting = database.clone();
    waiting.name = "other.db".into();
    waiting.state = DatabaseState::Waiting;
    waiting.reason = "it does not exist yet".into();
    waiting.position = None;
    let mut copy = database.clone();
    copy.name = "copy.db".into();
    copy.role = Role::Replica;
    copy.state = DatabaseState::Disconnected;
    copy.staleness_seconds = 125.0;
    copy.upstream = "http://h:1".into();
    vec![
        Entry {
            database,
            replicas: vec![replica],
        },
        Entry {
            database: waiting,
            replicas: Vec::new(),
        },
        Entry {
            database: copy,
            replicas: Vec::new(),
        },
    ]
}

#[test]
fn people_see_databases_with_their_replicas_below() {
    let shown = text::render(&entries());
    let expected = "\
DATABASE  ROLE     STATE         POSITION                                            SIZE     WAL      LAG                  UPSTREAM
app.db    primary  streaming     00000000000089ab/0000000000000003:00000000000010f8  3.0 MiB  4.1 KiB  -                    -
  REPLICA  ADDRESS        STATE        SENT    APPLIED                                             DURABLE  BEHIND   LAG
  reader   10.0.0.2:5555  catching-up  3:10f8  0000000000000077/0000000000000003:0000000000000020  -        4.0 KiB  250 ms
    reader: was away
other.db  primary  waiting       -                                                   3.0 MiB  4.1 KiB  -                    -
  it does not exist yet
copy.db   replica  disconnected  00000000000089ab/0000000000000003:00000000000010f8  3.0 MiB  4.1 KiB  level 2 min 5 s ago  http://h:1
";
    assert_eq!(shown, expected, "\n{shown}");
}

#[test]
fn programs_get_every_field() {
    let shown = json::render(&entries());
    for part in [
        r#"{"databases":[{"name":"app.db","role":"primary","state":"streaming","reason":"","#,
        r#""position":"00000000000089ab/0000000000000003:00000000000010f8""#,
        r#""replicas":[{"name":"reader","replica_id":"r1""#,
        r#""received":null"#,
        r#""lag_bytes":4120,"lag_seconds":0.25"#,
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let value: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(value["databases"].as_array().map(Vec::len), Some(3));
    let keys = |object: &serde_json::Value| object.as_object().map(serde_json::Map::len);
    assert_eq!(keys(&value["databases"][0]), Some(18));
    assert_eq!(keys(&value["databases"][0]["replicas"][0]), Some(13));
}
