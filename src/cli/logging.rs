//! Logging: to stderr, a line for each change of state and none for each commit.

use crate::config::{LogConfig, LogFormat};
use clap::Args;
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// `--log-level`.
#[derive(Args, Debug)]
pub struct LogArgs {
    /// How much to log: error, warn, info, debug, trace, or a filter such as warn,walcast::primary=debug
    #[arg(long, value_name = "LEVEL", env = "WALCAST_LOG", default_value = "info", value_parser = filter)]
    log_level: String,
}

/// The filter that a level stands for. A plain level is walcast's: HTTP/2 has a line for each frame.
fn directives(level: &str) -> Option<String> {
    match level {
        "off" => Some("off".to_owned()),
        "error" | "warn" | "info" | "debug" | "trace" => Some(format!("warn,walcast={level}")),
        // A lone word that is no level would be taken as the name of a module, and everything else be silent.
        filter => filter.contains('=').then(|| filter.to_owned()),
    }
}

fn filter(level: &str) -> Result<String, String> {
    let directives = directives(level).ok_or_else(|| {
        "write off, error, warn, info, debug, trace, or MODULE=LEVEL,...".to_owned()
    })?;
    match EnvFilter::try_new(&directives) {
        Ok(_) => Ok(directives),
        Err(error) => Err(format!("{error}; write a level such as info")),
    }
}

impl LogArgs {
    /// The same, as a file would say it.
    pub fn config(&self) -> LogConfig {
        LogConfig {
            level: self.log_level.clone(),
            format: LogFormat::Text,
        }
    }

    /// Starts logging.
    pub fn start(&self) {
        start(&self.config());
    }
}

/// Starts logging.
pub fn start(config: &LogConfig) {
    let filter = directives(&config.level).unwrap_or_else(|| "warn,walcast=info".to_owned());
    let stderr = std::io::stderr();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_ansi(stderr.is_terminal())
        .with_writer(std::io::stderr)
        .finish()
        // The status page shows the last warnings and errors.
        .with(crate::http::Recent::of_the_process())
        .init();
}
