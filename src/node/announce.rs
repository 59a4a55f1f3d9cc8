//! What a process says to whoever started it, whatever its log level is: where it listens, and what it ended of. Among JSON
//! lines it is one, too.

use crate::config::LogFormat;
use crate::model::clock_us;
use serde_json::json;
use std::io::Write as _;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

/// Writes it to stderr. `level`: as in the log, such as `INFO`.
pub fn announce(format: LogFormat, level: &str, words: &str) {
    // A log that cannot be written (a full disk) is no reason not to serve.
    let _ = writeln!(std::io::stderr(), "{}", line(format, level, words));
}

fn line(format: LogFormat, level: &str, words: &str) -> String {
    match format {
        LogFormat::Text => words.to_owned(),
        LogFormat::Json => {
            let mut now = String::new();
            // Only a clock before 1970 has no such form.
            if SystemTime.format_time(&mut Writer::new(&mut now)).is_err() {
                now = clock_us().to_string();
            }
            json!({"timestamp": now, "level": level, "message": words, "target": "walcast"})
                .to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_alone_and_json_is_as_in_the_log() {
        let words = "listening on \"[::1]:1\"";
        assert_eq!(line(LogFormat::Text, "INFO", words), words);
        let object = line(LogFormat::Json, "INFO", words);
        assert!(!object.contains('\n'));
        let object: serde_json::Value = serde_json::from_str(&object).expect("an object");
        assert_eq!(object["message"], words);
        assert_eq!(object["level"], "INFO");
        let time = object["timestamp"].as_str().expect("a time");
        assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    }
}
