//! What a reader sees in the files of a replica that is real.

use crate::world::world;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use walcast::format::dbheader::{DbHeader, to_primary};
use walcast::format::dbsum::page_hash;
use walcast::ownership;
use walcast::replica::parts::Shared;
use walcast::sqlite::index_connection;

/// Looks at each state that becomes visible, through SQLite, for as long as the process runs.
pub async fn observe(replica: usize, path: PathBuf, shared: Arc<Shared>) {
    let mut applied = shared.watch();
    let mut connection = None;
    loop {
        let point = *applied.borrow_and_update();
        if let Some(point) = point {
            let open = connection.get_or_insert_with(|| index_connection(&path).expect("a reader"));
            let bytes = open.serialize("main").expect("a reader reads");
            let (sum, pages) = checksum(&path, &bytes);
            world().visible(replica, sum, pages, &point);
        }
        if applied.changed().await.is_err() {
            return;
        }
    }
}

/// The checksum and the pages of a replica's bytes, as the primary has them.
fn checksum(path: &Path, bytes: &[u8]) -> (u64, u32) {
    let size = DbHeader::parse(bytes).expect("a header").page_size as usize;
    let record = ownership::directory_of(path).join("replica");
    let record = std::fs::read_to_string(record).expect("the replica's record");
    let delta = record
        .lines()
        .find_map(|line| line.strip_prefix("cookie-delta "));
    let delta = delta.expect("a cookie's delta").parse().expect("a number");
    let mut sum = 0;
    for (pgno, page) in (1..).zip(bytes.chunks_exact(size)) {
        sum ^= match pgno {
            1 => {
                let mut page = page.to_vec();
                to_primary(&mut page, delta);
                page_hash(pgno, &page)
            }
            _ => page_hash(pgno, page),
        };
    }
    (sum, (bytes.len() / size) as u32)
}
