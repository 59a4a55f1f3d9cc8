//! Applications that commit as fast as they can, or at a high rate, with walcast and without.

use crate::clock::now_ns;
use crate::cluster::{Cluster, NAME};
use crate::context::Context;
use crate::helper::{Helper, Measured};
use crate::lag::observe;
use crate::load;
use crate::observe::{LargestSizes, file_mib, memory_mib, wal_of};
use crate::report::Target;
use crate::table::create;
use anyhow::bail;
use std::ffi::OsString;
use std::path::Path;

fn run_load(db: &Path, options: &[(&str, u64)]) -> anyhow::Result<Measured> {
    let mut args: Vec<OsString> = vec!["--db".into(), db.into()];
    for (name, value) in options {
        args.push(format!("--{name}").into());
        args.push(value.to_string().into());
    }
    Helper::start("load", args)?.wait()
}

/// An application held at 20,000 one-row commits/s.
pub fn rate20k(context: &mut Context) -> anyhow::Result<()> {
    const RATE: u64 = 20_000;
    let seconds = context.pick(5, 15);
    for _ in 0..context.runs {
        let root = context.directory()?;
        let db = root.path().join("alone.db");
        drop(create(&db)?);
        let alone = observe(
            root.path(),
            &db,
            (RATE, seconds),
            std::slice::from_ref(&db),
            || Ok(()),
        )?;

        let db = root.path().join(NAME);
        drop(create(&db)?);
        let cluster = Cluster::start(root.path(), &db, 1)?;
        let files = [cluster.replicas[0].path.clone()];
        let with = observe(root.path(), &db, (RATE, seconds), &files, || {
            cluster.wait_level(0).map(drop)
        })?;
        cluster.verify()?;
        let (rate_with, rate_alone) = (with.load.get("rate")?, alone.load.get("rate")?);
        let report = &mut context.report;
        let name = "rate20k";
        report.add(
            name,
            "rate with walcast / without",
            "",
            Target::AtLeast(0.95),
            rate_with / rate_alone,
        );
        report.add(
            name,
            "commits with walcast",
            "1/s",
            Target::Report,
            rate_with,
        );
        report.add(
            name,
            "beside: commits without",
            "1/s",
            Target::Report,
            rate_alone,
        );
        report.add(
            name,
            "commit to visible, p50",
            "ms",
            Target::Report,
            with.readers[0].at(0.5),
        );
        report.add(
            name,
            "commit to visible, p99",
            "ms",
            Target::AtMost(100.0),
            with.readers[0].at(0.99),
        );
        report.add(
            name,
            "a commit takes, p99",
            "ms",
            Target::Report,
            with.load.get("p99_ms")?,
        );
        report.add(
            name,
            "beside: a commit takes without, p99",
            "ms",
            Target::Report,
            alone.load.get("p99_ms")?,
        );
    }
    Ok(())
}

/// One-row commits without a brake.
pub fn flood(context: &mut Context) -> anyhow::Result<()> {
    let seconds = context.pick(5, 20);
    for _ in 0..context.runs {
        let root = context.directory()?;
        let db = root.path().join("alone.db");
        drop(create(&db)?);
        let alone = run_load(&db, &[("seconds", seconds)])?.get("rate")?;

        let db = root.path().join(NAME);
        drop(create(&db)?);
        let cluster = Cluster::start(root.path(), &db, 1)?;
        let replica = &cluster.replicas[0];
        let sizes = LargestSizes::watch(vec![wal_of(&db), wal_of(&replica.path)]);
        let with = run_load(&db, &[("seconds", seconds)])?;
        cluster.wait_level(0)?;
        let level = (now_ns() as f64 - with.get("end_ns")?) / 1e9;
        let sizes = sizes.finish();
        let memory = |pid| memory_mib(pid, "VmHWM");
        let (primary, replica) = (
            memory(cluster.primary.process.id())?,
            memory(replica.process.id())?,
        );
        cluster.verify()?;
        let report = &mut context.report;
        let (name, rate) = ("flood", with.get("rate")?);
        report.add(
            name,
            "commits with walcast",
            "1/s",
            Target::AtLeast(30_000.0),
            rate,
        );
        report.add(
            name,
            "beside: commits without",
            "1/s",
            Target::Report,
            alone,
        );
        report.add(
            name,
            "rate with walcast / without",
            "",
            Target::Report,
            rate / alone,
        );
        report.add(name, "level after the end", "s", Target::AtMost(1.0), level);
        report.add(
            name,
            "largest log, primary",
            "MiB",
            Target::Report,
            sizes[0],
        );
        report.add(
            name,
            "largest log, replica",
            "MiB",
            Target::Report,
            sizes[1],
        );
        report.add(name, "most memory, primary", "MiB", Target::Report, primary);
        report.add(name, "most memory, replica", "MiB", Target::Report, replica);
    }
    Ok(())
}

