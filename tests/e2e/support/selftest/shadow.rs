//! The reader of the shadow WAL, against one made by hand from an ordinary WAL.

use std::io::Write;
use std::path::Path;

use lz4_flex::frame::{FrameEncoder, FrameInfo};

use crate::support::child::Spec;
use crate::support::load::Load;
use crate::support::shadow::{self, Shadow};
use crate::support::{Scratch, history::History};

const FRAME: usize = 24 + 4096;

/// A writer's log, kept open by the killed writer: never restarted.
fn load(scratch: &Scratch) -> (Vec<u8>, History) {
    let options = Spec::default()
        .with("autocheckpoint", 0)
        .with("mix", "one:3,ddl:1,blob:1")
        .with("blob_kb", 64);
    let mut load = Load::new(scratch.path(), &scratch.join("app.db"), options);
    load.start_writer();
    load.wait_commits(30);
    load.kill_writer();
    let bytes = std::fs::read(scratch.join("app.db-wal")).expect("read the log");
    (bytes, load.read_history())
}

/// Only what is committed: a kill leaves a tail.
fn committed(scratch: &Scratch, bytes: &[u8]) -> usize {
    let path = scratch.join("whole-wal");
    std::fs::write(&path, bytes).expect("write");
    let file = std::fs::File::open(&path).expect("open");
    let wal = crate::support::walfile::read(&file, u32::MAX)
        .expect("read")
        .expect("a WAL");
    32 + wal.frames as usize * FRAME
}

fn compressed(pieces: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        let info = FrameInfo::new().content_checksum(true);
        let mut encoder = FrameEncoder::with_frame_info(info, &mut out);
        encoder.write_all(piece).expect("compress");
        encoder.finish().expect("finish");
    }
    out
}

/// Two files of two frames each, cut at `middle`.
fn lay_out(dir: &Path, bytes: &[u8], middle: usize) -> std::path::PathBuf {
    let index = dir.join("generations/89abcdef01234567/wal/0000000000000000");
    std::fs::create_dir_all(&index).expect("create");
    for (offset, part) in [(0, &bytes[..middle]), (middle, &bytes[middle..])] {
        let (x, y) = part.split_at(part.len() / 2);
        let path = index.join(format!("{offset:016x}.wal.lz4"));
        std::fs::write(path, compressed(&[x, y])).expect("write");
    }
    index
}

fn read(scratch: &Scratch) -> Result<Shadow, String> {
    shadow::read(&scratch.join("shadow"), &scratch.join("index-wal"))
}

#[test]
fn a_whole_log_holds_every_commit_and_a_cut_one_names_what_is_missing() {
    let scratch = Scratch::new("shadow");
    let (bytes, history) = load(&scratch);
    let end = committed(&scratch, &bytes);
    let middle = 32 + 7 * FRAME;
    let index = lay_out(&scratch.join("shadow"), &bytes[..end], middle);
    let whole = read(&scratch).expect("a valid shadow");
    assert_eq!(
        (whole.indexes, whole.files, whole.wal_bytes),
        (1, 2, end as u64)
    );
    assert!(whole.commits >= history.committed, "{whole:?}");
    assert_eq!(whole.missing(&history, 1), Vec::<u64>::new());

    // Without the second file the later commits are missing, the earlier are not.
    let second = index.join(format!("{middle:016x}.wal.lz4"));
    let kept = std::fs::read(&second).expect("read");
    std::fs::remove_file(&second).expect("remove");
    if let Ok(cut) = read(&scratch) {
        assert!(cut.missing(&history, 1).contains(&history.last));
    }
    let renamed = index.join(format!("{:016x}.wal.lz4", middle + FRAME));
    std::fs::write(&renamed, &kept).expect("write");
    let why = read(&scratch).expect_err("a gap");
    assert!(why.contains("follows byte"), "{why}");
    std::fs::remove_file(&renamed).expect("remove");

    let mut damaged = kept;
    let at = damaged.len() / 3;
    damaged[at] ^= 1;
    std::fs::write(&second, &damaged).expect("write");
    read(&scratch).expect_err("a flipped bit");
}

#[test]
fn a_log_that_sqlite_would_not_accept_is_refused() {
    let scratch = Scratch::new("shadow-bad");
    let (bytes, _) = load(&scratch);
    let end = committed(&scratch, &bytes);
    // Valid lz4, but a page that the frame's checksum does not cover.
    let mut damaged = bytes[..end].to_vec();
    damaged[end - 10] ^= 1;
    lay_out(&scratch.join("shadow"), &damaged, 32 + 7 * FRAME);
    let why = read(&scratch).expect_err("a bad checksum");
    assert!(why.contains("bytes are valid"), "{why}");
}

#[test]
fn a_lost_commit_in_a_valid_log_is_named() {
    let scratch = Scratch::new("shadow-lost");
    let (bytes, mut text) = (load(&scratch), String::new());
    let (bytes, history) = bytes;
    let end = committed(&scratch, &bytes);
    lay_out(&scratch.join("shadow"), &bytes[..end], 32 + 7 * FRAME);
    // A history with one more commit than the log has.
    let next = history.last + 1;
    let line = "00000000deadbeef";
    text.push_str(&std::fs::read_to_string(scratch.join("history")).expect("read"));
    if history.open_end.is_some() {
        let state = format!("start {} {}\n", history.last, state_of(&history));
        text.push_str(&state);
    }
    text.push_str(&format!("intent {next} {line}\ndone {next} {line}\n"));
    let longer = History::parse(&text);
    assert_eq!(
        read(&scratch).expect("valid").missing(&longer, 1),
        vec![next]
    );
}

fn state_of(history: &History) -> String {
    let last = history.committed_states().find(|(v, _)| *v == history.last);
    last.expect("the last state").1.to_owned()
}
