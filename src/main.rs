//! The walcast program: everything is in the library, so that tests can link it.

use clap::Parser as _;
use std::process::ExitCode;
use walcast::cli::{self, Cli, Exit};

fn main() -> ExitCode {
    if let Err(error) = walcast::disk::fault::init_from_env() {
        eprintln!("walcast: WALCAST_FAULTS: {error}");
        return Exit::Usage.into();
    }
    cli::end_on_panic();
    walcast::sys::allow_many_files();
    Cli::parse().run()
}
