//! Reading texts with a small environment.

use std::env::VarError;
use walcast::config::{Config, ConfigError, parse};

/// The environment of all tests here.
pub fn env(name: &str) -> Result<String, VarError> {
    let value = match name {
        "HOST" => "primary.example",
        "PORT" => "4040",
        "DATA" => "/data",
        "TOKEN" => "from-the-environment",
        "EMPTY" => "",
        "YES" => "true",
        "MANY" => "12",
        // Everything that could end a value, or begin another.
        "EVIL" => "a\"'\"b: c\n- d: [e, {f: *g}] h $HOST ${HOST} $$ # i",
        _ => return Err(VarError::NotPresent),
    };
    Ok(value.to_owned())
}

/// Reads with expansion.
pub fn read(text: &str) -> Result<Config, ConfigError> {
    parse(text, "walcast.yml", Some(&env))
}

/// The lines that are said of the text.
pub fn said(text: &str) -> Vec<String> {
    match read(text) {
        Ok(_) => Vec::new(),
        Err(error) => error.lines().collect(),
    }
}
