//! The Python twins of writer and reader: the same roles through the system's own SQLite.

use std::path::Path;
use std::process::{Command, Stdio};

use super::child::{Child, Spec};

/// The version of Python's SQLite, or `None` (said loudly) without Python.
pub fn available() -> Option<String> {
    let script = "import sqlite3; print(sqlite3.sqlite_version)";
    let out = Command::new("python3")
        .args(["-c", script])
        .stdin(Stdio::null())
        .output();
    match out {
        Ok(out) if out.status.success() => {
            Some(String::from_utf8_lossy(&out.stdout).trim().to_owned())
        }
        _ => {
            super::skip("python3 missing");
            None
        }
    }
}

/// Starts `tests/python/SCRIPT` with the pairs of `spec`; log, report and stop file as for every
/// child.
pub fn start(dir: &Path, name: &str, script: &str, spec: Spec) -> Child {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/python")
        .join(script);
    let mut command = Command::new("python3");
    command.arg("-B").arg(path);
    Child::start_program(dir, name, command, spec)
}
