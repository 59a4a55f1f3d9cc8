//! SQLite's memory for each connection.

use rusqlite::ffi;
use std::ffi::c_int;
use std::ptr;
use std::sync::Once;

/// Makes connections that are opened from now on small: without the memory that SQLite takes in advance for speed (48 KiB
/// for statements, 20 pages of cache). Ours read a page or two and then stand still, and a process has hundreds of them.
/// Where SQLite is in use already nothing changes.
pub fn frugal_connections() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: both options take exactly these arguments (sqlite3.h, "Configuration Options"), none of which is kept.
        // Once SQLite is initialized, which other threads may do meanwhile, it refuses them with SQLITE_MISUSE; before
        // that it has no other user that could see them half done.
        unsafe {
            let none: c_int = 0;
            ffi::sqlite3_config(ffi::SQLITE_CONFIG_LOOKASIDE, none, none);
            let memory: *mut std::ffi::c_void = ptr::null_mut();
            ffi::sqlite3_config(ffi::SQLITE_CONFIG_PAGECACHE, memory, none, none);
        }
    });
}
