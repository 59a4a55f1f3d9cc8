//! `walcast run`.

use super::config::ConfigFileArgs;
use super::exit::Failure;
use super::{logging, serve};
use crate::node::Source;
use clap::Args;
use std::process::ExitCode;

/// Run all databases of a configuration file
///
/// Each database without an upstream is captured, each with one is a copy of it; a directory has all that match its
/// pattern, as they come and go. SIGHUP reads the file again: what did not change is not interrupted, and a file with a
/// mistake changes nothing.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  walcast run --config walcast.yml
  walcast run --config walcast.yml --exec 'python3 app.py'
  kill -HUP PID")]
pub struct RunArgs {
    #[command(flatten)]
    file: ConfigFileArgs,
    /// Run the application as a child, instead of what the file says
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    /// Take archives that belong to another primary, which will then write there no more. Each is taken once
    #[arg(long)]
    take_over: bool,
}

pub(super) fn run(args: RunArgs) -> Result<ExitCode, Failure> {
    let source = Source {
        path: args.file.path()?,
        expand: !args.file.no_expand_env,
        exec: args.exec.clone(),
    };
    let mut config = args.file.load()?;
    if args.exec.is_some() {
        config.exec = args.exec;
    }
    config.take_over = args.take_over;
    logging::start(&config.server.log);
    serve::run(config, Some(source))
}
