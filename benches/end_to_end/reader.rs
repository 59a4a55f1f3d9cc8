//! What a query costs on a replica, and on a plain database with the same content.

use crate::cluster::{Cluster, NAME};
use crate::context::Context;
use crate::helper::{Helper, Measured};
use crate::report::Target;
use crate::table::create;
use anyhow::bail;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// A query that costs up to a tenth more costs the same: two plain copies differ as much.
const SAME: f64 = 1.1;

pub fn run(context: &mut Context) -> anyhow::Result<()> {
    let root = context.directory()?;
    let db = root.path().join(NAME);
    drop(create(&db)?);
    let cluster = Cluster::start(root.path(), &db, 1)?;
    let rows = context.pick("1", "5");
    let args: [OsString; 4] = [
        "--db".into(),
        db.clone().into(),
        "--seconds".into(),
        rows.into(),
    ];
    Helper::start("load", args)?.wait()?;
    cluster.verify()?;
    let copy = root.path().join("copy.db");
    plain_copy(&db, &copy)?;
    let replica = &cluster.replicas[0].path;
    let rounds = context.runs * 5;

    // Nothing happens: the replica and a copy that never changes.
    for _ in 0..rounds {
        pair(context, "idle", (replica, &copy))?;
    }
    // While the application commits a reader's cache is emptied again and again, beside the application as on a replica.
    let args: [OsString; 4] = [
        "--db".into(),
        db.clone().into(),
        "--rate".into(),
        "1000".into(),
    ];
    let writer = Helper::start("load", args)?;
    for _ in 0..rounds {
        pair(context, "at 1,000 commits/s", (replica, &db))?;
    }
    writer.finish()?;
    cluster.verify()
}

/// In turns, so that what else happens on the machine meets both.
fn pair(context: &mut Context, when: &str, (replica, plain): (&Path, &Path)) -> anyhow::Result<()> {
    let (on_replica, on_plain) = (query(replica)?, query(plain)?);
    for (figure, name, unit) in [("lookup", "lookup_us", "us"), ("scan", "scan_ms", "ms")] {
        let (a, b) = (on_replica.get(name)?, on_plain.get(name)?);
        let report = &mut context.report;
        report.add(
            "reader",
            &format!("{figure} {when}, replica / plain"),
            "",
            Target::AtMost(SAME),
            a / b,
        );
        report.add(
            "reader",
            &format!("{figure} {when}, replica"),
            unit,
            Target::Report,
            a,
        );
        report.add(
            "reader",
            &format!("beside: {figure} {when}, plain"),
            unit,
            Target::Report,
            b,
        );
    }
    Ok(())
}

fn query(db: &Path) -> anyhow::Result<Measured> {
    Helper::start("query", [OsString::from("--db"), db.into()])?.wait()
}

/// A copy of a database at rest, through SQLite.
fn plain_copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let connection = rusqlite::Connection::open(from)?;
    let (log, done): (i64, i64) =
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
            Ok((row.get(1)?, row.get(2)?))
        })?;
    if log != done {
        bail!("{done} of {log} frames are in the file");
    }
    drop(connection);
    // By another process: a descriptor that is closed in this one would drop locks.
    let status = Command::new("cp").arg(from).arg(to).status()?;
    if !status.success() {
        bail!("cp failed ({status})");
    }
    Ok(())
}
