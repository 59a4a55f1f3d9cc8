//! Hours of random faults: is every state that a reader sees one that the primary had, does everything heal, and do memory,
//! descriptors, threads and disk stay flat?
//!
//! `cargo bench --bench soak -- --hours 2` prints a verdict, and leaves it in `--out` with the samples (CSV) and a plot. The
//! exit code is 1 if anything is wrong. Ctrl-C ends it early, with the verdict of what there is.

mod clock;
mod keeper;
#[allow(dead_code, reason = "of the other benchmark, which looks at more")]
#[path = "../support/observe.rs"]
mod observe;
mod plot;
mod report;
mod roles;
mod series;
mod shared;
mod site;
mod steady;
mod storm;
#[allow(
    dead_code,
    unused_imports,
    reason = "the kit of the end-to-end tests, of which not everything is used here"
)]
#[path = "../../tests/e2e/support/mod.rs"]
mod support;
mod verdict;
mod watch;

use anyhow::Context as _;
use clap::Parser;
use series::Series;
use shared::Shared;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use steady::Pace;
use tokio::signal::unix::{SignalKind, signal};
use watch::Place;

#[derive(Parser)]
#[command(
    name = "soak",
    about = "Hours of random faults; is everything right, and flat?"
)]
struct Args {
    /// How long
    #[arg(long, default_value_t = 0.0)]
    hours: f64,
    /// The same, in minutes; both are added. Default: 2 minutes
    #[arg(long, default_value_t = 0.0)]
    minutes: f64,
    /// Of the faults and the load; default: WALCAST_SEED, or 20251125
    #[arg(long)]
    seed: Option<u64>,
    /// Commits a second of each of the two applications
    #[arg(long, default_value_t = 50)]
    rate: u64,
    /// Where everything is written: verdict, samples, plot, databases, evidence; default: a new directory beside the build
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    fn length(&self) -> Duration {
        let seconds = self.hours * 3600.0 + self.minutes * 60.0;
        Duration::from_secs_f64(if seconds > 0.0 { seconds } else { 120.0 })
    }

    fn seed(&self) -> u64 {
        self.seed
            .unwrap_or_else(|| support::rng::Rng::seed_for("soak", 20_251_125))
    }

    fn out(&self) -> anyhow::Result<PathBuf> {
        let Some(out) = &self.out else {
            let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
            std::fs::create_dir_all(parent)?;
            let new = tempfile::Builder::new()
                .prefix("soak-")
                .tempdir_in(parent)?;
            return Ok(new.keep());
        };
        std::fs::create_dir_all(out)?;
        Ok(std::fs::canonicalize(out)?)
    }
}

fn main() -> ExitCode {
    if support::child::main(&roles::ROLES) {
        return ExitCode::SUCCESS;
    }
    let args = Args::parse();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    if !keeper::is_inside()? {
        return keeper::keep(&runtime);
    }
    let (out, length, seed) = (args.out()?, args.length(), args.seed());
    let shared = Arc::new(Shared::new(&out, length, runtime));
    stop_when_told(&shared)?;
    let head = format!(
        "soak of {} min, seed {seed}, {} commits/s each, revision {}, in {}",
        length.as_secs() / 60,
        args.rate,
        revision(),
        out.display()
    );
    shared.say(&head);
    let ok = soak(&shared, args.rate, seed, &head)?;
    Ok(if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn stop_when_told(shared: &Arc<Shared>) -> anyhow::Result<()> {
    let _entered = shared.runtime.enter();
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut told = signal(kind)?;
        let shared = shared.clone();
        shared.clone().runtime.spawn(async move {
            while told.recv().await.is_some() {
                shared.say("told to end");
                shared.stop();
            }
        });
    }
    Ok(())
}

fn revision() -> String {
    let said = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .output();
    said.map_or(String::new(), |said| {
        String::from_utf8_lossy(&said.stdout).trim().to_owned()
    })
}

/// A thread for a site; what it could not go on with is wrong.
fn start(
    shared: &Arc<Shared>,
    name: &'static str,
    body: impl FnOnce(&Arc<Shared>) -> Result<(), String> + Send + 'static,
) -> JoinHandle<()> {
    let shared = shared.clone();
    std::thread::spawn(
        move || match catch_unwind(AssertUnwindSafe(|| body(&shared))) {
            Ok(Ok(())) => {}
            Ok(Err(why)) => shared.fail(&format!("{name} ended early: {why}")),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or(panic.downcast_ref::<&str>().copied());
                shared.fail(&format!("{name} ended by a panic: {}", text.unwrap_or("?")));
            }
        },
    )
}

/// The whole run; whether all is well.
fn soak(shared: &Arc<Shared>, rate: u64, seed: u64, head: &str) -> anyhow::Result<bool> {
    let part = |parts: u32, least: u64, most: u64| {
        (shared.length / parts).clamp(Duration::from_secs(least), Duration::from_secs(most))
    };
    let pace = Pace {
        rate,
        epoch: part(5, 20, 600),
        retain: part(24, 5, 300),
    };
    let every = part(100, 1, 5);
    let work = shared.out.join("work");
    if work.exists() {
        std::fs::remove_dir_all(&work)?;
    }
    for old in ["faults.csv", "failures.log"] {
        let _absent_at_first = std::fs::remove_file(shared.out.join(old));
    }
    let places = [Place::new(steady::NAME), Place::new(storm::NAME)];
    let mut threads = Vec::new();
    for place in &places {
        let (dir, watched) = (work.join(place.name), place.watched.clone());
        let body = if place.name == steady::NAME {
            steady::run
        } else {
            storm::run
        };
        threads.push(start(shared, place.name, move |shared| {
            body(shared, &dir, seed, pace, &watched)
        }));
        threads.push(place.start_probe(shared, every / 2));
    }
    let names = watch::columns(&places);
    let mut series =
        Series::create(&shared.out.join("soak.csv"), names).context("create the CSV")?;
    let (mut sample_at, mut write_at) = (Duration::ZERO, part(20, 30, 300));
    let mut turns = 0_u32;
    while threads.iter().any(|thread| !thread.is_finished()) {
        turns += 1;
        if turns.is_multiple_of(10) {
            shared.clock.hold(watch::is_somebody_stopped(&places));
        }
        let awake = shared.clock.awake();
        if !shared.is_over() && awake >= sample_at {
            watch::sample(&mut series, &places, awake.as_secs_f64()).context("write a sample")?;
            sample_at = awake + every;
        }
        if awake >= write_at {
            write(shared, &series, head)?;
            write_at = awake + part(20, 30, 300);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    for thread in threads {
        let _its_panic_was_printed = thread.join();
    }
    let ok = write(shared, &series, head)?;
    print!("{}", std::fs::read_to_string(shared.out.join("soak.log"))?);
    if shared.failures() == 0 {
        std::fs::remove_dir_all(&work)?;
    }
    Ok(ok)
}

/// The verdict and the plot of what there is.
fn write(shared: &Shared, series: &Series, head: &str) -> anyhow::Result<bool> {
    let (text, ok) = report::verdict(shared, series, head);
    std::fs::write(shared.out.join("soak.log"), text)?;
    if let Err(error) = plot::draw(&shared.out.join("soak.svg"), series) {
        anyhow::bail!("draw the plot: {error}");
    }
    Ok(ok)
}
