//! What an archive costs the application: the same load alone, beside a primary, and beside one that archives as well.

use crate::cluster::{Cluster, NAME};
use crate::context::Context;
use crate::lag::observe;
use crate::observe::cpu_seconds;
use crate::report::Target;
use crate::table::create;
use std::ffi::OsString;

/// Commits/s. One database, one replica, an archive in a directory of the same disk, each with its default intervals.
const RATES: [u64; 2] = [1_000, 20_000];

/// A load at a rate, three times.
pub fn run(context: &mut Context) -> anyhow::Result<()> {
    let seconds = context.pick(5, 20);
    for _ in 0..context.runs {
        for (rate, name) in RATES.into_iter().zip(["archive1000", "archive20k"]) {
            let mut rates = Vec::new();
            for kind in ["alone", "with walcast", "with walcast and an archive"] {
                let root = context.directory()?;
                let db = root.path().join(NAME);
                drop(create(&db)?);
                let archive = [
                    OsString::from("--archive"),
                    root.path().join("archive").into(),
                ];
                let cluster = match kind {
                    "alone" => None,
                    "with walcast" => Some(Cluster::start(root.path(), &db, 1)?),
                    _ => Some(Cluster::start_with(root.path(), &db, 1, &archive)?),
                };
                let cpu = || {
                    let primary = cluster.as_ref().map(|c| c.primary.process.id());
                    primary.map_or(Ok(0.0), cpu_seconds)
                };
                let before = cpu()?;
                let seen = cluster.as_ref().map_or(&db, |c| &c.replicas[0].path);
                let run = observe(
                    root.path(),
                    &db,
                    (rate, seconds),
                    std::slice::from_ref(seen),
                    || {
                        cluster
                            .as_ref()
                            .map_or(Ok(()), |c| c.wait_level(0).map(drop))
                    },
                )?;
                let cpu = cpu()? - before;
                if let Some(cluster) = &cluster {
                    cluster.verify()?;
                }
                rates.push(run.load.get("rate")?);
                let report = &mut context.report;
                let mut add = |figure: &str, unit, value| {
                    report.add(
                        name,
                        &format!("{kind}: {figure}"),
                        unit,
                        Target::Report,
                        value,
                    );
                };
                add("commits", "1/s", run.load.get("rate")?);
                add("a commit takes, p50", "ms", run.load.get("p50_ms")?);
                add("a commit takes, p99", "ms", run.load.get("p99_ms")?);
                if cluster.is_some() {
                    add("commit to visible, p50", "ms", run.readers[0].at(0.5));
                    add("commit to visible, p99", "ms", run.readers[0].at(0.99));
                    let of_a_core = cpu / seconds as f64 * 100.0;
                    add("CPU, primary", "% of a core", of_a_core);
                }
            }
            let [_, without, with] = rates.as_slice() else {
                anyhow::bail!("three loads were run")
            };
            context.report.add(
                name,
                "rate with an archive / without one",
                "",
                Target::AtLeast(0.98),
                with / without,
            );
        }
    }
    Ok(())
}
