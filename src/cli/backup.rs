//! `walcast backup`.

mod write;

use super::client::upstream;
use super::exit::{Exit, Failure};
use super::place::{Place, WriteArgs};
use super::process::{interruptible, run_client};
use super::progress::Progress;
use super::scratch::Scratch;
use super::security::ClientSecurityArgs;
use super::taking::{Source, take_failed};
use crate::client::{ClientError, Upstream};
use crate::model::{CopyMessage, CopyRequest, Point};
use crate::replica::{LocalCopy, LocalCopyError, Take};
use clap::Args;
use std::path::{Path, PathBuf};
use write::Writer;

/// Write a copy of a database at one position to a file
///
/// With --server from a running primary or replica, which go on meanwhile; without it, --db is the path of a replica's
/// file. The result is an ordinary, writable database, proven by the checksum of its position, which is printed. A copy of a
/// replica by SQLite's own means (`.backup`, cp) keeps the mark that makes it read-only.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  walcast backup --server http://127.0.0.1:4040 --db app.db --to /backup/app.db
  walcast backup --db /replica/app.db --to /backup/app.db")]
pub struct BackupArgs {
    /// The database's name on the server; without --server: the path of a replica's file
    #[arg(long, value_name = "NAME|PATH")]
    db: String,
    /// The running primary or replica, such as http://127.0.0.1:4040
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The file to write; it must not exist
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    write: WriteArgs,
    #[command(flatten)]
    security: ClientSecurityArgs,
}

/// Until it has its name nobody else may look.
const PRIVATE: u32 = 0o600;

pub(super) fn run(args: BackupArgs) -> Result<Exit, Failure> {
    let place = Place::check(&args.to, args.write.force)?;
    let point = run_client(interruptible(async {
        // Made after signals are listened for, so that none finds it unattended.
        let scratch = Scratch::new(place.parent(), "walcast-backup")?;
        let (point, written) = match &args.server {
            Some(server) => from_server(&args, server, &scratch).await?,
            None => from_file(&args, &scratch).await?,
        };
        place.install(&written, args.write.mode)?;
        Ok(point)
    }))?;
    println!("{}", point.position);
    Ok(Exit::Done)
}

async fn from_server(
    args: &BackupArgs,
    server: &str,
    scratch: &Scratch,
) -> Result<(Point, PathBuf), Failure> {
    let upstream = upstream(server, &args.security)?;
    match Source::open(&upstream, &args.db).await? {
        Ok(mut source) => {
            let mut take = Take::file(scratch.path(), PRIVATE);
            source
                .snapshot(&mut take, "backup", args.write.quiet)
                .await?;
            let taken = take.finish().map_err(take_failed)?;
            taken.ok_or_else(|| Failure::new(Exit::Failed, "no snapshot came to its end"))
        }
        Err(error) if error.reason().as_deref() == Some("NOT_A_PRIMARY") => {
            from_replica(args, &upstream, scratch).await
        }
        Err(error) => Err(error.into()),
    }
}

async fn from_replica(
    args: &BackupArgs,
    upstream: &Upstream,
    scratch: &Scratch,
) -> Result<(Point, PathBuf), Failure> {
    let request = CopyRequest {
        database: args.db.clone(),
        hashes_only: false,
        lz4: true,
    };
    let mut copy = upstream.read_copy(request).await?;
    let protocol = |what: &str| {
        let message = format!("{}: the server broke the protocol: {what}", upstream.url());
        Failure::new(Exit::Failed, message)
    };
    let next = async |copy: &mut crate::client::CopyStream| -> Result<_, ClientError> {
        copy.next().await.transpose()
    };
    let Some(CopyMessage::Begin(begin)) = next(&mut copy).await? else {
        return Err(protocol("a copy without a beginning"));
    };
    let mut progress = Progress::new("backup", args.write.quiet);
    progress.of(u64::from(begin.page_count) * u64::from(begin.page_size));
    let mut writer = Writer::create(scratch.path(), begin.page_size)?;
    while let Some(message) = next(&mut copy).await? {
        let CopyMessage::Pages(pages) = message else {
            return Err(protocol("hashes came where pages were asked for"));
        };
        progress.add(u64::from(pages.size));
        writer.pages(&pages)?;
    }
    let point = Point {
        position: begin.position,
        dbsum: begin.dbsum,
        page_count: begin.page_count,
        page_size: begin.page_size,
        frame_cksum: None,
        time_us: 0,
    };
    Ok((point, writer.finish(&point)?))
}

async fn from_file(args: &BackupArgs, scratch: &Scratch) -> Result<(Point, PathBuf), Failure> {
    let path = Path::new(&args.db);
    let mut copy = LocalCopy::open(path).map_err(|error| match error {
        LocalCopyError::NotReplica { .. } => {
            let message = format!(
                "{error}; copy an ordinary database with: sqlite3 '{}' '.backup {}'; or name a server with --server",
                path.display(),
                args.to.display()
            );
            Failure::new(Exit::Refused, message)
        }
        error => Failure::new(Exit::Failed, error.to_string()),
    })?;
    let (size, pages) = (copy.page_size(), copy.pages());
    let mut progress = Progress::new("backup", args.write.quiet);
    progress.of(u64::from(pages) * u64::from(size));
    let mut writer = Writer::create(scratch.path(), size)?;
    let mut next = 1;
    while next <= pages {
        let count = ((1 << 20) / size).min(pages - next + 1);
        let mut bytes = vec![0; (count * size) as usize];
        let read = copy.read(next, &mut bytes);
        read.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        writer.bytes(next, &bytes)?;
        progress.add(bytes.len() as u64);
        next += count;
        // A signal is seen here.
        tokio::task::yield_now().await;
    }
    let mut page1 = writer.page1()?;
    let Some(point) = copy.prove(writer.sum_without_page1(), &mut page1) else {
        let message = format!(
            "{} is at none of its recorded positions: it is damaged, or commits came too fast; try again, or take it from \
             its server with --server URL --db NAME",
            path.display()
        );
        return Err(Failure::new(Exit::Failed, message));
    };
    writer.set_page1(&page1)?;
    Ok((point, writer.finish(&point)?))
}
