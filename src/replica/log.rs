//! The replica's own WAL file: its salts, its checksums, its frames. Only bytes; what readers see is the wal-index.

use super::doubt::Doubt;
use crate::disk::{self, File};
use crate::format::wal::{
    Cksum, FRAME_HEADER_SIZE, FrameScanner, WAL_HEADER_SIZE, WalHeader, frame_offset, frame_size,
    seal_frame,
};
use crate::format::walindex::IndexHeader;
use std::path::Path;
use std::sync::Arc;

/// One page to append.
pub struct NewFrame<'a> {
    /// Its number.
    pub pgno: u32,
    /// The database's size in pages if this is a commit, else 0.
    pub commit_size: u32,
    /// Its bytes.
    pub page: &'a [u8],
}

const UNSYNCED: &str = "a sync of it failed";

/// The WAL file of the local database.
pub struct Log {
    file: Arc<File>,
    header: WalHeader,
    header_written: bool,
    committed: u32,
    committed_cksum: Cksum,
    next: u32,
    cksum: Cksum,
    /// What is wrong in a log that readers use all the same: they go by the wal-index.
    damage: Option<String>,
    doubt: Arc<Doubt>,
    buffer: Vec<u8>,
}

impl Log {
    /// Opens the file that SQLite has made and, where it holds frames, recovered to `index`.
    pub fn open(
        wal: &Path,
        index: &IndexHeader,
        page_size: u32,
        doubt: Arc<Doubt>,
    ) -> disk::Result<Log> {
        let file = Arc::new(File::open_rw("wal.open", wal)?);
        // SQLite syncs the name of a log that it made with its own first sync, at a checkpoint. Until then a power cut could
        // take the file with all that was synced into it.
        if let Some(directory) = wal.parent() {
            disk::sync_dir("wal.sync-name", directory)?;
        }
        let mut bytes = [0; WAL_HEADER_SIZE];
        let read = file.read_at("wal.read", &mut bytes, 0)?;
        let on_disk = (read == WAL_HEADER_SIZE)
            .then(|| WalHeader::parse(&bytes).ok())
            .flatten();
        let on_disk_is_live = on_disk.is_some_and(|h| h.salt == index.salt);
        let live = (index.mx_frame > 0).then(|| match on_disk.filter(|_| on_disk_is_live) {
            Some(header) => header,
            // Damaged, under readers who find their frames by the wal-index: none of them may be written over.
            None => WalHeader {
                big_endian: index.big_endian,
                ..WalHeader::new(index.page_size, 0, index.salt)
            },
        });
        let damage = if live.is_none() {
            // Whoever closed the database last has copied it, and it begins anew.
            doubt.clear()?;
            None
        } else if !on_disk_is_live {
            Some("its header is not the one that the wal-index is of".to_owned())
        } else {
            doubt.is_raised().then(|| UNSYNCED.to_owned())
        };
        let sequence = on_disk.map_or(0, |h| h.sequence.wrapping_add(1));
        let header = live.unwrap_or_else(|| {
            WalHeader::new(page_size, sequence, fresh_salt(on_disk.map(|h| h.salt)))
        });
        let cksum = if live.is_some() {
            index.frame_cksum
        } else {
            header.cksum
        };
        let committed = if live.is_some() { index.mx_frame } else { 0 };
        Ok(Log {
            file,
            header,
            header_written: live.is_some(),
            committed,
            committed_cksum: cksum,
            next: committed,
            cksum,
            damage,
            doubt,
            buffer: Vec::new(),
        })
    }

