//! The local log begins anew: after a checkpoint, for a seed in place, and for the last time at a detach.

use super::{Local, LocalError, Result, Room, busy};
use crate::disk::fault;
use crate::format::dbheader::{DbHeader, HEADER_SIZE, to_replica};
use crate::format::wal::Cksum;
use crate::format::walindex::{CKPT, IndexHeader, read_slot};
use crate::replica::log::NewFrame;
use crate::replica::record::Record;
use crate::sums::Sums;
use crate::sys::LockKind::Exclusive;
use std::path::Path;

impl Local {
    /// Begins the log at its start again, if all is checkpointed and no reader uses it. `false`: not now. A file of more than
    /// `keep` bytes is emptied, so that what a reader once made it grow to is not kept for ever.
    pub fn try_restart(&mut self, keep: u64) -> Result<bool> {
        self.restart_with(self.page_size, keep)
    }

    fn restart_with(&mut self, page_size: u32, keep: u64) -> Result<bool> {
        let (frames, backfill) = self.backfill();
        let needed = frames > 0 || page_size != self.page_size;
        if self.log.next() != frames
            || backfill != frames
            || !needed
            || !self.index.lock(CKPT, Exclusive)?
        {
            return Ok(false);
        }
        let done = self.restart_under_ckpt(page_size, keep);
        self.index.unlock(CKPT, Exclusive)?;
        let begun = done?;
        if begun {
            // Now and not with the next commit, which somebody waits for. The old frames are all in the file: it does
            // not matter which header they meet.
            self.log.begin()?;
        }
        Ok(begun)
    }

    /// Its sync of the file, and that of the header behind it, cannot go before the pause with the checkpoint that does: nobody
    /// can tell whose checkpoint copied the last frames, and a reader's may have synced nothing; and until those are durable
    /// in the file, it is the old header that keeps them.
    fn restart_under_ckpt(&mut self, page_size: u32, keep: u64) -> Result<bool> {
        self.check_untouched()?;
        // A reader's own checkpoint may run at synchronous=OFF: what the log alone kept safe must be in the file first.
        if let Err(error) = self.db.sync_data("restart.sync-db") {
            // A kernel tells of it once, and calls the pages clean: the next sync would succeed without them.
            self.index.forget_backfill();
            return Err(error.into());
        }
        let page_count = self.page_count()?;
        // The checkpoint may have cut what was reserved, and no publication looked since.
        self.room = Room::of(&self.db, 0)?;
        if !self.index.lock_range(read_slot(1), 4, Exclusive)? {
            return Ok(false);
        }
        // Until they are given back nobody can begin to read, so nothing from here on ends this early.
        let header = self.log.next_header(page_size);
        let index = IndexHeader {
            mx_frame: 0,
            salt: header.salt,
            frame_cksum: Cksum::default(),
            page_count,
            ..self.published
        };
        self.index.restart(&index);
        fault::point("restart.published");
        self.published = index;
        self.log.restart(header);
        self.page_size = page_size;
        let file = self.log.file();
        // All of it and not its end: a power cut may bring the header of before back, which must find all of its frames or
        // none.
        let kept = file.len("wal.size").and_then(|len| match len > keep {
            true => file.set_len("wal.truncate", 0),
            false => Ok(()),
        });
        self.index.unlock_range(read_slot(1), 4, Exclusive)?;
        fault::point("restart.done");
        kept?;
        Ok(true)
    }

    /// Prepares for a snapshot in place: hashes begin at nothing, page 1 gets another constant. `false`: the page size
    /// differs and a reader still uses the log; try again.
    pub fn begin_seed(
        &mut self,
        directory: &Path,
        page_size: u32,
        cookie_delta: u32,
    ) -> Result<bool> {
        self.abandon()?;
        if page_size != self.page_size && !self.restart_with(page_size, 0)? {
            return Ok(false);
        }
        self.sums = Sums::create(directory, page_size)?;
        self.page1.clear();
        self.cookie_delta = cookie_delta;
        Ok(true)
    }

    /// A snapshot with another page size began, and never ended: the log is empty, and of the size that never came.
    fn undo_page_size(&mut self) -> Result<()> {
        if self.published.mx_frame > 0 {
            return Ok(());
        }
        let mut bytes = [0; HEADER_SIZE];
        let read = self.db.read_at("db.read", &mut bytes, 0)?;
        match DbHeader::parse(&bytes[..read]).map(|header| header.page_size) {
            Ok(size) if size == self.page_size || self.restart_with(size, 0)? => Ok(()),
            Ok(_) => Err(busy(
                &self.path,
                "the primary's page size changed, and a reader here uses the log; end its transaction",
            )),
            Err(error) => Err(LocalError::Damaged {
                path: self.path.clone(),
                what: error.to_string(),
            }),
        }
    }

    /// Gives applications their database back: page 1 says again that it can be written. That this began is noted before. WRITE
    /// is released with this; after an error nothing has changed for anybody.
    pub fn release_writable(mut self, record: &mut Record) -> Result<()> {
        self.abandon()?;
        self.check_untouched()?;
        self.undo_page_size()?;
        let mut page1 = vec![0; self.page_size as usize];
        self.read_page(1, &mut page1)?;
        // Readers have cached the schema under the cookie they saw: it stays, only the write version changes.
        to_replica(&mut page1, self.cookie_delta);
        page1[18] = 2;
        let page_count = self.page_count()?;
        record.note_detached(true)?;
        // Whoever recovers the wal-index takes what is in the log for a commit: so the index, which may find no room, goes first,
        // and nothing that can fail comes behind the log and its sync.
        self.enter(self.log.next() + 1, 1)?;
        let frame = NewFrame {
            pgno: 1,
            commit_size: page_count,
            page: &page1,
        };
        let appended = self.log.append(std::iter::once(frame));
        // Before anybody may write to it: what fails up to here leaves a replica.
        let written = appended.and_then(|()| self.log.file().sync_data("detach.sync-wal"));
        if let Err(error) = written {
            self.log.cut();
            return Err(error.into());
        }
        self.show(page_count);
        Ok(())
    }
}
