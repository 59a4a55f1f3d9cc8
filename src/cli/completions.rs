//! `walcast completions` and `walcast man`.

use super::Cli;
use super::exit::{Exit, Failure};
use super::stdout::print;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use std::io;
use std::path::{Path, PathBuf};

/// Print a script that completes commands and options in a shell
///
/// The script belongs where the shell looks for completions.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  walcast completions bash > /usr/share/bash-completion/completions/walcast
  walcast completions zsh > /usr/share/zsh/vendor-completions/_walcast
  walcast completions fish > /usr/share/fish/vendor_completions.d/walcast.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn completions(args: CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "walcast", &mut script);
    print(&script)
}

/// Print the manual page, or write one for each command
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  walcast man | man -l -
  walcast man --out /usr/share/man/man1")]
pub struct ManArgs {
    /// Write walcast.1 and a page for each command into this directory, which must exist
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn man(args: ManArgs) -> Result<Exit, Failure> {
    let mut command = Cli::command();
    // So that each page is named after its command line.
    command.build();
    let Some(out) = args.out else {
        return print(&page(&command)?);
    };
    write(&out, "walcast", &command)?;
    for sub in visible(&command) {
        write(&out, &format!("walcast-{}", sub.get_name()), sub)?;
    }
    Ok(Exit::Done)
}

fn visible(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
}

fn failed(what: &str, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{what}: {error}"))
}

fn page(command: &clap::Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .render(&mut page)
        .map_err(|error| failed("render the manual page", &error))?;
    Ok(page)
}

fn write(directory: &Path, name: &str, command: &clap::Command) -> Result<(), Failure> {
    let path = directory.join(format!("{name}.1"));
    std::fs::write(&path, page(command)?)
        .map_err(|error| failed(&format!("write {}", path.display()), &error))
}
