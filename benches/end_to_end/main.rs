//! What walcast does to an application and how late a reader sees its commits: real processes, one machine, and the plain
//! alternative in the same run.
//!
//! `cargo bench --bench end_to_end -- [SCENARIO...] [--quick]`; `--help` lists the scenarios. A figure that misses its
//! target is shown and is no failure; the exit code is 1 only if replication was wrong.

mod archive;
mod context;
mod echo;
mod lag;
mod query;
mod reader;
mod report;
mod snapshot;
mod steady;
#[path = "../support/mod.rs"]
mod support;
mod thousand;
mod throughput;

use clap::{Parser, ValueEnum};
use context::Context;
use std::path::PathBuf;
use std::process::ExitCode;
use support::{clock, cluster, helper, lags, load, machine, number, observe, prober, table};
use table::SqliteTable;

#[derive(Parser)]
#[command(
    name = "end_to_end",
    about = "walcast from end to end, beside its plain alternatives"
)]
struct Args {
    /// What to measure; default: everything
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// Short runs, once each: a look, not a measurement
    #[arg(long)]
    quick: bool,
    /// Runs of each scenario, whose median is shown; default: 3, with --quick 1
    #[arg(long)]
    runs: Option<usize>,
    /// Write the figures to this file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where databases are made, in a new directory; default: beside the build
    #[arg(long, value_name = "DIRECTORY", default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a helper process does.
#[derive(Parser)]
enum Role {
    /// Commits
    Load(load::LoadArgs),
    /// Looks for new rows
    Prober(prober::ProberArgs),
    /// Runs queries
    Query(query::QueryArgs),
}

impl Role {
    fn run(self) -> anyhow::Result<()> {
        match self {
            Role::Load(args) => load::run(&args, &mut SqliteTable::application(&args.db)?),
            Role::Prober(args) => prober::run(&args, &mut SqliteTable::reader(&args.db)?),
            Role::Query(args) => query::run(args),
        }
    }
}

/// The rows of the table of speeds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Scenario {
    /// From commit to visible, 100 commits/s
    Lag100,
    /// From commit to visible, 1,000 commits/s
    Lag1000,
    /// An application held at 20,000 commits/s, with and without walcast
    Rate20k,
    /// An application as fast as it can, with and without walcast
    Flood,
    /// Transactions of 100 rows, as fast as it can
    Rows100,
    /// 16 replicas at 1,000 commits/s
    Replicas16,
    /// 1 GiB to a fresh replica, beside cp and fsync
    Snapshot,
    /// A replica that was away for a minute at 100 commits/s
    Catchup,
    /// CPU time and memory when nothing happens
    Idle,
    /// 1,000 databases in one process, ten of them busy
    Thousand,
    /// What an archive costs the application, at 1,000 and 20,000 commits/s
    Archive,
    /// A query on a replica, beside the same on a plain copy
    Reader,
}

impl Scenario {
    fn run(self, context: &mut Context) -> anyhow::Result<()> {
        match self {
            Scenario::Lag100 => lag::at_rate(context, "lag100", 100),
            Scenario::Lag1000 => lag::at_rate(context, "lag1000", 1000),
            Scenario::Rate20k => throughput::rate20k(context),
            Scenario::Flood => throughput::flood(context),
            Scenario::Rows100 => throughput::rows100(context),
            Scenario::Replicas16 => lag::replicas16(context),
            Scenario::Snapshot => snapshot::run(context),
            Scenario::Catchup => steady::catchup(context),
            Scenario::Idle => steady::idle(context),
            Scenario::Thousand => thousand::run(context),
            Scenario::Archive => archive::run(context),
            Scenario::Reader => reader::run(context),
        }
    }
}

fn main() -> ExitCode {
    if let Some(args) = helper::arguments() {
        return helper::ended(Role::parse_from(args).run());
    }
    match measure(Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True if replication was right in every scenario.
fn measure(args: Args) -> anyhow::Result<bool> {
    let runs = args.runs.unwrap_or(if args.quick { 1 } else { 3 }).max(1);
    let mut context = Context::new(&args.dir, args.quick, runs)?;
    let scenarios = if args.scenarios.is_empty() {
        Scenario::value_variants().to_vec()
    } else {
        args.scenarios
    };
    for scenario in scenarios {
        eprintln!("{scenario:?} ...");
        if let Err(error) = scenario.run(&mut context) {
            eprintln!("{scenario:?}: {error:#}");
            context.report.fail(format!("{scenario:?}: {error:#}"));
        }
    }
    print!("{}", context.report);
    if let Some(path) = args.json {
        std::fs::write(path, context.report.to_json())?;
    }
    Ok(!context.report.failed())
}
