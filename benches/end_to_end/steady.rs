//! A replica that was away, and processes with nothing to do.

use crate::clock::now_ns;
use crate::cluster::{Cluster, NAME};
use crate::context::Context;
use crate::helper::Helper;
use crate::observe::{cpu_seconds, memory_mib};
use crate::report::Target;
use crate::table::create;
use anyhow::bail;
use std::ffi::OsString;
use std::time::Duration;

/// Commits per second while the replica is away.
const RATE: &str = "100";

/// A replica is away for a minute; how long it takes, once started, until it is level.
pub fn catchup(context: &mut Context) -> anyhow::Result<()> {
    let away = Duration::from_secs(context.pick(10, 60));
    // A minute each: once is enough.
    for _ in 0..context.runs.min(context.pick(1, 2)) {
        let root = context.directory()?;
        let db = root.path().join(NAME);
        drop(create(&db)?);
        let mut cluster = Cluster::start(root.path(), &db, 1)?;
        let args: [OsString; 4] = [
            "--db".into(),
            db.clone().into(),
            "--rate".into(),
            RATE.into(),
        ];
        let writer = Helper::start("load", args)?;
        cluster.stop_replica(0)?;
        std::thread::sleep(away);
        let begin = now_ns();
        cluster.add_replica("replica-0")?;
        cluster.wait_level(0)?;
        let took = (now_ns() - begin) as f64 / 1e9;
        let commits = writer.finish()?.get("commits")?;
        cluster.verify()?;
        let snapshots = cluster.status(&cluster.replicas[0])?.snapshots;
        if snapshots != 0 {
            bail!("the replica took a snapshot, though the primary has the log");
        }
        let report = &mut context.report;
        report.add(
            "catchup",
            "start of the replica to level",
            "s",
            Target::AtMost(1.0),
            took,
        );
        report.add(
            "catchup",
            "commits that it missed",
            "",
            Target::Report,
            commits,
        );
    }
    Ok(())
}

/// CPU time and memory when nobody commits.
pub fn idle(context: &mut Context) -> anyhow::Result<()> {
    let seconds = context.pick(10, 60);
    let root = context.directory()?;
    let db = root.path().join(NAME);
    drop(create(&db)?);
    let cluster = Cluster::start(root.path(), &db, 1)?;
    // It worked before, as it would have.
    let args: [OsString; 4] = ["--db".into(), db.into(), "--seconds".into(), "1".into()];
    Helper::start("load", args)?.wait()?;
    cluster.verify()?;
    std::thread::sleep(Duration::from_secs(2));
    let processes = [
        ("primary", &cluster.primary),
        ("replica", &cluster.replicas[0]),
    ];
    let before = processes.map(|(_, server)| cpu_seconds(server.process.id()));
    std::thread::sleep(Duration::from_secs(seconds));
    for ((name, server), before) in processes.into_iter().zip(before) {
        let pid = server.process.id();
        let cpu = (cpu_seconds(pid)? - before?) * 60.0 / seconds as f64;
        let memory = memory_mib(pid, "VmRSS")?;
        context.report.add(
            "idle",
            &format!("CPU, {name}"),
            "s/min",
            Target::AtMost(0.5),
            cpu,
        );
        context.report.add(
            "idle",
            &format!("memory, {name}"),
            "MiB",
            Target::AtMost(20.0),
            memory,
        );
    }
    Ok(())
}
