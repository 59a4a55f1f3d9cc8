//! The verdict of a run, in words and as an exit code.

use crate::series::Series;
use crate::shared::Shared;
use crate::site::HEAL_BOUND;
use crate::verdict::{Allowance, LEAST_SAMPLES, Row, judge, quantile};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What must be flat, and what it may grow by. The databases breathe (rows and blobs come and go at random), and with them
/// all that depends on them.
fn judged(length: Duration) -> Vec<(&'static str, &'static str, &'static str, Allowance)> {
    // A process gives memory back when it rests, and a log is let go when it is old: in a short run once or never in a
    // quarter of it.
    let is_short = length < Duration::from_secs(20 * 60);
    let allow = |factor: f64, more: f64| Allowance {
        factor,
        more: if is_short { 4.0 * more } else { more },
    };
    let (memory, disk) = (allow(1.15, 4.0), allow(1.25, 4.0));
    // A log's file keeps the size it once had: longer waits of readers are met as time goes by.
    let log = allow(1.5, 24.0);
    let count = Allowance {
        factor: 1.0,
        more: 3.0,
    };
    let lag = Allowance {
        factor: 3.0,
        more: 20.0,
    };
    vec![
        (
            "steady.primary.memory_mib",
            "memory of the primary",
            "MiB",
            memory,
        ),
        (
            "steady.replica.memory_mib",
            "memory of the replica",
            "MiB",
            memory,
        ),
        (
            "steady.primary.descriptors",
            "descriptors of the primary",
            "",
            count,
        ),
        (
            "steady.replica.descriptors",
            "descriptors of the replica",
            "",
            count,
        ),
        (
            "steady.primary.threads",
            "threads of the primary",
            "",
            count,
        ),
        (
            "steady.replica.threads",
            "threads of the replica",
            "",
            count,
        ),
        ("steady.primary.database_mib", "the database", "MiB", disk),
        ("steady.primary.wal_mib", "the database's log", "MiB", log),
        (
            "steady.primary.shadow_mib",
            "shadow WAL and all beside",
            "MiB",
            disk,
        ),
        ("steady.replica.database_mib", "the copy", "MiB", disk),
        ("steady.replica.wal_mib", "the copy's log", "MiB", log),
        (
            "steady.replica.walcast_mib",
            "walcast's files of the copy",
            "MiB",
            disk,
        ),
        ("steady.lag_ms", "lag, no fault at work", "ms", lag),
        (
            "storm.primary.shadow_mib",
            "storm: shadow WAL and all beside",
            "MiB",
            disk,
        ),
        ("storm.replica.database_mib", "storm: the copy", "MiB", disk),
        ("storm.replica.wal_mib", "storm: the copy's log", "MiB", log),
        (
            "storm.replica.walcast_mib",
            "storm: walcast's files of the copy",
            "MiB",
            disk,
        ),
        (
            "harness.memory_mib",
            "memory of the harness itself",
            "MiB",
            memory,
        ),
    ]
}

