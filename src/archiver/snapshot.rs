//! A snapshot of the database for the archive: taken from the primary's stream into a scratch file, which proves its
//! checksum, then packed and written, once the log up to its position is in the archive.

use super::context::{Context, Stop};
use crate::archive::{ArchiveError, Claim, DOC_VERSION, Key, SnapshotDoc, Store};
use crate::disk::{self, File};
use crate::format::position::Position;
use crate::model::{Point, StreamStart, clock_us};
use crate::replica::{Take, Taken};
use bytes::Bytes;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context as Waker, Poll};
use std::time::Instant;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{mpsc, watch};
use xxhash_rust::xxh3::xxh3_64;

/// Bytes read and packed at a time.
const PIECE: usize = 1 << 20;
/// Packed pieces that wait to be sent.
const QUEUE: usize = 4;
/// Whose pages are like this has no readers but its owner.
const PRIVATE: u32 = 0o600;
/// How the names of scratch directories end.
const END: &str = ".tmp";

/// A directory for the scratch file, which goes with it.
pub struct Scratch(PathBuf);

/// One for each use. What was given up may still have its file in hand for a while, and then removes its own directory, not
/// that of what came after it.
static NUMBER: AtomicU64 = AtomicU64::new(0);

impl Scratch {
    /// Made anew.
    pub fn new(database: &Path, archive: &str) -> disk::Result<Scratch> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = database.join(format!("{}-{number:x}{END}", Scratch::begin(archive)));
        disk::remove_dir_all("archive.scratch", &path)?;
        disk::create_dirs_within("archive.scratch", database, &path)?;
        Ok(Scratch(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Removes what a killed run left.
    pub fn clear(database: &Path, archive: &str) -> disk::Result<()> {
        let begin = Scratch::begin(archive);
        for name in disk::list("archive.scratch", database)? {
            if name.starts_with(&begin) && name.ends_with(END) {
                disk::remove_dir_all("archive.scratch", &database.join(name))?;
            }
        }
        Ok(())
    }

    /// How the names begin: two archives may take a snapshot at a time.
    fn begin(archive: &str) -> String {
        format!("archive-{:016x}", xxh3_64(archive.as_bytes()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // If it fails, the next snapshot or the next start removes it.
        let _ = disk::remove_dir_all("archive.scratch", &self.0);
    }
}

/// Takes and writes one. The position that it is of; `None` if there is a snapshot of that index already.
pub async fn archive(
    ctx: &Arc<Context>,
    store: &Store,
    claim: &Claim,
    mut archived: watch::Receiver<Position>,
) -> Result<Option<Position>, Stop> {
    let begun = Instant::now();
    let generation = archived.borrow().generation;
    let scratch = Scratch::new(
        ctx.primary.directory(),
        &ctx.config.options.location.to_string(),
    )?;
    let (point, file) = take(ctx, &scratch).await?;
    let position = point.position;
    if position.generation != generation {
        return Err(Stop::Log("a new generation began meanwhile".into()));
    }
    ctx.state.beside(&format!(
        "has a snapshot, waits for the log up to {position}"
    ));
    // A log that is put together over the snapshot must reach its position, or the two are no state at all.
    let is_there = |at: &Position| (at.index, at.offset) >= (position.index, position.offset);
    tokio::select! {
        () = ctx.cancel.cancelled() => return Err(Stop::Ended),
        reached = archived.wait_for(is_there) => drop(reached.map_err(|_| Stop::Ended)?),
    }
    let key = Key::snapshot(generation, position.index);
    let Some(doc_key) = key.doc() else {
        return Ok(None);
    };
    let doc = SnapshotDoc {
        version: DOC_VERSION,
        position,
        dbsum: point.dbsum.to_string(),
        page_count: point.page_count,
        page_size: point.page_size,
        time_us: point.time_us,
        taken_us: clock_us(),
    };
    // Of a file that cannot be read there is no use in trying again: another snapshot is taken.
    let file = Arc::new(File::open_read("archive.snapshot-read", &file)?);
    let mut tries = ctx.tries();
    let is_put = AtomicBool::new(false);
    let written = loop {
        let write = async {
            claim.check(store).await?;
            if !is_put.load(Ordering::Relaxed) {
                // One without a document is nothing to go on from: it is written again.
                if store.has(doc_key).await? {
                    return Ok(false);
                }
                ctx.state
                    .beside(&format!("writes the snapshot at {position}"));
                let counted = Arc::clone(&ctx.state.meters);
                let count = move |bytes| counted.uploaded_bytes.add(bytes);
                let packed = Packed::of(Arc::clone(&file), count);
                store.put_stream(key, packed).await?;
                is_put.store(true, Ordering::Relaxed);
            }
            store.put(doc_key, doc.encode()).await?;
            Ok::<_, ArchiveError>(true)
        };
        if let Some(written) = tries.run(write).await? {
            break written;
        }
    };
    if written {
        ctx.state.meters.snapshots.time(begun.elapsed());
        let (database, archive) = (ctx.primary.name(), store.location().to_string());
        tracing::info!(database, archive, "snapshot archived, at {position}");
    }
    Ok(written.then_some(position))
}

/// Takes the whole database into a file: at a position, proven.
async fn take(ctx: &Arc<Context>, scratch: &Scratch) -> Result<(Point, PathBuf), Stop> {
    let id = getrandom::u64().unwrap_or_default();
    let start = StreamStart {
        database: ctx.primary.name().to_owned(),
        position: None,
        dbsum: None,
        frame_cksum: None,
        replica_id: format!("archive-snapshot-{id:016x}"),
        replica_name: format!("snapshot for archive {}", ctx.config.options.location),
        // It does not leave the process.
        lz4: false,
        recent: false,
        page_size: 0,
        address: "127.0.0.1".to_owned(),
        transient: true,
        resume_only: false,
    };
    let mut stream = ctx.primary.open_stream(start).await?;
    let mut take = Take::file(&scratch.0, PRIVATE);
    let ctx = Arc::clone(ctx);
    let runtime = tokio::runtime::Handle::current();
    // It writes a file: a thread of its own, also for the reading.
    let work = tokio::task::spawn_blocking(move || {
        let mut at = 0_u64;
        let mut of = 0;
        let mut told = 0;
        loop {
            let message = runtime.block_on(async {
                tokio::select! {
                    () = ctx.cancel.cancelled() => None,
                    message = stream.next() => message,
                }
            });
            let Some(message) = message else {
                return Err(Stop::Ended);
            };
            let taken = take.message(message?);
            match taken.map_err(|error| Stop::Log(format!("take a snapshot: {error}")))? {
                Taken::At(_) => break,
                Taken::Begun(pages) => of = u64::from(pages).max(1),
                Taken::Pages(pages) => at += u64::from(pages),
                Taken::Nothing => {}
            }
            let percent = (at * 100 / of.max(1)).min(100);
            if percent >= told + 10 {
                told = percent;
                ctx.state.beside(&format!("takes a snapshot: {percent}%"));
            }
        }
        drop(stream);
        let taken = take.finish();
        let taken = taken.map_err(|error| Stop::Log(format!("take a snapshot: {error}")))?;
        taken.ok_or_else(|| Stop::Log("no snapshot came to its end".into()))
    });
    work.await
        .map_err(|error| Stop::Log(format!("take a snapshot: {error}")))?
}

/// A file as one lz4 frame, packed by a thread as it is read.
struct Packed {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Packed {
    fn of(file: Arc<File>, count: impl Fn(u64) + Send + 'static) -> Packed {
        let (send, pieces) = mpsc::channel(QUEUE);
        tokio::task::spawn_blocking(move || {
            let sender = Sender {
                send: send.clone(),
                count: Box::new(count),
            };
            if let Err(error) = pack(&file, sender) {
                // Nobody may be there any more to hear it.
                let _ = send.blocking_send(Err(error));
            }
        });
        Packed {
            pieces,
            piece: Bytes::new(),
        }
    }
}

fn pack(file: &File, to: Sender) -> io::Result<()> {
    let failed = |error: crate::disk::DiskError| io::Error::other(error.to_string());
    let length = file.len("archive.snapshot-read").map_err(failed)?;
    let frame = FrameInfo::new()
        .content_size(Some(length))
        .content_checksum(true)
        .block_mode(BlockMode::Independent)
        .block_size(BlockSize::Max1MB);
    let mut encoder = FrameEncoder::with_frame_info(frame, to);
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    loop {
        let read = file.read_at("archive.snapshot-read", &mut buffer, at);
        let read = read.map_err(failed)?;
        if read == 0 {
            break;
        }
        encoder.write_all(&buffer[..read])?;
        at += read as u64;
    }
    encoder.finish().map(drop).map_err(io::Error::other)
}

/// Hands over what the encoder writes.
struct Sender {
    send: mpsc::Sender<io::Result<Bytes>>,
    count: Box<dyn Fn(u64) + Send>,
}

impl io::Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Ok(Bytes::copy_from_slice(bytes));
        let sent = self.send.blocking_send(piece);
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        (self.count)(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Packed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        waker: &mut Waker<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.piece.is_empty() {
            match self.pieces.poll_recv(waker) {
                Poll::Ready(Some(piece)) => self.piece = piece?,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
        let part = self.piece.len().min(out.remaining());
        out.put_slice(&self.piece.split_to(part));
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    fn opened(path: &Path) -> Arc<File> {
        Arc::new(File::open_read("test.open", path).expect("open"))
    }

    #[test]
    fn a_scratch_directory_goes_alone_and_what_a_kill_left_goes_at_the_next_start() {
        let directory = tempfile::tempdir().expect("a directory");
        let (database, archive) = (directory.path(), "/backup/app");
        let given_up = Scratch::new(database, archive).expect("made");
        let next = Scratch::new(database, archive).expect("made");
        std::fs::write(next.path().join("seed.tmp"), "pages").expect("written");
        drop(given_up);
        assert!(next.path().join("seed.tmp").exists(), "it is another's");
        let others = Scratch::new(database, "/backup/other").expect("made");
        std::mem::forget(next);
        std::fs::create_dir(database.join("generations")).expect("made");
        Scratch::clear(database, archive).expect("cleared");
        let names = disk::list("test.list", database).expect("a list");
        let own = others.path().file_name().expect("a name").to_string_lossy();
        assert_eq!(names, [&*own, "generations"]);
    }

    #[tokio::test]
    async fn a_file_is_packed_as_one_frame_with_its_length_and_a_checksum() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("db");
        let content: Vec<u8> = (0..5_000_000_u32).map(|i| (i >> 7) as u8).collect();
        std::fs::write(&path, &content).expect("written");
        let (count, mut counted) = mpsc::unbounded_channel();
        let mut packed = Packed::of(opened(&path), move |n| count.send(n).unwrap_or_default());
        let mut bytes = Vec::new();
        packed.read_to_end(&mut bytes).await.expect("packed");
        let mut out = Vec::new();
        crate::format::lz4::decompress(&bytes, 6_000_000, &mut out).expect("one of our frames");
        assert!(out == content);
        let mut sum = 0;
        while let Some(n) = counted.recv().await {
            sum += n;
        }
        assert_eq!(sum, bytes.len() as u64);
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_ends_the_packing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("db");
        let random: Vec<u8> = (0..20_000_000_u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        std::fs::write(&path, &random).expect("written");
        let (count, mut counted) = mpsc::unbounded_channel();
        let packed = Packed::of(opened(&path), move |n| count.send(n).unwrap_or_default());
        drop(packed);
        // The channel ends when the thread does.
        while counted.recv().await.is_some() {}
    }
}
