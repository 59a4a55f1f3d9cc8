//! Any system: the file system tells nothing, so looks go on at their longest interval.

use super::Signal;
use std::path::PathBuf;
use std::sync::Arc;

/// There is none.
pub enum FileWatch {}

impl FileWatch {
    /// `None`.
    pub fn new(_files: &[PathBuf], _signal: &Arc<Signal>) -> Option<FileWatch> {
        None
    }
}

/// Nothing to do.
pub fn allow_short_sleeps() {}

#[cfg(test)]
mod tests {
    use super::super::Wake;
    use super::*;

    #[test]
    fn nobody_tells_of_files() {
        assert!(FileWatch::new(&[], Wake::new().signal()).is_none());
        allow_short_sleeps();
    }
}
