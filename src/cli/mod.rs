//! The command line: one file for each command.

mod archive;
mod archive_source;
mod backup;
mod client;
mod completions;
mod config;
mod database;
mod detach;
mod exit;
mod listing;
mod logging;
mod place;
mod primary;
mod process;
mod progress;
mod replica;
mod restore;
mod run;
mod scratch;
mod security;
mod serve;
mod status;
mod stdout;
mod table;
mod taking;
mod units;
mod verify;

pub use exit::{Exit, Failure};
pub use process::end_on_panic;
pub use security::{ClientSecurityArgs, ServerSecurityArgs, UpstreamSecurityArgs};

use crate::{demo, node};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Live read replicas for SQLite, over gRPC.
///
/// `walcast primary` captures what an application commits to its database; `walcast replica` keeps a copy of it that
/// other programs read while it changes. The other commands look at running servers and steer them.
#[derive(Debug, Parser)]
#[command(name = "walcast", version, max_term_width = 110, after_help = exit::HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Primary(primary::PrimaryArgs),
    Replica(Box<replica::ReplicaArgs>),
    Config(config::ConfigArgs),
    Status(status::StatusArgs),
    Position(client::PositionArgs),
    Wait(client::WaitArgs),
    Pause(client::PauseArgs),
    Resume(client::ResumeArgs),
    Detach(detach::DetachArgs),
    Health(client::HealthArgs),
    Verify(verify::VerifyArgs),
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
    Archive(archive::ArchiveArgs),
    Databases(listing::DatabasesArgs),
    Generations(listing::GenerationsArgs),
    Snapshots(listing::SnapshotsArgs),
    Wal(listing::WalArgs),
    Completions(completions::CompletionsArgs),
    Man(completions::ManArgs),
    Demo(demo::DemoArgs),
    #[command(hide = true)]
    DemoWriter(demo::WriterArgs),
    #[command(hide = true)]
    DemoChild(demo::ChildArgs),
}

impl Cli {
    /// Runs the command to its end.
    pub fn run(self) -> ExitCode {
        let result = match self.command {
            Command::Run(args) => return ended(run::run(args)),
            Command::Primary(args) => return ended(primary::run(args)),
            Command::Replica(args) => return ended(replica::run(*args)),
            Command::Config(args) => config::run(args),
            Command::Status(args) => status::run(args),
            Command::Position(args) => client::position(args),
            Command::Wait(args) => client::wait(args),
            Command::Pause(args) => client::pause(args),
            Command::Resume(args) => client::resume(args),
            Command::Detach(args) => detach::run(args),
            Command::Health(args) => client::health(args),
            Command::Verify(args) => verify::run(args),
            Command::Backup(args) => backup::run(args),
            Command::Restore(args) => restore::run(args),
            Command::Archive(args) => archive::run(args),
            Command::Databases(args) => listing::databases(args),
            Command::Generations(args) => listing::generations(args),
            Command::Snapshots(args) => listing::snapshots(args),
            Command::Wal(args) => listing::wal(args),
            Command::Completions(args) => completions::completions(args),
            Command::Man(args) => completions::man(args),
            Command::Demo(args) => return of_demo(demo::run(args)),
            Command::DemoWriter(args) => return of_demo(demo::run_writer(args)),
            Command::DemoChild(args) => return of_demo(demo::run_child(args)),
        };
        ended(result.map(ExitCode::from))
    }
}

/// The exit code of a command, and what it failed of.
fn ended(result: Result<ExitCode, Failure>) -> ExitCode {
    result.unwrap_or_else(|failure| {
        let words = format!("walcast: {failure}");
        node::announce(logging::format(), "ERROR", &words);
        failure.exit().into()
    })
}

