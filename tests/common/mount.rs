//! Mounts for tests that run as root; gone with the value, whatever happens.

use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Mount(PathBuf);

/// True for root; otherwise says loudly that the test is skipped.
pub fn is_root(why: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        super::skip(&format!("{why}: needs root"));
    }
    root
}

fn mount(args: &[&str], at: &Path) {
    let out = Command::new("mount")
        .args(args)
        .arg(at)
        .output()
        .expect("run mount");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.success(),
        "mount {args:?} {}: {said}",
        at.display()
    );
}

impl Mount {
    /// The same directory once more, where nothing can be written.
    ///
    /// # Panics
    /// When it cannot be mounted.
    pub fn read_only(of: &Path, at: &Path) -> Self {
        std::fs::create_dir_all(at).expect("create the mount point");
        mount(&["--bind", &of.display().to_string()], at);
        let mounted = Self(at.to_owned());
        mount(&["-o", "remount,bind,ro"], at);
        mounted
    }

    /// A filesystem of this size.
    ///
    /// # Panics
    /// When it cannot be mounted.
    pub fn tmpfs(at: &Path, size: &str) -> Self {
        std::fs::create_dir_all(at).expect("create the mount point");
        mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], at);
        Self(at.to_owned())
    }

    /// Another size for a `tmpfs`.
    ///
    /// # Panics
    /// When it is refused.
    pub fn resize(&self, size: &str) {
        mount(&["-o", &format!("remount,size={size}")], &self.0);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a reader that a failed test left must not keep it.
        let _best_effort = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