    /// Follows the chain of checksums over the frames that are visible. `page` is called with each page that they hold, by
    /// frame; what it holds is not what was written where the chain breaks, which [`Log::damage`] tells from then on.
    pub fn verify<E: From<disk::DiskError>>(
        &mut self,
        mut page: impl FnMut(u32, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut bytes = vec![0; FRAME_HEADER_SIZE + self.header.page_size as usize];
        let mut cksum = self.header.cksum;
        for frame in 1..=self.committed {
            let offset = frame_offset(self.header.page_size, frame);
            self.file.read_exact_at("wal.read", &mut bytes, offset)?;
            if self.damage.is_none() {
                match FrameScanner::new(&self.header, cksum, &bytes).next() {
                    Some(read) => cksum = read.cksum_after,
                    None => {
                        self.damage =
                            Some(format!("its chain of checksums breaks at frame {frame}"))
                    }
                }
            }
            page(frame, &mut bytes[FRAME_HEADER_SIZE..])?;
        }
        if self.damage.is_none() && self.committed > 0 && cksum != self.committed_cksum {
            self.damage = Some("its last frame is not the one that the wal-index is of".to_owned());
        }
        Ok(())
    }

    /// What is wrong with it; `None` once it has begun anew. Whoever recovers the wal-index from a log that is damaged finds
    /// nothing behind the damage: what is written there is not durable.
    pub fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// A sync of the file failed: a kernel tells of what it could not write once, and calls the pages clean, so that the next
    /// sync would succeed without them.
    pub fn doubt(&mut self) {
        if self.next == 0 {
            // There is only its header, which is written once more.
            self.header_written = false;
        } else if self.damage.is_none() {
            self.damage = Some(UNSYNCED.to_owned());
        }
    }

    /// Whether its syncs can be believed.
    pub fn doubts(&self) -> &Arc<Doubt> {
        &self.doubt
    }

    /// The file, for its syncs.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Header of the log as it is, or will be with the first frame.
    pub fn header(&self) -> &WalHeader {
        &self.header
    }

    /// Frames appended, visible or not.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// The cumulative checksum after all appended frames.
    pub fn cksum(&self) -> Cksum {
        self.cksum
    }

    /// Bytes of the file that are in use.
    pub fn bytes(&self) -> u64 {
        frame_offset(self.header.page_size, self.next + 1)
    }

    /// True once the header is on disk: appending then waits for no sync.
    pub fn is_begun(&self) -> bool {
        self.header_written
    }

    /// Writes the header, if that is not done yet.
    pub fn begin(&mut self) -> disk::Result<()> {
        if self.header_written {
            return Ok(());
        }
        self.file
            .write_all_at("wal.header", &self.header.encode(), 0)?;
        // Frames of the log before lie behind it. Were they to meet an old header after a power cut, SQLite would play
        // them back over a newer database: so the header goes first (SQLite ticket ff5be73dee).
        self.file.sync_data("wal.sync-header")?;
        self.doubt.clear()?;
        self.header_written = true;
        Ok(())
    }

    /// Appends frames behind all others. On an error none of them count; what lies in the file is beyond the end. Where the
    /// disk is full, the transaction is abandoned.
    pub fn append<'a>(&mut self, frames: impl Iterator<Item = NewFrame<'a>>) -> disk::Result<()> {
        self.begin()?;
        let size = FRAME_HEADER_SIZE + self.header.page_size as usize;
        self.buffer.clear();
        let (mut cksum, mut count) = (self.cksum, 0);
        for frame in frames {
            let start = self.buffer.len();
            self.buffer.resize(start + FRAME_HEADER_SIZE, 0);
            self.buffer.extend_from_slice(frame.page);
            let buf = &mut self.buffer[start..start + size];
            cksum = seal_frame(
                buf,
                self.header.big_endian,
                frame.pgno,
                frame.commit_size,
                self.header.salt,
                cksum,
            );
            count += 1;
        }
        let offset = frame_offset(self.header.page_size, self.next + 1);
        let written = self.file.write_all_at("wal.append", &self.buffer, offset);
        if let Err(error) = &written
            && error.is_full()
        {
            self.cut();
        }
        written?;
        self.next += count;
        self.cksum = cksum;
        Ok(())
    }

    /// Gives the buffer's memory back.
    pub fn rest(&mut self) {
        self.buffer = Vec::new();
    }

    /// All appended frames are visible now.
    pub fn commit(&mut self) {
        self.committed = self.next;
        self.committed_cksum = self.cksum;
    }

    /// Frames that are not visible are forgotten.
    pub fn abandon(&mut self) {
        self.next = self.committed;
        self.cksum = self.committed_cksum;
    }

    /// Forgets frames that are not visible, and gives their space back.
    pub fn cut(&mut self) {
        self.abandon();
        // The end of a log whose header is still to come lies in frames of the log before.
        if self.header_written
            && let Err(error) = self.file.set_len("wal.cut", self.bytes())
        {
            tracing::warn!("the end of the log stays as it is: {error}");
        }
    }

    /// The header that a new log would have.
    pub fn next_header(&self, page_size: u32) -> WalHeader {
        WalHeader::new(
            page_size,
            self.header.sequence.wrapping_add(1),
            fresh_salt(Some(self.header.salt)),
        )
    }

    /// Begins the file anew; its header is written by [`Log::begin`]. The caller holds the locks for it.
    pub fn restart(&mut self, header: WalHeader) {
        self.header = header;
        self.header_written = false;
        self.damage = None;
        self.committed = 0;
        self.committed_cksum = header.cksum;
        self.abandon();
    }

    /// Reads the page of a frame.
    pub fn read_page(&self, frame: u32, page: &mut [u8]) -> disk::Result<()> {
        let offset = frame_offset(self.header.page_size, frame) + FRAME_HEADER_SIZE as u64;
        self.file.read_exact_at("wal.read", page, offset)
    }

    /// Bytes of one frame.
    pub fn frame_size(&self) -> u64 {
        frame_size(self.header.page_size)
    }
}

/// As `walRestartHdr` does: the first salt counts up, the second is random.
fn fresh_salt(before: Option<[u32; 2]>) -> [u32; 2] {
    let random = super::random_u64();
    match before {
        Some([first, _]) => [first.wrapping_add(1), random as u32],
        None => [(random >> 32) as u32, random as u32],
    }
}
