//! `walcast demo`: a whole system on one machine, for a first look.
//!
//! An application, a primary and replicas, each a process of its own, in a temporary directory; a reader of each replica
//! measures from outside how late it sees commits. At the end the files are compared, and nothing is left.

mod cast;
pub mod compare;
mod place;
pub mod process;
mod screen;
mod shop;
pub mod stats;
mod watch;
mod writer;

pub use process::{ChildArgs, run_child};
pub use writer::{WriterArgs, run as run_writer};

use anyhow::Context as _;
use cast::Cast;
use compare::Pages;
use place::Place;
use screen::Screen;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Show an application, a primary and replicas at work, in a temporary directory
///
/// Starts each as a process of its own and shows what happens until Ctrl-C; then compares every replica with the primary,
/// page by page, and says `equal` or what differs.
#[derive(clap::Args, Debug)]
pub struct DemoArgs {
    /// End after this many seconds; default: at Ctrl-C
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Commits per second of the application; 0: as fast as it can
    #[arg(long, value_name = "N", default_value_t = 1000)]
    rate: u32,
    /// Replicas
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    replicas: u32,
    /// Directory for all files, new or empty; default: one in the system's directory for temporary files
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
    /// Leave the files there at the end
    #[arg(long)]
    keep: bool,
}

/// What a shell reports for a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// How a demonstration ends.
enum End {
    Equal,
    Different,
    /// By a signal, before anything could be compared.
    Interrupted,
}

/// Runs the demonstration. Exit code 0: all replicas were equal to the primary; 1: not.
///
/// # Errors
/// If a process fails, or a replica does not become level; everything is cleaned up all the same.
pub fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    // On this thread alone: the kernel ends our processes with the thread that started them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start")?;
    Ok(match runtime.block_on(demonstrate(&args))? {
        End::Equal => ExitCode::SUCCESS,
        End::Different => ExitCode::FAILURE,
        End::Interrupted => ExitCode::from(INTERRUPTED),
    })
}

async fn demonstrate(args: &DemoArgs) -> anyhow::Result<End> {
    let mut signals = Signals::new()?;
    let mut screen = Screen::new();
    // Dropped last: when the processes have ended.
    let place = Place::create(args.dir.as_deref(), args.keep)?;
    let end = perform(args, &place, &mut screen, &mut signals).await;
    if args.keep {
        screen.say(&format!("The files are left in {}", place.root().display()));
    }
    end
}

async fn perform(
    args: &DemoArgs,
    place: &Place,
    screen: &mut Screen,
    signals: &mut Signals,
) -> anyhow::Result<End> {
    let mut cast = tokio::select! {
        cast = Cast::start(place, args.rate, args.replicas) => cast?,
        () = signals.next() => return Ok(End::Interrupted),
    };
    screen.introduce(&cast.facts(place));
    let limit = args.seconds.map(Duration::from_secs);
    show(&mut cast, limit, screen, signals).await?;
    // A second signal ends everything at once, as one does while all are still starting.
    tokio::select! {
        end = finish(cast, screen) => end,
        () = signals.next() => Ok(End::Interrupted),
    }
}

/// Shows figures until the time is up, a signal comes, or nobody looks any more.
async fn show(
    cast: &mut Cast,
    limit: Option<Duration>,
    screen: &mut Screen,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut ticks = interval(screen.interval());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = signals.next() => return Ok(()),
        }
        cast.check()?;
        let elapsed = start.elapsed();
        let view = cast.view(elapsed).await;
        screen.draw(&view);
        if limit.is_some_and(|limit| elapsed >= limit) || screen.is_gone() {
            return Ok(());
        }
    }
}

/// Stops the application, waits until all replicas are level, compares, and ends all processes.
async fn finish(mut cast: Cast, screen: &mut Screen) -> anyhow::Result<End> {
    let commits = cast.stop_application().await?;
    screen.say("");
    let commits = stats::thousands(commits.unsigned_abs());
    screen.say(&format!(
        "The application made {commits} commits and has ended. Waiting for the replicas."
    ));
    let start = Instant::now();
    let position = cast.level().await?;
    let took = stats::short_time(start.elapsed());
    screen.say(&format!(
        "All are level after {took}, at {position}. Comparing pages."
    ));
    let (primary, replicas) = cast.files();
    // Elsewhere, so that a signal still counts.
    let differences = tokio::task::spawn_blocking(move || compare_all(&primary, &replicas));
    let (pages, differences) = differences.await.context("compare")??;
    let end = verdict(screen, pages, &differences);
    cast.end().await;
    Ok(end)
}

/// The number of pages, and each replica's name with what differs.
type Compared = (usize, Vec<(String, Option<String>)>);

fn compare_all(primary: &Path, replicas: &[(String, PathBuf)]) -> anyhow::Result<Compared> {
    let primary = Pages::read(primary)?;
    let mut compared = Vec::new();
    for (name, path) in replicas {
        compared.push((name.clone(), primary.difference(&Pages::read(path)?)));
    }
    Ok((primary.count(), compared))
}

fn verdict(screen: &mut Screen, pages: usize, compared: &[(String, Option<String>)]) -> End {
    for (name, difference) in compared {
        match difference {
            None => screen.say(&format!(
                "  {name}: all {} pages equal",
                stats::thousands(pages as u64)
            )),
            Some(difference) => screen.say(&format!("  {name} differs: {difference}")),
        }
    }
    if compared.iter().all(|(_, difference)| difference.is_none()) {
        screen.say("equal");
        End::Equal
    } else {
        screen.say(
            "different: this is a bug in walcast; run it with --keep and report it with the files",
        );
        End::Different
    }
}

/// Ctrl-C, SIGTERM, and the end of the terminal.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> anyhow::Result<Signals> {
        let listen = |kind| signal(kind).context("listen for signals");
        Ok(Signals([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    /// The next signal.
    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
