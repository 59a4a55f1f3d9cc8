//! A database to a fresh replica, beside `cp` and fsync of the same file, while an application goes on writing.

use crate::clock::now_ns;
use crate::cluster::{Cluster, NAME};
use crate::context::Context;
use crate::helper::Helper;
use crate::load;
use crate::observe::memory_mib;
use crate::report::Target;
use crate::table::{SqliteTable, create};
use anyhow::bail;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// Commits per second of the application meanwhile.
const RATE: &str = "100";

pub fn run(context: &mut Context) -> anyhow::Result<()> {
    let mib = context.pick(256, 1024);
    let root = context.directory()?;
    let db = root.path().join(NAME);
    fill(&db, mib)?;
    let mut cluster = Cluster::start(root.path(), &db, 0)?;
    // The primary reads the whole file once when it starts.
    cluster.tip()?;
    for run in 0..context.runs {
        let size = std::fs::metadata(&db)?.len() as f64 / 1e6;
        let copied = size / copy(&db, &root.path().join("copy.db"))?;

        let args: [OsString; 4] = [
            "--db".into(),
            db.clone().into(),
            "--rate".into(),
            RATE.into(),
        ];
        let writer = Helper::start("load", args)?;
        let begin = now_ns();
        let number = cluster.add_replica(&format!("replica-{run}"))?;
        cluster.wait_level(number)?;
        let taken = size / ((now_ns() - begin) as f64 / 1e9);
        let writer = writer.finish()?;
        let replica = memory_mib(cluster.replicas[number].process.id(), "VmHWM")?;
        let primary = memory_mib(cluster.primary.process.id(), "VmHWM")?;
        cluster.verify()?;
        cluster.stop_replica(number)?;
        std::fs::remove_dir_all(root.path().join(format!("replica-{run}")))?;

        let report = &mut context.report;
        let name = "snapshot";
        report.add(
            name,
            "speed / that of cp and fsync",
            "",
            Target::AtLeast(0.5),
            taken / copied,
        );
        report.add(
            name,
            "start of the replica to level",
            "MB/s",
            Target::Report,
            taken,
        );
        report.add(name, "beside: cp and fsync", "MB/s", Target::Report, copied);
        report.add(name, "size of the file", "MB", Target::Report, size);
        report.add(
            name,
            "most memory, primary",
            "MiB",
            Target::AtMost(64.0),
            primary,
        );
        report.add(
            name,
            "most memory, replica",
            "MiB",
            Target::AtMost(64.0),
            replica,
        );
        report.add(
            name,
            "slowest commit meanwhile",
            "ms",
            Target::AtMost(20.0),
            writer.get("max_ms")?,
        );
    }
    Ok(())
}

/// Makes a database of about this size, all of it in the file.
fn fill(db: &Path, mib: u64) -> anyhow::Result<()> {
    let connection = create(db)?;
    load::fill(&mut SqliteTable::application(db)?, mib)?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(())
}

/// Seconds of `cp` and fsync. In other processes: a descriptor of the database that is closed in this one would drop the
/// locks of its connections.
fn copy(from: &Path, to: &Path) -> anyhow::Result<f64> {
    let begin = now_ns();
    let done = |command: &mut Command| -> anyhow::Result<()> {
        let status = command.status()?;
        if !status.success() {
            bail!("{command:?} failed ({status})");
        }
        Ok(())
    };
    done(Command::new("cp").arg("--reflink=never").arg(from).arg(to))?;
    done(Command::new("sync").arg(to))?;
    let seconds = (now_ns() - begin) as f64 / 1e9;
    std::fs::remove_file(to)?;
    Ok(seconds)
}
