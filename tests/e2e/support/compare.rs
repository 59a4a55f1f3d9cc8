//! Are two databases at rest equal, page by page? The reading is done by `dump` children.

use std::fmt::Write as _;
use std::path::Path;

use super::child::{Spec, run};

/// What was compared, when it is equal.
#[derive(Debug)]
pub struct Equal {
    pub page_size: u64,
    pub pages: u64,
}

/// Compares two databases that nobody writes. Equal means: same page size and count, every page
/// equal but for bytes 18 and 40..44 of page 1 and the lock-byte page, `integrity_check` ok on
/// both, and the same rows through SQL.
///
/// # Errors
/// All that differs, pages by number.
pub fn compare(dir: &Path, one: &Path, other: &Path) -> Result<Equal, String> {
    let (a, pages_a) = dump(dir, "one", one)?;
    let (b, pages_b) = dump(dir, "other", other)?;
    let mut wrong = String::new();
    for key in ["page_size", "page_count", "rows"] {
        if a.get(key) != b.get(key) {
            let _to_string = writeln!(wrong, "{key}: {:?} against {:?}", a.get(key), b.get(key));
        }
    }
    for (report, path) in [(&a, one), (&b, other)] {
        if report.get("integrity") != Some("ok") {
            let said = report.get("integrity");
            let _to_string = writeln!(wrong, "integrity_check of {}: {said:?}", path.display());
        }
    }
    describe_pages(&mut wrong, &differing(&pages_a, &pages_b), &a, &b);
    if wrong.is_empty() {
        return Ok(Equal {
            page_size: a.or("page_size", 0),
            pages: a.or("page_count", 0),
        });
    }
    Err(format!(
        "{} and {} differ:\n{wrong}",
        one.display(),
        other.display()
    ))
}

fn dump(dir: &Path, name: &str, db: &Path) -> Result<(Spec, String), String> {
    let out = dir.join(format!("dump-{name}.pages"));
    let spec = Spec::new("dump").with_path("db", db).with_path("out", &out);
    let report = run(dir, &format!("dump-{name}"), spec)?;
    let pages =
        std::fs::read_to_string(&out).map_err(|e| format!("read {}: {e}", out.display()))?;
    Ok((report, pages))
}

/// Numbers of the pages that are not the same on both sides, or are missing in a file.
fn differing(one: &str, other: &str) -> Vec<u64> {
    let (mut a, mut b) = (one.lines(), other.lines());
    let mut numbers = Vec::new();
    for number in 1.. {
        match (a.next(), b.next()) {
            (None, None) => break,
            (Some(x), Some(y)) if x == y && !x.ends_with("missing") => {}
            _ => numbers.push(number),
        }
    }
    numbers
}

fn describe_pages(wrong: &mut String, numbers: &[u64], a: &Spec, b: &Spec) {
    const SHOWN: usize = 32;
    if numbers.is_empty() {
        return;
    }
    let first = &numbers[..numbers.len().min(SHOWN)];
    let _to_string = writeln!(
        wrong,
        "{} pages differ, the first: {first:?}",
        numbers.len()
    );
    if numbers[0] == 1 {
        let bytes = |s: &Spec| s.get("page1").unwrap_or_default().as_bytes().to_vec();
        let (x, y) = (bytes(a), bytes(b));
        let at: Vec<usize> = (0..x.len().min(y.len()) / 2)
            .filter(|i| x[2 * i..2 * i + 2] != y[2 * i..2 * i + 2])
            .take(SHOWN)
            .collect();
        let _to_string = writeln!(wrong, "page 1 differs at bytes {at:?}");
    }
}

/// One value through SQL, read by another process.
///
/// # Errors
/// SQLite's message, or the child's failure.
pub fn query(dir: &Path, db: &Path, sql: &str) -> Result<String, String> {
    let spec = Spec::new("query").with_path("db", db).with("sql", sql);
    let report = run(dir, &format!("query-{}", unique()), spec)?;
    match (report.get("value"), report.get("error")) {
        (Some(value), _) => Ok(value.to_owned()),
        (_, error) => Err(error.unwrap_or("no value").to_owned()),
    }
}

/// Queries may run at once in threads of one test: each has its own files.
fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
