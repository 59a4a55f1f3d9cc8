//! From a file to a configuration.

use super::expand::Env;
use super::fields::Fields;
use super::model::Config;
use super::problem::{ConfigError, Place, Problem, Problems};
use super::values::parse_command;
use super::{entries, schema, server, whole, yaml};
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Where the file is looked for if none is named, in this order.
pub const DEFAULT_FILES: [&str; 2] = ["walcast.yml", "/etc/walcast.yml"];

/// A configuration and what should be said of its file.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// One line each; nothing is refused because of them.
    pub warnings: Vec<String>,
}

/// The file that is meant: the named one, or the first of [`DEFAULT_FILES`] that exists.
pub fn find(named: Option<&Path>) -> Result<PathBuf, ConfigError> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    let exists = |file: &&&str| Path::new(file).symlink_metadata().is_ok();
    match DEFAULT_FILES.iter().find(exists) {
        Some(file) => Ok(PathBuf::from(file)),
        None => {
            let text = format!(
                "there is no such file, and no {}; name one with --config FILE",
                DEFAULT_FILES[1]
            );
            Err(ConfigError::whole(DEFAULT_FILES[0], text))
        }
    }
}

/// Reads a file. With `expand`, `$NAME` and `${NAME}` in values are replaced from the environment.
pub fn load(path: &Path, expand: bool) -> Result<Config, ConfigError> {
    load_with_warnings(path, expand).map(|loaded| loaded.config)
}

/// The same, with what should be said of the file.
pub fn load_with_warnings(path: &Path, expand: bool) -> Result<Loaded, ConfigError> {
    let name = path.display().to_string();
    let (text, world_readable) = read(path, &name)?;
    let env = |variable: &str| std::env::var(variable);
    let (config, literal_tokens) = read_all(&text, &name, expand.then_some(&env as &Env<'_>))?;
    let warn = |place: &Place| {
        format!(
            "{name}:{place}: everyone on this machine can read this token; chmod o-r the file, or use `token-file` or a \
             variable"
        )
    };
    let warnings = match world_readable {
        true => literal_tokens.iter().map(warn).collect(),
        false => Vec::new(),
    };
    Ok(Loaded { config, warnings })
}

/// The file's text, and whether all users can read it.
fn read(path: &Path, name: &str) -> Result<(String, bool), ConfigError> {
    let fail = |text: String| ConfigError::whole(name, text);
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => fail("there is no such file".to_owned()),
        ErrorKind::IsADirectory => fail("this is a directory, not a file".to_owned()),
        _ => fail(format!("cannot be read: {error}")),
    };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    let mut bytes = Vec::new();
    // One byte more, so that a file of the largest size and one beyond it differ.
    let limit = yaml::MAX_BYTES as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > yaml::MAX_BYTES {
        let text = format!(
            "has more than {} bytes; this is no configuration",
            yaml::MAX_BYTES
        );
        return Err(fail(text));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok((text, mode & 0o004 != 0)),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let before = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
            let place = Place {
                line: before.matches('\n').count() + 1,
                column: before
                    .rsplit('\n')
                    .next()
                    .unwrap_or_default()
                    .chars()
                    .count()
                    + 1,
            };
            let problem = Problem {
                place: Some(place),
                text: "this is not UTF-8".to_owned(),
            };
            Err(ConfigError::new(name, vec![problem]))
        }
    }
}

/// Reads a text; `file` names it in messages. Without `env`, a `$` is a `$`.
pub fn parse(text: &str, file: &str, env: Option<&Env<'_>>) -> Result<Config, ConfigError> {
    read_all(text, file, env).map(|(config, _)| config)
}

fn read_all(
    text: &str,
    file: &str,
    env: Option<&Env<'_>>,
) -> Result<(Config, Vec<Place>), ConfigError> {
    if text.len() > yaml::MAX_BYTES {
        let text = format!(
            "has more than {} bytes; this is no configuration",
            yaml::MAX_BYTES
        );
        return Err(ConfigError::whole(file, text));
    }
    let problems = Problems::default();
    let config = match yaml::read(text, env, &problems) {
        Ok(Some(root)) => {
            Fields::of(&root, &schema::FILE, &problems).map(|top| config(&top, &problems))
        }
        Ok(None) => {
            let text = "there is nothing in this file; `dbs` is missing, the list of databases";
            return Err(ConfigError::whole(file, text));
        }
        Err(problem) => {
            let mut list = problems.into_list();
            list.push(problem);
            return Err(ConfigError::new(file, list));
        }
    };
    match config {
        Some(config) if problems.is_empty() => Ok((config, problems.into_literal_tokens())),
        _ => Err(ConfigError::new(file, problems.into_list())),
    }
}

fn config(top: &Fields<'_>, problems: &Problems) -> Config {
    let server = server::read(top, problems);
    let exec = top.text("exec", parse_command);
    let entries = entries::read(top, server.insecure, problems);
    whole::check_entries(&entries, problems);
    let ready = server::ready_names(top);
    whole::check_readiness(&server.readiness, &ready, &entries, problems);
    Config {
        take_over: false,
        server,
        entries: entries.into_iter().map(|placed| placed.entry).collect(),
        exec,
    }
}
