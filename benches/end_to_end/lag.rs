//! From the commit's return in the application to the first look of a reader in another process that sees it.

use crate::cluster::{Cluster, NAME};
use crate::context::Context;
use crate::echo;
use crate::helper::{Helper, Measured, read_times};
use crate::lags::Seen;
use crate::observe::cpu_seconds;
use crate::report::Target;
use crate::table::create;
use anyhow::bail;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use walcast::demo::stats::percentile;

/// A load with readers of some files.
pub struct Run {
    pub load: Measured,
    pub readers: Vec<Seen>,
}

/// Runs a load on `db` for some seconds while readers look at `files`. `level` is called between the end of the load and
/// the end of the readers.
pub fn observe(
    root: &Path,
    db: &Path,
    (rate, seconds): (u64, u64),
    files: &[PathBuf],
    level: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Run> {
    let times_of = |i: usize| root.join(format!("seen-{i}"));
    let mut probers = Vec::new();
    for (i, file) in files.iter().enumerate() {
        let args: [OsString; 4] = [
            "--db".into(),
            file.into(),
            "--times".into(),
            times_of(i).into(),
        ];
        probers.push(Helper::start("prober", args)?);
    }
    let committed = root.join("committed");
    let numbers = [rate, seconds].map(|n| OsString::from(n.to_string()));
    let [rate, seconds] = numbers;
    let args: [OsString; 8] = [
        "--db".into(),
        db.into(),
        "--rate".into(),
        rate,
        "--seconds".into(),
        seconds,
        "--times".into(),
        committed.clone().into(),
    ];
    let load = Helper::start("load", args)?.wait()?;
    level()?;
    for prober in probers {
        prober.finish()?;
    }
    let committed = read_times(&committed)?;
    let mut readers = Vec::new();
    for i in 0..files.len() {
        readers.push(Seen::new(&committed, &read_times(&times_of(i))?)?);
    }
    Ok(Run { load, readers })
}

/// One replica at a gentle rate.
pub fn at_rate(context: &mut Context, name: &'static str, rate: u64) -> anyhow::Result<()> {
    let seconds = context.pick(5, 20);
    for _ in 0..context.runs {
        let root = context.directory()?;
        let db = root.path().join(NAME);
        drop(create(&db)?);
        let cluster = Cluster::start(root.path(), &db, 1)?;
        let files = [cluster.replicas[0].path.clone(), db.clone()];
        let level = || cluster.wait_level(0).map(drop);
        let run = observe(root.path(), &db, (rate, seconds), &files, level)?;
        cluster.verify()?;
        let [replica, primary] = run.readers.as_slice() else {
            bail!("two readers were started")
        };
        let echo = echo::round_trips(rate, seconds.min(5))?;
        let echo_ms = |p| percentile(&echo, p).unwrap_or(0) as f64 / 1e6;
        let report = &mut context.report;
        report.add(
            name,
            "commit to visible, p50",
            "ms",
            Target::AtMost(0.3),
            replica.at(0.50),
        );
        report.add(
            name,
            "commit to visible, p99",
            "ms",
            Target::AtMost(1.0),
            replica.at(0.99),
        );
        report.add(
            name,
            "commit to visible, slowest",
            "ms",
            Target::Report,
            replica.at(1.0),
        );
        report.add(
            name,
            "beside: on the application's own file, p50",
            "ms",
            Target::Report,
            primary.at(0.50),
        );
        report.add(
            name,
            "beside: on the application's own file, p99",
            "ms",
            Target::Report,
            primary.at(0.99),
        );
        report.add(
            name,
            "beside: the same bytes by TCP and back, p50",
            "ms",
            Target::Report,
            echo_ms(0.50),
        );
        report.add(
            name,
            "beside: the same bytes by TCP and back, p99",
            "ms",
            Target::Report,
            echo_ms(0.99),
        );
    }
    Ok(())
}

/// Many replicas: the last that was started is looked at.
pub fn replicas16(context: &mut Context) -> anyhow::Result<()> {
    let seconds = context.pick(5, 20);
    for _ in 0..context.runs {
        for replicas in [1, 16] {
            let root = context.directory()?;
            let db = root.path().join(NAME);
            drop(create(&db)?);
            let cluster = Cluster::start(root.path(), &db, replicas)?;
            let last = replicas - 1;
            let files = [cluster.replicas[last].path.clone()];
            let primary = cluster.primary.process.id();
            let before = cpu_seconds(primary)?;
            let level =
                || (0..replicas).try_for_each(|number| cluster.wait_level(number).map(drop));
            let run = observe(root.path(), &db, (1000, seconds), &files, level)?;
            let cpu = cpu_seconds(primary)? - before;
            cluster.verify()?;
            let report = &mut context.report;
            let ms_per_1000 = cpu * 1e6 / run.load.get("commits")?;
            if replicas == 1 {
                let figure = "beside: primary's CPU, one replica";
                report.add(
                    "replicas16",
                    figure,
                    "ms/1000 commits",
                    Target::Report,
                    ms_per_1000,
                );
                continue;
            }
            report.add(
                "replicas16",
                "commit to visible, p50",
                "ms",
                Target::AtMost(1.5),
                run.readers[0].at(0.5),
            );
            report.add(
                "replicas16",
                "commit to visible, p99",
                "ms",
                Target::Report,
                run.readers[0].at(0.99),
            );
            report.add(
                "replicas16",
                "primary's CPU, 16 replicas",
                "ms/1000 commits",
                Target::Report,
                ms_per_1000,
            );
        }
    }
    Ok(())
}
