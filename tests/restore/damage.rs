//! Every object missing, cut off, with a flipped bit: never a wrong state.

use crate::kit::take;
use crate::maker::{Maker, State, made};
use std::path::Path;
use walcast::archive::Key;
use walcast::format::position::Position;
use walcast::restore::{RestoreError, Target};

/// The name by which an object is told of: damage may show in what belongs to it.
fn belongs(named: Key, damaged: Key) -> bool {
    named == damaged || named.doc() == Some(damaged) || damaged.doc() == Some(named)
}

/// The newest state that is left without an object.
fn expected(maker: &Maker, gone: Key) -> &State {
    let newest = maker.newest();
    let Key::Wal {
        generation,
        index,
        offset,
    } = gone
    else {
        return newest;
    };
    // A segment of an older history is nothing to the newest.
    if newest.position.generation != generation.into() {
        return newest;
    }
    let here = |position: &Position| position.generation == generation.into();
    let place = |position: &Position| (position.index, position.offset);
    // From the newest snapshot on that does not need it; none is taken in a log that has lost something before it.
    let snapshot = maker
        .snapshots
        .iter()
        .filter(|p| here(p))
        .max_by_key(|p| place(p));
    let snapshot = snapshot.expect("a snapshot");
    if index < snapshot.index {
        return newest;
    }
    if (index, offset) < place(snapshot) {
        return maker.at(*snapshot);
    }
    let states = maker.states.iter().filter(|s| here(&s.position));
    let sound = states.filter(|s| place(&s.position) <= (index, offset));
    sound.max_by_key(|s| place(&s.position)).expect("a state")
}

