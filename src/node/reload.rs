//! What a reload can change, and where it reads.

use crate::config::{self, Config};
use std::path::PathBuf;

/// The file of a configuration, for reading it again.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// Whether variables in it are replaced.
    pub expand: bool,
    /// The application that the command line names, whatever the file says.
    pub exec: Option<String>,
}

impl Source {
    /// Reads it, off the tasks that serve. The error is one line.
    pub(super) async fn load(self) -> Result<Config, String> {
        let exec = self.exec;
        let read = move || config::load_with_warnings(&self.path, self.expand);
        let loaded = tokio::task::spawn_blocking(read).await;
        let loaded = loaded.map_err(|error| format!("read the configuration: {error}"))?;
        let loaded = loaded.map_err(|error| error.to_string().replace('\n', "; "))?;
        for warning in loaded.warnings {
            tracing::warn!("{warning}");
        }
        let mut config = loaded.config;
        if exec.is_some() {
            config.exec = exec;
        }
        Ok(config)
    }
}

/// The keys whose change a running process cannot follow.
pub fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let (a, b) = (&old.server, &new.server);
    let changes = [
        ("listen", a.listen != b.listen),
        ("http-listen", a.http_listen != b.http_listen),
        ("insecure", a.insecure != b.insecure),
        ("server-id", a.server_id != b.server_id),
        ("drain-timeout", a.drain_timeout != b.drain_timeout),
        ("tls", a.tls != b.tls),
        ("reflection", a.reflection != b.reflection),
        ("limits", a.limits != b.limits),
        ("log", a.log != b.log),
        ("exec", old.exec != new.exec),
    ];
    let changed = changes.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(key, _)| key).collect()
}
