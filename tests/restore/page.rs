//! docs/restore.md: each of its commands, as written there, run by a shell.

use crate::commands::text;
use crate::maker::{Maker, made, sum};
use crate::server::Server;
use std::path::Path;
use std::process::{Command, Stdio};

fn blocks() -> Vec<&'static str> {
    let page = include_str!("../../docs/restore.md");
    let blocks = page.split("```sh\n").skip(1);
    blocks
        .map(|rest| rest.split("```").next().expect("an end"))
        .collect()
}

/// Runs a block, with the page's places standing for ours.
fn run(maker: &Maker, block: &str) -> String {
    let data = maker.dir.path().join("data");
    let program = Path::new(env!("CARGO_BIN_EXE_walcast"));
    let bin = text(program.parent().expect("a directory"));
    let block = block
        .replace("/backup/app", text(&maker.root))
        .replace("/data/", &format!("{}/", text(&data)));
    let output = Command::new("sh")
        .args(["-euc", &block])
        .env(
            "PATH",
            format!("{bin}:{}", std::env::var("PATH").expect("a path")),
        )
        .stdin(Stdio::null())
        .output()
        .expect("a shell");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{block}\n{stderr}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn place(maker: &Maker) -> std::path::PathBuf {
    let data = maker.dir.path().join("data");
    std::fs::create_dir_all(&data).expect("a directory");
    std::fs::write(data.join("app.db"), "broken").expect("a file");
    std::fs::write(data.join("app.db-wal"), "broken").expect("a file");
    data
}

#[test]
fn every_command_works() {
    let maker = made(1, 3, 3);
    let data = place(&maker);
    let read = |name: &str| std::fs::read(data.join(name)).expect(name);
    let newest = maker.newest();
    let mut restored = 0;
    for block in blocks() {
        if block.contains("lz4 -dc") || block.contains("walcast replica") {
            // Below, with what they need.
            continue;
        }
        // A position of this very archive stands for the one in the page.
        let shown = block.split("--to-position ").nth(1);
        let shown = shown.map(|rest| rest.split(' ').next().expect("a position"));
        let position = maker.states[3].position.to_string();
        let block = match shown {
            Some(shown) => block.replace(shown, &position),
            None => block.to_owned(),
        };
        let said = run(&maker, &block);
        restored += block.matches("walcast restore").count();
        if block.contains("archive verify") {
            assert!(said.contains(&newest.position.to_string()), "{said}");
        }
    }
    assert_eq!(restored, 4);
    assert!(read("app.db") == newest.bytes);
    assert!(read("sound.db") == newest.bytes);
    assert!(read("there.db") == maker.states[3].bytes);
    // 22:13:20 is the first state, and each one comes a second later.
    assert!(read("then.db") == maker.states[10].bytes);
    assert_eq!(read("broken/app.db"), b"broken");
}

/// A standby goes on until it is told to end.
#[test]
fn a_copy_that_is_always_ready() {
    let maker = made(1, 2, 2);
    let block = blocks().into_iter().find(|b| b.contains("walcast replica"));
    let copy = maker.dir.path().join("standby/app.db");
    let block = block
        .expect("the page has it")
        .replace("/backup/app", text(&maker.root))
        .replace("/standby/app.db", text(&copy));
    let words: Vec<&str> = block.split_whitespace().collect();
    let (program, args) = words.split_first().expect("words");
    assert_eq!(*program, "walcast");
    let server = Server::start_with(args, |_| {});
    server.told("level with the archive");
    let count = |path: &Path| -> i64 {
        let database = rusqlite::Connection::open(path).expect("a database");
        let sql = "SELECT sum(length(b) + id) FROM t";
        database.query_row(sql, [], |row| row.get(0)).expect("rows")
    };
    assert_eq!(count(&copy), count(&maker.dir.path().join("app.db")));
    assert_eq!(server.stop(), Some(0));
}

fn has(tool: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {tool}")])
        .output();
    found.is_ok_and(|output| output.status.success())
}

/// By `lz4` and `sqlite3` alone. Where a machine has them not, by the same steps with the libraries, and it says so.
#[test]
fn by_hand() {
    let maker = made(2, 3, 3);
    let data = place(&maker);
    let newest = maker.newest();
    if has("lz4") && has("sqlite3") {
        let block = blocks().into_iter().find(|block| block.contains("lz4 -dc"));
        let said = run(&maker, block.expect("the page has it"));
        let lines: Vec<&str> = said.lines().collect();
        let (last, rounds) = lines.split_last().expect("lines");
        assert_eq!(*last, "ok");
        assert!(
            !rounds.is_empty() && rounds.iter().all(|line| *line == "0|0|0"),
            "{said}"
        );
        let bytes = std::fs::read(data.join("hand.db")).expect("a database");
        assert_eq!(sum(&bytes, 1024), sum(&newest.bytes, 1024));
    } else {
        eprintln!("no lz4 and sqlite3 here: by the libraries alone");
    }
    let bytes = by_the_libraries(&maker, &data);
    assert_eq!(sum(&bytes, 1024), sum(&newest.bytes, 1024));
}

fn unpack(path: &Path) -> Vec<u8> {
    let file = std::fs::File::open(path).expect("an object");
    let mut bytes = Vec::new();
    let mut decoder = lz4_flex::frame::FrameDecoder::new(file);
    std::io::copy(&mut decoder, &mut bytes).expect("unpacked");
    bytes
}

fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    names.sort();
    names
}

fn by_the_libraries(maker: &Maker, data: &Path) -> Vec<u8> {
    let generation = maker.newest().position.generation;
    let root = maker.root.join(format!("generations/{generation}"));
    let snapshot = names(&root.join("snapshots")).pop().expect("a snapshot");
    let first = &snapshot[..16];
    let path = data.join("library.db");
    std::fs::write(&path, unpack(&root.join("snapshots").join(&snapshot))).expect("written");
    for index in names(&root.join("wal"))
        .iter()
        .filter(|index| index.as_str() >= first)
    {
        let directory = root.join("wal").join(index);
        let parts = names(&directory)
            .into_iter()
            .map(|name| unpack(&directory.join(name)));
        std::fs::write(
            data.join("library.db-wal"),
            parts.collect::<Vec<_>>().concat(),
        )
        .expect("written");
        let connection = rusqlite::Connection::open(&path).expect("a database");
        let done: i64 = connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
            .expect("a checkpoint");
        assert_eq!(done, 0);
    }
    std::fs::read(&path).expect("a database")
}