fn check(maker: &Maker, key: Key, how: &str, can_be_harmless: bool) {
    match take(&maker.root, Target::Newest, false) {
        Ok((bytes, _)) => {
            assert!(bytes == maker.newest().bytes, "{key} {how}: a wrong state");
            let is_read = expected(maker, key).position != maker.newest().position;
            assert!(!is_read || can_be_harmless, "{key} {how}: not noticed");
        }
        Err(error) => {
            let named = error.object();
            assert!(
                named.is_some_and(|named| belongs(named, key)),
                "{key} {how}: {error}"
            );
            assert!(
                error
                    .to_string()
                    .contains(&named.expect("named").to_string())
            );
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    }
    let (bytes, outcome) = take(&maker.root, Target::Newest, true)
        .unwrap_or_else(|error| panic!("{key} {how}: {error}"));
    let state = expected(maker, key);
    assert_eq!(outcome.restored.position, state.position, "{key} {how}");
    assert!(bytes == state.bytes, "{key} {how}: a wrong state");
}

fn each(maker: &Maker, mut change: impl FnMut(&Path, &[u8], Key)) {
    for key in maker.objects() {
        let path = maker.root.join(key.to_string());
        let bytes = std::fs::read(&path).expect("an object");
        let modified = std::fs::metadata(&path)
            .expect("an object")
            .modified()
            .expect("a time");
        change(&path, &bytes, key);
        std::fs::write(&path, &bytes).expect("put back");
        let file = std::fs::File::options()
            .write(true)
            .open(&path)
            .expect("an object");
        file.set_modified(modified).expect("the time it had");
    }
}

#[test]
fn a_missing_object_is_named() {
    let maker = made(2, 2, 3);
    each(&maker, |path, _, key| {
        std::fs::remove_file(path).expect("removed");
        // Without a document a restore knows less, and what it gives is right.
        let is_doc = key.to_string().starts_with("walcast/");
        check(&maker, key, "missing", is_doc);
    });
}

#[test]
fn an_object_that_is_cut_off_is_named() {
    let maker = made(2, 2, 3);
    each(&maker, |path, bytes, key| {
        for length in [0, 1, bytes.len() / 3, bytes.len() - 4, bytes.len() - 1] {
            std::fs::write(path, &bytes[..length]).expect("cut");
            check(&maker, key, &format!("cut to {length}"), false);
        }
        std::fs::write(path, [bytes, b"x"].concat()).expect("longer");
        check(&maker, key, "longer", false);
    });
}

#[test]
fn an_object_with_a_flipped_bit_is_named() {
    let maker = made(2, 2, 3);
    each(&maker, |path, bytes, key| {
        let places = [
            0,
            4,
            5,
            7,
            bytes.len() / 2,
            bytes.len() - 9,
            bytes.len() - 1,
        ];
        for (turn, at) in places.into_iter().enumerate() {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1 << (turn * 3 % 8);
            std::fs::write(path, &flipped).expect("flipped");
            check(&maker, key, &format!("flipped at {at}"), false);
        }
    });
}

/// Without documents, the end of a log that was lost cannot be noticed; all else is.
#[test]
fn without_documents_damage_is_named_too() {
    let maker = made(2, 2, 3);
    maker.without_documents();
    let newest = maker.newest();
    each(&maker, |path, bytes, key| {
        let mut flipped = bytes.to_vec();
        flipped[bytes.len() / 2] ^= 4;
        for (how, damage) in [("cut", &bytes[..bytes.len() / 2]), ("flipped", &flipped)] {
            std::fs::write(path, damage).expect("damaged");
            match take(&maker.root, Target::Newest, false) {
                Ok((bytes, _)) => assert!(bytes == newest.bytes, "{key} {how}"),
                Err(error) => assert_eq!(error.object(), Some(key), "{how}: {error}"),
            }
            let (bytes, outcome) = take(&maker.root, Target::Newest, true)
                .unwrap_or_else(|error| panic!("{key} {how}: {error}"));
            assert!(
                bytes == maker.at(outcome.restored.position).bytes,
                "{key} {how}"
            );
        }
    });
}

#[test]
fn a_position_before_the_damage_is_not_disturbed_by_it() {
    let maker = made(2, 2, 3);
    let last = maker.newest().position;
    let state = &maker.states[maker.states.len() - 8];
    let segments = maker
        .objects()
        .into_iter()
        .filter(|key| matches!(key, Key::Wal { .. }));
    let hit = segments.filter(|key| match key {
        Key::Wal {
            generation,
            index,
            offset,
        } => {
            last.generation == (*generation).into()
                && (*index, *offset) >= (state.position.index, state.position.offset)
        }
        _ => false,
    });
    let hit: Vec<Key> = hit.collect();
    assert!(hit.len() > 1);
    for key in hit {
        std::fs::write(maker.root.join(key.to_string()), b"nonsense").expect("damaged");
    }
    let (bytes, _) = take(&maker.root, Target::Position(state.position), false).expect("restored");
    assert!(bytes == state.bytes);
    let error = take(&maker.root, Target::Position(last), false).expect_err("damaged");
    assert!(error.object().is_some(), "{error}");
    // On request, what is before it.
    let (bytes, outcome) = take(&maker.root, Target::Position(last), true).expect("restored");
    assert_eq!(outcome.left_out.len(), 1);
    assert!(bytes == maker.at(outcome.restored.position).bytes);
    assert!(outcome.restored.position >= state.position);
}

#[test]
fn with_nothing_sound_left_the_first_damage_is_named() {
    let maker = made(2, 2, 3);
    let snapshots = maker
        .objects()
        .into_iter()
        .filter(|key| matches!(key, Key::Snapshot { .. }));
    for key in snapshots {
        std::fs::write(maker.root.join(key.to_string()), b"nonsense").expect("damaged");
    }
    let error = take(&maker.root, Target::Newest, true).expect_err("nothing");
    assert!(matches!(error, RestoreError::NothingSound(_)), "{error}");
    assert!(error.to_string().contains(".snapshot.lz4"), "{error}");
}

/// Whatever happens to an object's bytes.
#[test]
fn no_damage_gives_a_wrong_state() {
    use proptest::prelude::*;
    let maker = made(2, 2, 2);
    let objects = maker.objects();
    let strategy = (
        0..objects.len(),
        proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        any::<proptest::sample::Index>(),
        proptest::collection::vec(any::<u8>(), 0..40),
        any::<bool>(),
    );
    let mut runner = proptest::test_runner::TestRunner::default();
    let outcome = runner.run(&strategy, |(object, writes, cut, tail, is_cut)| {
        let path = maker.root.join(objects[object].to_string());
        let bytes = std::fs::read(&path).expect("an object");
        let modified = std::fs::metadata(&path)
            .and_then(|found| found.modified())
            .expect("a time");
        let mut damaged = bytes.clone();
        for (at, byte) in writes {
            let at = at.index(damaged.len());
            damaged[at] = byte;
        }
        if is_cut {
            damaged.truncate(cut.index(bytes.len()));
            damaged.extend(tail);
        }
        std::fs::write(&path, &damaged).expect("damaged");
        let strict = take(&maker.root, Target::Newest, false);
        let sound = take(&maker.root, Target::Newest, true);
        std::fs::write(&path, &bytes).expect("put back");
        let file = std::fs::File::options().write(true).open(&path);
        file.and_then(|file| file.set_modified(modified))
            .expect("the time it had");
        if let Ok((bytes, _)) = strict {
            prop_assert!(bytes == maker.newest().bytes, "a wrong state");
        }
        let (bytes, outcome) = sound.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(bytes == maker.at(outcome.restored.position).bytes);
        Ok(())
    });
    outcome.expect("never a wrong state");
}
