//! Two servers.
//!
//! The primary's stream gives a snapshot at a position, and every commit after it; of all of it the hash of each page is
//! kept. Then the replica holds its copy and says at which position: the stream is followed to exactly there. Nothing is
//! asked of either that a replica, or a reader, would not ask.

use super::super::client::upstream;
use super::super::exit::{Exit, Failure};
use super::super::process::{interruptible, run_client};
use super::super::progress::Progress;
use super::super::scratch::Scratch;
use super::super::taking::{Source, take_failed};
use super::VerifyArgs;
use super::report::Report;
use crate::client::{Admin, CopyStream, Upstream};
use crate::config::TokenSource;
use crate::format::position::Position;
use crate::model::{CopyBegin, CopyMessage, CopyRequest};
use crate::replica::Take;
use std::time::{Duration, Instant};

/// How often the replica's copy is asked for anew when the stream has passed it.
const TRIES: usize = 5;
/// How often a replica that is in another generation is asked again.
const LOOK: Duration = Duration::from_millis(100);
/// The server's word for that.
const OTHER: &str = "GENERATION_DIFFERS";
/// What to do about a replica that differs.
const DAMAGED: &str = "the replica's pages are not what it applied: damage, or a write past SQLite; restart its walcast, which \
                       reads the whole copy and heals it by a snapshot";
const DIVERGED: &str = "the replica holds what it applied, and that is not what the primary has: please report this; remove the \
                        copy and its -walcast directory while its walcast is stopped, and it begins anew";

pub(super) fn compare(args: &VerifyArgs) -> Result<Report, Failure> {
    let name = args
        .db
        .as_deref()
        .ok_or_else(|| Failure::new(Exit::Usage, "which database? give its name with --db NAME"))?;
    let replica_name = args.replica_db.as_deref().unwrap_or(name);
    let scratch = Scratch::new(&std::env::temp_dir(), "walcast-verify")?;
    run_client(interruptible(async {
        let mut take = Take::hashes(scratch.path());
        let primary = upstream(&args.primary, &args.security)?;
        let replica = replica(args)?;
        let mut source = Source::open(&primary, name).await??;
        let at = source.snapshot(&mut take, "primary", args.quiet).await?;
        wait(args, &replica.admin(), replica_name, at.position).await?;
        for _ in 0..TRIES {
            let (begin, copy) = open_copy(args, &replica, replica_name).await?;
            if follow(&mut source, &mut take, begin.position).await? {
                drop(source);
                return hashes(args, &take, begin, copy).await;
            }
        }
        let message = "the primary's stream had passed the replica's position each time; try again";
        Err(Failure::new(Exit::Failed, message))
    }))
}

/// The replica must be at or past what the stream has given, since the stream cannot go back.
async fn wait(
    args: &VerifyArgs,
    admin: &Admin,
    name: &str,
    position: Position,
) -> Result<(), Failure> {
    let end = Instant::now() + args.max_wait;
    let waited = loop {
        let left = end.saturating_duration_since(Instant::now());
        match admin.wait(name, position, left).await {
            // A generation has just begun, and the replica is on its way into it.
            Err(error) if error.reason().as_deref() == Some(OTHER) && !left.is_zero() => {
                tokio::time::sleep(LOOK.min(left)).await;
            }
            other => break other?,
        }
    };
    if waited.reached {
        return Ok(());
    }
    let at = waited
        .position
        .map_or("has nothing".to_owned(), |p| format!("is at {p}"));
    let message = format!(
        "{}: '{name}' {at} and did not reach the primary's {position} in time; see: walcast status --server {}",
        args.replica, args.replica
    );
    Err(Failure::new(Exit::NotReached, message))
}

fn replica(args: &VerifyArgs) -> Result<Upstream, Failure> {
    let mut entry = args.security.entry(&args.replica)?;
    if let Some(path) = &args.replica_token_file {
        entry.token = Some(TokenSource::File(path.clone()));
    }
    Ok(Upstream::connect_to(&entry, args.security.insecure())?)
}

async fn open_copy(
    args: &VerifyArgs,
    replica: &Upstream,
    name: &str,
) -> Result<(CopyBegin, CopyStream), Failure> {
    let request = CopyRequest {
        database: name.to_owned(),
        hashes_only: true,
        lz4: false,
    };
    let mut copy = replica.read_copy(request).await?;
    match copy.next().await.transpose()? {
        Some(CopyMessage::Begin(begin)) => Ok((begin, copy)),
        _ => Err(protocol(args, "a copy without a beginning")),
    }
}

fn protocol(args: &VerifyArgs, what: &str) -> Failure {
    let message = format!("{}: the server broke the protocol: {what}", args.replica);
    Failure::new(Exit::Failed, message)
}

/// Follows the stream to exactly `target`; `false` if it has passed it.
async fn follow(source: &mut Source, take: &mut Take, target: Position) -> Result<bool, Failure> {
    loop {
        let at = take.point().map(|point| point.position);
        match at {
            Some(at) if at == target => return Ok(true),
            Some(at) if at.generation != target.generation => {
                let message = format!(
                    "the replica is at {target}, of another generation than the primary; try again"
                );
                return Err(Failure::new(Exit::NotReached, message));
            }
            Some(at) if at > target => return Ok(false),
            _ => {}
        }
        let message = source.next().await?;
        take.message(message).map_err(take_failed)?;
    }
}

/// Compares what the replica has with what the stream has given.
async fn hashes(
    args: &VerifyArgs,
    take: &Take,
    begin: CopyBegin,
    mut copy: CopyStream,
) -> Result<Report, Failure> {
    let point = take
        .point()
        .ok_or_else(|| protocol(args, "no snapshot came to its end"))?;
    let mut report = Report {
        position: Some(begin.position),
        page_size: (point.page_size, begin.page_size),
        pages: (point.page_count, begin.page_count),
        ..Report::default()
    };
    let size = u64::from(begin.page_size);
    let mut progress = Progress::new("replica", args.quiet);
    progress.of(u64::from(begin.page_count) * size);
    let (mut next, mut sum) = (1, 0);
    while let Some(message) = copy.next().await.transpose()? {
        let CopyMessage::Hashes { first_page, hashes } = message else {
            return Err(protocol(args, "pages came where hashes were asked for"));
        };
        if first_page != next {
            return Err(protocol(args, "hashes are missing"));
        }
        for (pgno, hash) in (first_page..).zip(&hashes) {
            sum ^= hash;
            report.page(pgno, pgno > point.page_count || *hash == take.hash(pgno));
        }
        next += hashes.len() as u32;
        progress.add(hashes.len() as u64 * size);
    }
    if next != begin.page_count + 1 {
        return Err(protocol(args, "the copy ended early"));
    }
    if !report.is_equal() {
        report.hint = Some(if sum == begin.dbsum.0 {
            DIVERGED
        } else {
            DAMAGED
        });
    }
    Ok(report)
}
