//! Waking the capture thread: by another thread, and by the file system where it can tell.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub use linux::{FileWatch, Wake, allow_short_sleeps};

// Compiled and tested on Linux too, so that the other systems are not left with code that nobody ever built.
#[cfg(any(not(target_os = "linux"), test))]
mod portable;
#[cfg(not(target_os = "linux"))]
pub use portable::{FileWatch, Wake, allow_short_sleeps};