/// The demonstration has exit codes of its own, as 130 for Ctrl-C.
fn of_demo(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("walcast: {error:#}");
        Exit::Failed.into()
    })
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::{CommandFactory as _, Parser as _};

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_readme_parses() {
        for line in [
            "walcast primary --db app.db --listen 127.0.0.1:4040",
            "walcast primary --db app.db --db b=other.db --retain-size 512MiB --retain-age 1h30m --heartbeat 500ms",
            "walcast replica --upstream http://127.0.0.1:4040 --db app.db=/replica/app.db --listen 127.0.0.1:4041",
            "walcast replica --upstream http://h:1 --db a --max-staleness 10s --scrub-interval 24h --wal-soft-limit 1MiB",
            "walcast run --config walcast.yml --no-expand-env --exec true",
            "walcast run",
            "walcast primary --db app.db --exec true --http-listen 127.0.0.1:0",
            "walcast primary --db tenants/a.db=/data/a.db",
            "walcast status --server http://127.0.0.1:4040",
            "walcast status --server http://127.0.0.1:4040 --json",
            "walcast position --server http://127.0.0.1:4041 --db app.db",
            "walcast wait --server http://h:1 --db a --position 89abcdef01234567/0000000000000003:00000000000010f8 --max-wait 5s",
            "walcast pause --server http://h:1 --db app.db",
            "walcast resume --server http://h:1 --db app.db",
            "walcast detach --server http://h:1 --db app.db",
            "walcast detach --db /replica/app.db",
            "walcast health --server http://h:1",
            "walcast config check --config walcast.yml --no-expand-env",
            "walcast config show",
            "walcast demo",
            "walcast verify --primary http://h:1 --replica http://h:2 --db app.db",
            "walcast verify --primary /data/app.db --replica /replica/app.db --json",
            "walcast backup --server http://h:1 --db app.db --to /backup/app.db",
            "walcast backup --db /replica/app.db --to /backup/app.db --force --mode 0600",
            "walcast restore -o app.db /backup/app",
            "walcast restore --config walcast.yml --if-db-not-exists --if-archive-exists /data/app.db",
            "walcast restore --to-time 2026-11-27T23:04:11Z --sound --parallelism 8 -o a s3://bucket/app",
            "walcast restore --to-position 89abcdef01234567/0000000000000003:00000000000010f8 -o a b --force",
            "walcast archive verify --json /backup/app",
            "walcast databases --config walcast.yml",
            "walcast generations --json /backup/app",
            "walcast snapshots --generation 89abcdef01234567 /backup/app",
            "walcast wal /backup/app",
            "walcast status --server http://h:1 --watch",
            "walcast status --server http://h:1 --watch 2s --json",
            "walcast primary --db a --log-format json",
            "walcast completions bash",
            "walcast man --out /tmp",
            "walcast demo --seconds 10 --rate 0 --replicas 3 --dir d --keep",
        ] {
            Cli::try_parse_from(line.split_whitespace()).expect(line);
        }
        for line in [
            "walcast primary",
            "walcast primary --db a --retain-size 1",
            "walcast primary --db a --heartbeat 0s",
            "walcast primary --db a --log-level nonsense",
            "walcast primary --db a --log-level walcast=loud",
            "walcast replica --db a",
            "walcast wait --server http://h:1 --db a --position 1",
            "walcast demo --replicas 0",
            "walcast status --server http://h:1 --watch 1ms",
            "walcast backup --db a --to b --mode 0999",
            "walcast backup --db a --to b --mode 0400",
            "walcast restore -o a --to-time yesterday b",
            "walcast restore -o a --to-position 1 b",
            "walcast restore -o a --parallelism 0 b",
            "walcast archive",
            "walcast completions tcsh",
            "walcast primary --db a --log-format xml",
            "walcast primary --db a --listen 4040",
            "walcast primary --db a --http-listen localhost",
            "walcast replica --upstream http://h:1 --db a --listen h:port",
            "walcast nonsense",
        ] {
            Cli::try_parse_from(line.split_whitespace()).expect_err(line);
        }
        let long = "n".repeat(256);
        for name in ["", "two\nlines", &long] {
            let primary = ["walcast", "primary", "--db", "a", "--server-id", name];
            Cli::try_parse_from(primary).expect_err(name);
            let replica = [
                "walcast",
                "replica",
                "--upstream",
                "http://h:1",
                "--db",
                "a",
                "--name",
                name,
            ];
            Cli::try_parse_from(replica).expect_err(name);
        }
    }
}
