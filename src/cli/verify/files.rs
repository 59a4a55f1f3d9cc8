//! Two database files.

use super::super::exit::{Exit, Failure};
use super::super::progress::Progress;
use super::VerifyArgs;
use super::report::Report;
use crate::format::dbheader::{SCHEMA_COOKIE, WRITE_VERSION_OFFSET, lock_page};
use crate::sqlite::{FileView, ViewError};
use std::path::Path;

/// Bytes read at a time.
const STEP: u32 = 1 << 20;

fn fail(error: &ViewError) -> Failure {
    Failure::new(Exit::Failed, error.to_string())
}

pub(super) fn compare(args: &VerifyArgs) -> Result<Report, Failure> {
    let open = |path: &str| FileView::open(Path::new(path)).map_err(|error| fail(&error));
    let (mut primary, mut replica) = (open(&args.primary)?, open(&args.replica)?);
    let mut report = Report {
        page_size: (primary.page_size(), replica.page_size()),
        pages: (primary.pages(), replica.pages()),
        ..Report::default()
    };
    let size = primary.page_size();
    if size != replica.page_size() {
        return Ok(report);
    }
    let common = primary.pages().min(replica.pages());
    let mut progress = Progress::new("comparing", args.quiet);
    progress.of(u64::from(common) * u64::from(size));
    let mut next = 1;
    while next <= common {
        let count = (STEP / size).min(common - next + 1);
        let mut sides = [Vec::new(), Vec::new()];
        for (view, side) in [&mut primary, &mut replica].into_iter().zip(&mut sides) {
            side.resize((count * size) as usize, 0);
            view.read(next, side).map_err(|error| fail(&error))?;
            if next == 1 {
                mask(side);
            }
        }
        let [ours, theirs] = &sides;
        let pages = ours
            .chunks_exact(size as usize)
            .zip(theirs.chunks_exact(size as usize));
        for (pgno, (one, other)) in (next..).zip(pages) {
            report.page(pgno, one == other || pgno == lock_page(size));
        }
        progress.add(u64::from(count) * u64::from(size));
        next += count;
    }
    Ok(report)
}

/// What a replica must have differently.
fn mask(page1: &mut [u8]) {
    page1[WRITE_VERSION_OFFSET] = 0;
    page1[SCHEMA_COOKIE].fill(0);
}
