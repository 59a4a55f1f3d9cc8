//! The targets with the kept inputs, and with a number of random changes of each: for as long as CI has. A long search is
//! libFuzzer's, see README.md.

mod mutate;
mod targets;

use mutate::Mutator;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Changed inputs for each target, and in full.
const ROUNDS: [usize; 2] = [100_000, 4_000_000];
/// Inputs whose target takes longer show that something grows without a bound.
const SLOW: Duration = Duration::from_secs(10);

fn seed() -> u64 {
    let seed = std::env::var("WALCAST_SEED").ok();
    seed.and_then(|seed| seed.parse().ok())
        .unwrap_or(20_251_125)
}

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(name);
    let mut inputs: Vec<(String, Vec<u8>)> = std::fs::read_dir(&directory)
        .expect("a directory of inputs")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy();
            (name.into_owned(), std::fs::read(&path).expect("readable"))
        })
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} has no inputs", directory.display());
    inputs
}

/// Writes an input that fails where a person finds it; the test fails with what the target says.
struct Last<'a> {
    name: &'a str,
    input: &'a [u8],
}

impl Drop for Last<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let path = std::env::temp_dir().join(format!("walcast-fuzz-{}", self.name));
            let written = std::fs::write(&path, self.input);
            eprintln!("the input: {} ({written:?})", path.display());
        }
    }
}

fn run(name: &str) {
    run_less(name, 1);
}

/// The more an input costs, the fewer there are.
fn run_less(name: &str, cost: usize) {
    let (_, target) = *targets::ALL
        .iter()
        .find(|(known, _)| *known == name)
        .expect("a target");
    let corpus = corpus(name);
    let rounds = ROUNDS[usize::from(std::env::var_os("WALCAST_FULL").is_some())] / cost;
    let seed = seed();
    println!(
        "{name}: {} inputs, {rounds} changes, seed {seed}",
        corpus.len()
    );
    let feed = |input: &[u8]| {
        let last = Last { name, input };
        let begun = Instant::now();
        target(input);
        assert!(
            begun.elapsed() < SLOW,
            "{:?} for one input",
            begun.elapsed()
        );
        drop(last);
    };
    corpus.iter().for_each(|(_, input)| feed(input));
    let mut mutator = Mutator::new(seed ^ name.bytes().fold(0, |sum, b| sum * 31 + u64::from(b)));
    let inputs: Vec<&[u8]> = corpus.iter().map(|(_, input)| input.as_slice()).collect();
    for _ in 0..rounds {
        feed(&mutator.next(&inputs));
    }
}

#[test]
fn config() {
    run("config");
}

#[test]
fn docs() {
    run("docs");
}

#[test]
fn index() {
    run("index");
}

#[test]
fn lz4_frames() {
    run("lz4_frames");
}

#[test]
fn names() {
    run("names");
}

#[test]
fn recent() {
    run("recent");
}

/// A script is a whole stream, up to 1.5 MiB of it.
#[test]
fn step() {
    run_less("step", 100);
}

#[test]
fn wal() {
    run("wal");
}

#[test]
fn wire() {
    run("wire");
}

#[test]
fn every_target_is_run_here_and_by_libfuzzer() {
    let libfuzzer = include_str!("libfuzzer/Cargo.toml");
    let here = include_str!("main.rs");
    for (name, _) in targets::ALL {
        assert!(libfuzzer.contains(&format!("name = \"{name}\"")), "{name}");
        let run = [format!("run(\"{name}\")"), format!("run_less(\"{name}\"")];
        assert!(run.iter().any(|run| here.contains(run)), "{name}");
    }
}
