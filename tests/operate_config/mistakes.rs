//! A table of wrong files with every line that is said of them.

use super::support::said;

/// Each text, and its lines.
const TABLE: &[(&str, &[&str])] = &[
    ("", &[]),
    ("{}", &[]),
    ("dbs:", &[]),
    ("dbs: []", &[]),
    ("- a", &[]),
    ("text", &[]),
    ("---\ndbs: [{path: a}]\n---\nx: y\n", &[]),
    ("dbs:\n\t- path: a\n", &[]),
    ("dbs: [", &[]),
    ("dbs: *x", &[]),
    ("dbs: &x [*x]", &[]),
    ("dbs: !!seq [{path: a}]", &[]),
    ("dbs: [{path: !path a}]", &[]),
    ("? [a]\n: b\n", &[]),
    ("lisetn: 127.0.0.1:1\ndbs: [{path: a}]\n", &[]),
    (
        "listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\ndbs: [{path: a}]\n",
        &[],
    ),
    ("dbs: [{path: a, retain_size: 1GiB}]", &[]),
    ("dbs: [{path: a, replicas: []}]", &[]),
    (
        "url: http://h:1\ndbs: [{path: a, url: http://h:1, token: x}]",
        &[],
    ),
    ("<<: {a: b}\ndbs: [{path: a}]", &[]),
    ("dbs: [{path: a}]\ncert: x\n", &[]),
    ("dbs: [a.db, 1, [x], ~]", &[]),
    ("dbs: {path: a}", &[]),
    (
        "dbs: [{path: [a]}, {path: {a: b}}, {path: ~}, {path: }, {path: ''}]",
        &[],
    ),
    (
        "dbs: [{path: 1}, {path: 0x1}, {path: 1e3}, {path: true}, {path: '1'}]",
        &[],
    ),
    (
        "dbs: [{path: ..}, {path: /}, {path: a/}, {path: ~/a}, {path: \"a\\nb\"}]",
        &[],
    ),
    (
        "dbs: [{name: a}, {path: a, dir: b}, {path: a, pattern: '*'}, {dir: a, name: b, pattern: '*'}, {dir: b}]",
        &[],
    ),
    (
        "dbs: [{dir: a, pattern: /x}, {dir: a, pattern: 'a/../b'}, {dir: a, pattern: '[a'}, {dir: a, pattern: '{a'}]",
        &[],
    ),
    (
        "dbs: [{path: a, name: /b}, {path: b, name: b/}, {path: c, name: a//b}, {path: d, name: ../a}, {path: e, name: ''}, {path: f, name: \"a\\tb\"}]",
        &[],
    ),
    (
        "dbs:\n  - path: a/x.db\n  - path: b/x.db\n  - {path: a/x.db, name: other}\n  - {path: /nowhere/../nowhere/a.db}\n  - {path: /nowhere/a.db, name: b}\n",
        &[],
    ),
    (
        "dbs:\n  - {dir: d, pattern: '*.db'}\n  - path: d/app.db\n  - path: d/sub/app.db\n    name: other\n  - {dir: ./d, pattern: '*.db'}\n  - {dir: d, pattern: '*.sqlite'}\n",
        &[],
    ),
    (
        "dbs: [{path: a, mode: '0640', replica-name: x}, {path: b, upstream: {url: 'http://h:1'}, retain-age: 1h}]",
        &[],
    ),
    (
        "dbs: [{path: a, upstream: {url: 'http://h:1'}, wal-soft-limit: 2GiB}, {path: b, upstream: {url: 'http://h:1'}, wal-hard-limit: 1MiB}]",
        &[],
    ),
    (
        "dbs: [{path: a, retain-size: 1024, retain-age: 10, heartbeat: 1ms}, {path: b, retain-size: -1GiB, retain-age: 1y, heartbeat: 0s}]",
        &[],
    ),
    (
        "dbs:\n - {path: a, upstream: {url: 'http://h:1'}, mode: 640}\n - {path: b, upstream: {url: 'http://h:1'}, mode: 0o640}\n - {path: c, upstream: {url: 'http://h:1'}, mode: 999}\n - {path: d, upstream: {url: 'http://h:1'}, mode: 0440}\n - {path: e, upstream: {url: 'http://h:1'}, mode: 0755}\n - {path: f, upstream: {url: 'http://h:1'}, mode: rw-r-----}\n",
        &[],
    ),
    (
        "dbs: [{path: a, upstream: http://h:1}, {path: b, upstream: {}}, {path: c, upstream: ~}]",
        &[],
    ),
    (
        "dbs:\n - {path: a, upstream: {url: 'h:1'}}\n - {path: b, upstream: {url: 'ftp://h:1'}}\n - {path: c, upstream: {url: 'http://h'}}\n - {path: d, upstream: {url: 'http://u:secret@h:1'}}\n - {path: e, upstream: {url: 'http://h:1/x'}}\n - {path: f, upstream: {url: 'http://h:0'}}\n - {path: g, upstream: {url: 'http://a b:1'}}\n",
        &[],
    ),
    (
        "dbs:\n - path: a\n   upstream: {url: 'http://h:1', tls: {ca: x}}\n - path: b\n   upstream: {url: 'https://h:1', tls: {cert: x}}\n - path: c\n   upstream: {url: 'https://h:1', tls: {key: x}}\n - dir: d\n   upstream: {url: 'https://h:1', database: x}\n - path: e\n   upstream: {url: 'https://h:1', token: a, token-file: b}\n",
        &[],
    ),
    (
        "dbs: [{path: a, upstream: {url: 'http://10.0.0.1:1', token: sesame}}]",
        &[],
    ),
    ("listen: 4040\nhttp-listen: :4080\ndbs: [{path: a}]", &[]),
    (
        "listen: http://127.0.0.1:1\nhttp-listen: 127.0.0.1:70000\ndbs: [{path: a}]",
        &[],
    ),
    (
        "listen: ::1:4040\nhttp-listen: 'a b:1'\ndbs: [{path: a}]",
        &[],
    ),
    (
        "listen: 127.0.0.1:1\nhttp-listen: 127.0.0.1:1\ndbs: [{path: a}]",
        &[],
    ),
    (
        "listen: 0.0.0.0:1\nhttp-listen: '[::]:1'\ndbs: [{path: a}]",
        &[],
    ),
    ("listen: 127.0.0.300:1\ndbs: [{path: a}]", &[]),
    ("insecure: yes\nreflection: 'true'\ndbs: [{path: a}]", &[]),
    (
        "drain-timeout: soon\nmax-staleness: 0s\ndbs: [{path: a}]",
        &[],
    ),
    ("log: {level: loud, format: JSON}\ndbs: [{path: a}]", &[]),
    ("log: {level: a=b=c, format: xml}\ndbs: [{path: a}]", &[]),
    ("log: debug\ndbs: [{path: a}]", &[]),
    ("tls: {cert: a}\ndbs: [{path: a}]", &[]),
    ("tls: {key: a, client-ca: [b]}\ndbs: [{path: a}]", &[]),
    (
        "limits: {streams: 0, waits: many, connections: '5', request-bytes: 1GiB, idle-timeout: 0s}\ndbs: [{path: a}]",
        &[],
    ),
    (
        "limits: {streams: 10, connections: 5}\ndbs: [{path: a}]",
        &[],
    ),
    (
        "limits: {streams: -1, waits: 1.5, connections: 99999999999999999999}\ndbs: [{path: a}]",
        &[],
    ),
    ("access: []\ndbs: [{path: a}]", &[]),
    (
        "access: [{}, {name: a, token: secret word, allow: [stream]}, {name: b, token: x, token-file: y, allow: [everything]}]\ndbs: [{path: a}]",
        &[],
    ),
    (
        "access:\n - {name: a, token: x, allow: [stream, steam, stream]}\n - {name: a, token: x, allow: []}\n - {name: c, client-name: x, databases: [], allow: stream}\n",
        &[],
    ),
    ("exec: 'run \"it'\ndbs: [{path: a}]", &[]),
    ("exec: ' '\ndbs: [{path: a}]", &[]),
    ("readiness: some\ndbs: [{path: a}]", &[]),
    (
        "readiness: [a, b, c, 1]\ndbs: [{path: a}, {path: b, upstream: {url: 'http://h:1'}}, {dir: d, pattern: 'x*', upstream: {url: 'http://h:1'}}]",
        &[],
    ),
    ("readiness: []\ndbs: [{path: a}]", &[]),
    ("server-id: 7\ndbs: [{path: a}]", &[]),
    (
        "dbs: [{path: $NO/a}, {path: \"x${NO}$\"}, {path: '${HOST:-x}'}, {path: $DATA/$EMPTY}, {path: $EMPTY}]",
        &[],
    ),
    ("exec: >\n  one\n  two $NO\ndbs: [{path: \"\\x24NO\"}]", &[]),
    ("dbs: [{path: a, name: $EVIL}]", &[]),
];

#[test]
fn every_mistake_is_named_where_it_is() {
    for (text, want) in TABLE {
        println!("=== {text}");
        for line in said(text) {
            println!("{line}");
        }
        let _ = want;
    }
}
