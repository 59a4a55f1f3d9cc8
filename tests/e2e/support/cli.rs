//! The commands of `walcast`, run as a person runs them.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use super::wait_for;

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `walcast` to its end.
///
/// # Panics
/// When it cannot be started.
pub fn walcast(args: &[&str]) -> Said {
    let out = Command::new(env!("CARGO_BIN_EXE_walcast"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("run walcast");
    Said {
        code: out.status.code(),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

/// A command for one database of a server; what it printed.
///
/// # Panics
/// When it fails.
pub fn on(server: SocketAddr, command: &str, db: &str) -> String {
    let said = try_on(server, command, db);
    assert_eq!(said.code, Some(0), "walcast {command}: {said:?}");
    said.stdout
}

/// `on`, whatever its end.
pub fn try_on(server: SocketAddr, command: &str, db: &str) -> Said {
    let url = format!("http://{server}");
    walcast(&[command, "--server", &url, "--db", db])
}

/// `walcast status --json` of a server with one database.
///
/// # Errors
/// When the command fails.
pub fn status(server: SocketAddr) -> Result<String, String> {
    let url = format!("http://{server}");
    let said = walcast(&["status", "--json", "--server", &url]);
    match said.code {
        Some(0) => Ok(said.stdout),
        _ => Err(format!("{said:?}")),
    }
}

/// The first value of `key` in a status: the database's own comes before those of its replicas.
pub fn field(json: &str, key: &str) -> String {
    let Some((_, rest)) = json.split_once(&format!("\"{key}\":")) else {
        return String::new();
    };
    match rest.strip_prefix('"') {
        Some(text) => {
            let mut escaped = false;
            text.chars()
                .take_while(|&c| {
                    let end = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    !end
                })
                .collect()
        }
        None => rest.chars().take_while(|c| !",}".contains(*c)).collect(),
    }
}

/// Waits until the database's state and reason are accepted; gives the reason.
///
/// # Panics
/// When they are not before the deadline.
pub fn wait_status(server: SocketAddr, what: &str, accept: impl Fn(&str, &str) -> bool) -> String {
    wait_for(what, || {
        let json = status(server)?;
        let (state, reason) = (field(&json, "state"), field(&json, "reason"));
        if accept(&state, &reason) {
            Ok(reason)
        } else {
            Err(format!("{state}: {reason}"))
        }
    })
}
