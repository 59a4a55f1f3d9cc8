//! Logging: to stderr, a line for each change of state and none for each commit. A fault that repeats is told once in a
//! while, with the number of lines that were left out.

mod repeats;

use crate::config::{LogConfig, LogFormat};
use crate::http::Recent;
use clap::{Args, ValueEnum};
use repeats::Limited;
use std::io::IsTerminal as _;
use std::sync::OnceLock;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::{self, format::JsonFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// `--log-level` and `--log-format`.
#[derive(Args, Debug)]
pub struct LogArgs {
    /// How much to log: error, warn, info, debug, trace, or a filter such as warn,walcast::primary=debug
    #[arg(long, value_name = "LEVEL", env = "WALCAST_LOG", default_value = "info", value_parser = filter)]
    log_level: String,
    /// How lines look: text for people, or json with one object for each line
    #[arg(
        long,
        value_name = "FORMAT",
        env = "WALCAST_LOG_FORMAT",
        default_value = "text",
        hide_possible_values = true
    )]
    log_format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
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
            format: match self.log_format {
                Format::Text => LogFormat::Text,
                Format::Json => LogFormat::Json,
            },
        }
    }

    /// Starts logging.
    pub fn start(&self) {
        start(&self.config());
    }
}

/// What logging was started with: the end of a process is told in the same way.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// How lines look; as text if logging was not started.
pub fn format() -> LogFormat {
    FORMAT.get().copied().unwrap_or_default()
}

/// Starts logging, and keeping the last warnings and errors for the status page, which shows them whatever the level is. A
/// level that is none was refused where it was read; here it is as `info`.
pub fn start(config: &LogConfig) {
    let _ = FORMAT.set(config.format);
    let directives = directives(&config.level).unwrap_or_else(|| "warn,walcast=info".to_owned());
    let filter = EnvFilter::new(directives);
    let recent = Recent::of_the_process().with_filter(LevelFilter::WARN);
    let layer = fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(recent);
    match config.format {
        LogFormat::Text => {
            let lines = fmt::format().with_ansi(std::io::stderr().is_terminal());
            let layer = layer.event_format(Limited::text(lines));
            registry.with(layer.with_filter(filter)).init();
        }
        LogFormat::Json => {
            let lines = fmt::format().json().flatten_event(true);
            let layer = layer
                .fmt_fields(JsonFields::new())
                .event_format(Limited::json(lines));
            registry.with(layer.with_filter(filter)).init();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::MakeWriter;

    /// What was logged.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Kept {
        type Writer = Kept;

        fn make_writer(&self) -> Kept {
            self.clone()
        }
    }

    impl Kept {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("no panic").clone()).expect("UTF-8")
        }
    }

    fn faults() {
        for round in 0..1000 {
            for name in ["a.db", "b.db"] {
                tracing::warn!(database = name, "cannot connect from port {round}");
            }
        }
        tracing::warn!(database = "a.db", "the disk is full");
        tracing::info!(database = "a.db", "streaming");
        tracing::info!(database = "a.db", "streaming");
    }

    #[test]
    fn a_fault_that_repeats_gives_one_line_for_each_database() {
        let kept = Kept::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(kept.clone())
            .event_format(Limited::text(fmt::format().with_ansi(false)))
            .finish();
        tracing::subscriber::with_default(subscriber, faults);
        let text = kept.text();
        assert_eq!(text.matches("cannot connect").count(), 2, "{text}");
        assert_eq!(text.matches("the disk is full").count(), 1, "{text}");
        // What is no fault is a change of state: each is told.
        assert_eq!(text.matches("streaming").count(), 2, "{text}");
        assert_eq!(text.lines().count(), 5, "{text}");
    }

    #[test]
    fn json_is_one_object_for_each_line() {
        let kept = Kept::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(kept.clone())
            .fmt_fields(JsonFields::new())
            .event_format(Limited::json(fmt::format().json().flatten_event(true)))
            .finish();
        tracing::subscriber::with_default(subscriber, faults);
        let text = kept.text();
        assert_eq!(text.lines().count(), 5, "{text}");
        for line in text.lines() {
            let object: serde_json::Value = serde_json::from_str(line).expect(line);
            assert!(object["timestamp"].is_string() && object["level"].is_string());
            assert!(object["message"].is_string() && object["database"].is_string());
        }
    }

    #[test]
    fn a_level_is_walcasts_own() {
        assert_eq!(directives("debug").as_deref(), Some("warn,walcast=debug"));
        assert_eq!(directives("h2=trace").as_deref(), Some("h2=trace"));
        // What `filter` made of a level is a filter already.
        assert_eq!(
            directives("warn,walcast=info").as_deref(),
            Some("warn,walcast=info")
        );
        assert_eq!(directives("loud"), None);
    }
}