/// The verdict, and whether all is well.
pub fn verdict(shared: &Shared, series: &Series, head: &str) -> (String, bool) {
    let awake = shared.clock.awake().min(shared.length);
    let seconds = series.end();
    let rows: Vec<Row> = judged(shared.length)
        .into_iter()
        .map(|(name, what, unit, allowance)| {
            judge(what, unit, &series.of(name), seconds, allowance)
        })
        .collect();
    let mut text = format!("{head}\n");
    let _to_string = writeln!(
        text,
        "{} awake, {} samples; frozen {} times, {:.0} s in all, which do not count\n",
        hours(awake),
        series.len(),
        shared.clock.freezes(),
        shared.clock.frozen().as_secs_f64()
    );
    if let Some(cores) = cores(awake) {
        let _to_string = writeln!(
            text,
            "processor: {cores:.2} of a core, for all that has ended\n"
        );
    }
    table(&mut text, &rows);
    lags(&mut text, series);
    let healed = faults(&mut text, shared);
    let states = shared.states.load(Ordering::Relaxed);
    let _to_string = writeln!(
        text,
        "\n{states} states that readers saw were checked against {} commits, in {} rests with both sides equal page by page\n{}",
        shared.commits.load(Ordering::Relaxed),
        shared.rests.load(Ordering::Relaxed),
        shared.counted()
    );
    for failure in shared.first_failures() {
        let _to_string = writeln!(text, "WRONG {failure}\n");
    }
    // Lag is measured only while all is calm: in minutes on a busy machine too seldom to prove anything.
    let is_unknown_lag = |row: &Row| row.unit == "ms" && row.samples < LEAST_SAMPLES;
    let flat = rows.iter().all(|row| row.is_flat() || is_unknown_lag(row));
    let ok = flat && healed && states > 0 && shared.failures() == 0;
    let _to_string = writeln!(
        text,
        "{} things were wrong; everything flat: {}\nverdict: {}",
        shared.failures(),
        if flat { "yes" } else { "NO" },
        if ok { "ok" } else { "NOT ok" }
    );
    (text, ok)
}

/// What the harness and all of its processes that were waited for have used.
fn cores(time: Duration) -> Option<f64> {
    let of = |who| {
        let usage = getrusage(who).ok()?;
        let seconds = |t: TimeVal| t.num_microseconds() as f64 / 1e6;
        Some(seconds(usage.user_time()) + seconds(usage.system_time()))
    };
    let all = of(UsageWho::RUSAGE_SELF)? + of(UsageWho::RUSAGE_CHILDREN)?;
    Some(all / time.as_secs_f64())
}

fn hours(time: Duration) -> String {
    let seconds = time.as_secs();
    format!(
        "{}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

fn table(text: &mut String, rows: &[Row]) {
    let _to_string = writeln!(
        text,
        "{:<36} {:>10} {:>10} {:>10} {:>12}",
        "median of", "2nd quarter", "last", "allowed", "line, /h"
    );
    for row in rows {
        let _to_string = writeln!(
            text,
            "{:<36} {:>10.2} {:>10.2} {:>10.2} {:>+12.3}  {:<4} {}",
            row.what,
            row.early,
            row.late,
            row.allowed,
            row.slope,
            row.unit,
            row.word()
        );
    }
}

fn lags(text: &mut String, series: &Series) {
    text.push('\n');
    for site in ["steady", "storm"] {
        let lags: Vec<f64> = series
            .of(&format!("{site}.lag_ms"))
            .into_iter()
            .map(|(_, ms)| ms)
            .filter(|ms| ms.is_finite())
            .collect();
        let count = lags.len();
        let [p50, p99, most] = [0.5, 0.99, 1.0].map(|part| quantile(lags.clone(), part));
        let _to_string = writeln!(
            text,
            "lag, {site}, no fault at work: p50 {p50:.2} ms, p99 {p99:.2} ms, most {most:.2} ms, of {count}"
        );
    }
}

/// False if one took longer than it may.
fn faults(text: &mut String, shared: &Shared) -> bool {
    let mut all_in_time = true;
    let _to_string = writeln!(
        text,
        "\n{:<56} {:>6} {:>10} {:>10}",
        "fault", "times", "healed, s", "at most"
    );
    let mut total = 0;
    for (kind, times) in shared.heals() {
        let seconds: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
        let (count, median, most) = (
            seconds.len(),
            quantile(seconds.clone(), 0.5),
            quantile(seconds, 1.0),
        );
        total += count;
        let ok = if most <= HEAL_BOUND.as_secs_f64() {
            ""
        } else {
            "  NOT ok"
        };
        all_in_time &= ok.is_empty();
        let _to_string = writeln!(
            text,
            "{kind:<56} {count:>6} {median:>10.2} {most:>10.2}{ok}"
        );
    }
    let _to_string = writeln!(text, "{:<56} {total:>6}", "all");
    all_in_time && total > 0
}
