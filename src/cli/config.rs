//! `walcast config`, and the arguments by which commands are told of a configuration's file.

use super::exit::{Exit, Failure};
use super::stdout::print;
use crate::config::{self, Config, Entry, Loaded};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Check and show a configuration file
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  walcast config check --config walcast.yml
  walcast config show")]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say what is wrong with the file, each mistake in a line FILE:LINE:COLUMN: WHAT; exit code 2 if anything is
    Check(ConfigFileArgs),
    /// Show what the file comes to, with variables replaced, defaults filled in and tokens masked
    Show(ConfigFileArgs),
}

/// Which file, and how it is read.
#[derive(Args, Clone, Debug)]
pub struct ConfigFileArgs {
    /// The configuration file; default: walcast.yml here, or else /etc/walcast.yml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Take $NAME and ${NAME} in the file as they are, instead of replacing them from the environment
    #[arg(long)]
    pub no_expand_env: bool,
}

impl ConfigFileArgs {
    /// The file that is meant.
    pub fn path(&self) -> Result<PathBuf, Failure> {
        config::find(self.config.as_deref()).map_err(told)
    }

    /// Reads the file. What is wrong with it goes to stderr, a line for each mistake, and so does what it is warned of.
    pub fn load(&self) -> Result<Config, Failure> {
        let loaded = config::load_with_warnings(&self.path()?, !self.no_expand_env);
        let Loaded { config, warnings } = loaded.map_err(told)?;
        for warning in warnings {
            eprintln!("walcast: warning: {warning}");
        }
        Ok(config)
    }
}

/// Editors jump to lines that begin with FILE:LINE:COLUMN, so the mistakes stand in lines of their own.
fn told(error: config::ConfigError) -> Failure {
    eprintln!("{error}");
    Failure::new(Exit::Usage, error.summary())
}

pub(super) fn run(args: ConfigArgs) -> Result<Exit, Failure> {
    match args.command {
        ConfigCommand::Check(args) => {
            let path = args.path()?;
            let counts = count(&args.load()?);
            print(format!("{}: ok: {counts}\n", path.display()))
        }
        ConfigCommand::Show(args) => print(config::show(&args.load()?)),
    }
}

/// Such as `3 databases, 1 directory`.
fn count(config: &Config) -> String {
    let is_database = |entry: &&Entry| matches!(entry, Entry::Database(_));
    let databases = config.entries.iter().filter(is_database).count();
    let directories = config.entries.len() - databases;
    let part = |number: usize, one: &str, many: &str| match number {
        0 => None,
        1 => Some(format!("1 {one}")),
        n => Some(format!("{n} {many}")),
    };
    let parts = [
        part(databases, "database", "databases"),
        part(directories, "directory", "directories"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
