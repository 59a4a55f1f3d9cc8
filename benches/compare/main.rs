//! walcast beside what people use today: Litestream, SQLite's online backup in a loop, and PostgreSQL's streaming replication.
//! One machine, one run, the same application and the same look from outside.
//!
//! `cargo bench --bench compare -- [SYSTEM or SCENARIO...] [--quick] [--json FILE] [--svg FILE]`; `--help` lists them. The exit
//! code is 1 only if a copy was wrong, or, with `--require-all`, if a system was missing.

mod bench;
mod copy_loop;
mod figures;
mod followed;
mod foreign;
mod litestream;
mod pg_table;
mod plot;
mod postgres;
#[path = "../../tests/e2e/support/proxy.rs"]
#[allow(dead_code, reason = "it only counts here")]
mod proxy;
mod scenario;
#[path = "../support/mod.rs"]
mod support;
mod system;
mod wait;
mod walcast;

// The crate has the name that the module needs.
use ::walcast as library;
use bench::Bench;
use clap::{Parser, ValueEnum};
use followed::Followed;
use pg_table::{PgTable, SCHEME};
use scenario::Scenario;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use support::{clock, cluster, helper, lags, load, machine, number, observe, prober, table};
use system::Kind;
use table::{SqliteTable, Table};

#[derive(Parser)]
#[command(
    name = "compare",
    about = "walcast beside Litestream, a copy loop and PostgreSQL",
    after_help = after_help()
)]
struct Args {
    /// Systems and scenarios, by name; default: all
    #[arg(value_name = "SYSTEM|SCENARIO", value_parser = choice)]
    chosen: Vec<Choice>,
    /// Short runs: a look, not a measurement
    #[arg(long)]
    quick: bool,
    /// Runs of each, whose median is shown
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Write the figures to this file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the lags into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Fail if a system is missing
    #[arg(long)]
    require_all: bool,
    /// Where databases are made, in a new directory; default: beside the build
    #[arg(long, value_name = "DIRECTORY", default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy)]
enum Choice {
    System(Kind),
    Scenario(Scenario),
}

fn choice(word: &str) -> Result<Choice, String> {
    let system = Kind::from_str(word, false).map(Choice::System);
    system
        .or_else(|_| Scenario::from_str(word, false).map(Choice::Scenario))
        .map_err(|_| "there is no such system and no such scenario".to_owned())
}

fn after_help() -> String {
    fn list<T: ValueEnum>() -> String {
        let values = T::value_variants().iter().filter_map(T::to_possible_value);
        let lines = values.map(|value| {
            let help = value
                .get_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            format!("  {:18} {help}\n", value.get_name())
        });
        lines.collect()
    }
    format!(
        "Systems:\n{}\nScenarios:\n{}",
        list::<Kind>(),
        list::<Scenario>()
    )
}

/// What a helper process does.
#[derive(Parser)]
enum Role {
    /// Commits
    Load(load::LoadArgs),
    /// Looks for new rows
    Prober(prober::ProberArgs),
    /// Waits for a row
    Wait(wait::WaitArgs),
    /// Says what a table holds
    Digest(wait::DigestArgs),
    /// Copies a database again and again
    Copier(copy_loop::CopierArgs),
}

impl Role {
    fn run(self) -> anyhow::Result<()> {
        match self {
            Role::Load(args) => load::run(&args, &mut *application(&args.db)?),
            Role::Prober(args) => prober::run(&args, &mut *reader(&args.db)?),
            Role::Wait(args) => wait::wait(&args),
            Role::Digest(args) => wait::digest(&mut *reader(&args.db)?),
            Role::Copier(args) => copy_loop::copier(&args),
        }
    }
}

fn application(db: &Path) -> anyhow::Result<Box<dyn Table>> {
    Ok(match in_postgres(db) {
        Some(address) => Box::new(PgTable::connect(address)?),
        None => Box::new(SqliteTable::application(db)?),
    })
}

fn reader(db: &Path) -> anyhow::Result<Box<dyn Table>> {
    let followed = db
        .to_str()
        .and_then(|address| address.strip_prefix(followed::SCHEME));
    Ok(match (in_postgres(db), followed) {
        (Some(address), _) => Box::new(PgTable::connect(address)?),
        (None, Some(path)) => Box::new(Followed(path.into())),
        (None, None) => Box::new(SqliteTable::reader(db)?),
    })
}

fn in_postgres(db: &Path) -> Option<&str> {
    db.to_str().filter(|address| address.starts_with(SCHEME))
}

fn main() -> ExitCode {
    if let Some(args) = helper::arguments() {
        return helper::ended(Role::parse_from(args).run());
    }
    match compare(Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True if all copies were right, and no system was missing that had to be there.
fn compare(args: Args) -> anyhow::Result<bool> {
    let systems = args.chosen.iter().filter_map(|choice| match choice {
        Choice::System(kind) => Some(*kind),
        Choice::Scenario(_) => None,
    });
    let scenarios = args.chosen.iter().filter_map(|choice| match choice {
        Choice::System(_) => None,
        Choice::Scenario(scenario) => Some(*scenario),
    });
    let mut bench = Bench::new(&args.dir, args.quick, args.runs.max(1))?;
    let missing = bench.run(&all_if_none(systems), &all_if_none(scenarios))?;
    print!("{}", bench.figures);
    if let Some(path) = args.json {
        std::fs::write(path, bench.figures.to_json()?)?;
    }
    if let Some(path) = args.svg {
        plot::draw(&bench.figures, &path)?;
    }
    for why in &missing {
        eprintln!("\n##### SKIPPED: {why} #####");
    }
    Ok(!bench.figures.failed() && (missing.is_empty() || !args.require_all))
}

fn all_if_none<T: ValueEnum + Copy>(chosen: impl Iterator<Item = T>) -> Vec<T> {
    let chosen: Vec<T> = chosen.collect();
    match chosen.is_empty() {
        true => T::value_variants().to_vec(),
        false => chosen,
    }
}
