//! SQLite's memory for each connection.

use rusqlite::ffi;
use std::ffi::c_int;
use std::ptr;

/// Makes connections that are opened from now on small: without the memory that SQLite takes in advance for speed (48 KiB
/// for statements, 20 pages of cache). Ours read a page or two and then stand still, and a process has hundreds of them. To
/// be called when the process begins; where SQLite is in use already nothing changes.
pub fn frugal_connections() {
    let none: c_int = 0;
    let memory: *mut std::ffi::c_void = ptr::null_mut();
    // SAFETY: both options take exactly these arguments (sqlite3.h, "Configuration Options"), and keep no pointer. The
    // process has just begun, so no other thread uses SQLite; had one initialized it, it would refuse (SQLITE_MISUSE).
    unsafe {
        ffi::sqlite3_config(ffi::SQLITE_CONFIG_LOOKASIDE, none, none);
        ffi::sqlite3_config(ffi::SQLITE_CONFIG_PAGECACHE, memory, none, none);
    }
}