/// Rows in a transaction, and bytes in a row: about ten frames each.
const ROWS: u64 = 100;
const BODY: u64 = 300;
/// Old rows are written over from here on, so that the file does not outgrow the disk: 60 MB.
const RING: u64 = 200_000;

/// Transactions of 100 rows without a brake, and the same log applied with no application beside it.
pub fn rows100(context: &mut Context) -> anyhow::Result<()> {
    let seconds = context.pick(5, 15);
    let options = [
        ("rows", ROWS),
        ("body", BODY),
        ("ring", RING),
        ("seconds", seconds),
    ];
    for _ in 0..context.runs {
        let root = context.directory()?;
        let frames = bytes_of_a_transaction(root.path())?;
        let db = root.path().join("alone.db");
        drop(create(&db)?);
        let alone = run_load(&db, &options)?.get("rate")?;

        let db = root.path().join(NAME);
        drop(create(&db)?);
        let mut cluster = Cluster::start(root.path(), &db, 1)?;
        let begin = now_ns();
        let with = run_load(&db, &options)?;
        cluster.wait_level(0)?;
        let live = with.get("commits")? * frames / ((now_ns() - begin) as f64 / 1e9);

        // The replica is away while the log grows, and then takes it all at once.
        cluster.stop_replica(0)?;
        let backlog = [
            ("rows", ROWS),
            ("body", BODY),
            ("ring", RING),
            ("seconds", seconds / 2),
        ];
        let away = run_load(&db, &backlog)?.get("commits")? * frames;
        let begin = now_ns();
        cluster.add_replica("replica-0")?;
        cluster.wait_level(0)?;
        let drained = away / ((now_ns() - begin) as f64 / 1e9);
        let snapshots = cluster.status(&cluster.replicas[0])?.snapshots;
        cluster.verify()?;
        let report = &mut context.report;
        let name = "rows100";
        report.add(
            name,
            "frames applied, first commit to level",
            "MB/s",
            Target::AtLeast(200.0),
            live / 1e6,
        );
        report.add(
            name,
            "transactions with walcast",
            "1/s",
            Target::Report,
            with.get("rate")?,
        );
        report.add(
            name,
            "beside: transactions without",
            "1/s",
            Target::Report,
            alone,
        );
        report.add(
            name,
            "beside: frames written without",
            "MB/s",
            Target::Report,
            alone * frames / 1e6,
        );
        if snapshots == 0 {
            report.add(
                name,
                "frames of a backlog applied",
                "MB/s",
                Target::Report,
                drained / 1e6,
            );
        } else {
            // A backlog beyond what the primary keeps comes as a snapshot, which is no figure for this row.
            report.add(
                name,
                "backlogs that came as a snapshot",
                "",
                Target::Report,
                1.0,
            );
        }
    }
    Ok(())
}

/// Bytes of frames that one transaction of this kind adds to a log that is never checkpointed.
fn bytes_of_a_transaction(root: &Path) -> anyhow::Result<f64> {
    const TRANSACTIONS: u64 = 3_000;
    let db = root.join("calibration.db");
    let connection = create(&db)?;
    connection.execute_batch("PRAGMA wal_autocheckpoint=0")?;
    let text = load::body(1, BODY as usize);
    for turn in 0..TRANSACTIONS {
        // The second half writes over the rows of the first, as the ring does.
        let first = turn % (TRANSACTIONS / 2) * ROWS;
        connection.execute_batch("BEGIN")?;
        for row in first..first + ROWS {
            connection
                .prepare_cached("INSERT OR REPLACE INTO t VALUES (?1, ?2, ?3)")?
                .execute((row.cast_signed(), turn.cast_signed(), &text))?;
        }
        connection.execute_batch("COMMIT")?;
    }
    let size = file_mib(&wal_of(&db)) * f64::from(1 << 20);
    if size == 0.0 {
        bail!("the log of the calibration is gone");
    }
    drop(connection);
    std::fs::remove_file(&db)?;
    Ok(size / TRANSACTIONS as f64)
}
