//! What a person sees.
//!
//! On a terminal the lines to copy stay where they are and the figures below them are drawn again and again; anywhere
//! else (a file, a pipe) there is one line a second.

use super::stats::{bytes, clock, short_time, thousands};
use super::watch::{LOOK_EVERY, Lag};
use crate::format::position::Position;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// All figures of one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// Since the start.
    pub elapsed: Duration,
    /// Commits per second, of late.
    pub rate: f64,
    /// Commits since the start.
    pub commits: i64,
    /// What a commit takes the application.
    pub commit_takes: Lag,
    /// The primary's position.
    pub position: Option<Position>,
    /// The replicas.
    pub replicas: Vec<ReplicaView>,
}

/// Figures of one replica.
#[derive(Clone, Debug)]
pub struct ReplicaView {
    /// Its name.
    pub name: String,
    /// In one word, what it is doing.
    pub state: String,
    /// What its readers see.
    pub position: Option<Position>,
    /// How late they see it.
    pub lag: Option<Lag>,
    /// The newest row that they see.
    pub newest: i64,
    /// Bytes that the primary sent it.
    pub sent: u64,
}

/// What does not change.
pub struct Facts {
    /// This program.
    pub program: PathBuf,
    /// Where all files are.
    pub root: PathBuf,
    /// The application's database.
    pub primary: PathBuf,
    /// The first replica's file.
    pub replica: PathBuf,
    /// The primary's server.
    pub url: String,
    /// How many replicas there are.
    pub replicas: usize,
}

/// A terminal, or what is there instead.
pub struct Screen {
    terminal: bool,
    colours: bool,
    drawn: usize,
    gone: bool,
}

impl Default for Screen {
    fn default() -> Screen {
        Screen::new()
    }
}

impl Screen {
    /// Standard output.
    pub fn new() -> Screen {
        let terminal = io::stdout().is_terminal();
        let asked_not_to = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Screen {
            terminal,
            colours: terminal && !asked_not_to,
            drawn: 0,
            gone: false,
        }
    }

    /// Time between two pictures.
    pub fn interval(&self) -> Duration {
        Duration::from_millis(if self.terminal { 250 } else { 1000 })
    }

    fn style(&self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Prints a line that stays.
    pub fn say(&mut self, line: &str) {
        self.print(&format!("{line}\n"));
    }

    fn print(&mut self, text: &str) {
        let mut stdout = io::stdout();
        // Nobody may be reading any more; that must not keep us from cleaning up.
        self.gone |= stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
            .is_err();
    }

    /// True if nobody is looking any more: the terminal was closed, or the other end of the pipe.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Prints what to copy.
    pub fn introduce(&mut self, facts: &Facts) {
        let bold = |text: &str| self.style("1", text);
        let dim = |text: &str| self.style("2", text);
        let replicas = match facts.replicas {
            1 => "one replica".to_owned(),
            n => format!("{n} replicas"),
        };
        let title =
            format!("walcast: an application, a primary and {replicas}, each a process of its own");
        let lines = [
            String::new(),
            bold(&title),
            String::new(),
            format!("  application's file  {}", facts.primary.display()),
            format!("  a replica's file    {}", facts.replica.display()),
            format!(
                "  logs                {}",
                facts.root.join("*.log").display()
            ),
            String::new(),
            dim("  Read a replica while it runs, from any program:"),
            format!("    {}", sqlite3_line(&facts.replica)),
            format!("    {}", python_line(&facts.replica)),
            dim("  and see what the primary knows of its replicas:"),
            format!(
                "    {} status --server {}",
                shell_word(&facts.program.display().to_string()),
                facts.url
            ),
            String::new(),
        ];
        for line in lines {
            self.say(&line);
        }
    }

    /// Shows the figures.
    pub fn draw(&mut self, view: &View) {
        if !self.terminal {
            return self.say(&one_line(view));
        }
        let lines = self.picture(view);
        let mut out = String::new();
        if self.drawn > 0 {
            out.push_str(&format!("\x1b[{}A", self.drawn));
        }
        // No wrapping: a line that took two rows would spoil the count of rows to go up.
        out.push_str("\x1b[?7l\x1b[?25l");
        for line in &lines {
            out.push_str(&format!("\x1b[2K{line}\n"));
        }
        out.push_str("\x1b[?7h\x1b[?25h");
        self.drawn = lines.len();
        self.print(&out);
    }

    fn picture(&self, view: &View) -> Vec<String> {
        let dim = |text: &str| self.style("2", text);
        let mut lines = vec![
            format!(
                "  {}  {} commits/s   {} commits   each takes {}, p99 {}",
                self.style("1", "application"),
                self.style("1;36", &thousands(view.rate.round().max(0.0) as u64)),
                thousands(view.commits.unsigned_abs()),
                short_time(view.commit_takes.p50),
                short_time(view.commit_takes.p99),
            ),
            format!(
                "  {}      {}",
                self.style("1", "primary"),
                view.position
                    .map_or("no position yet".to_owned(), |p| p.to_string()),
            ),
            String::new(),
            dim(&format!(
                "  {:<11}  {:<12}  {:>10}  {:>10}  {:>10}  {:>11}  {}",
                "REPLICA", "STATE", "LAG p50", "LAG p99", "SENT", "NEWEST ROW", "POSITION"
            )),
        ];
        lines.extend(
            view.replicas
                .iter()
                .map(|replica| self.row(replica, view.position)),
        );
        lines.push(String::new());
        lines.push(dim(&format!(
            "  {}  Lag: from the application's INSERT until a reader, looking every {} ms, sees the row.",
            clock(view.elapsed),
            LOOK_EVERY.as_millis()
        )));
        lines.push(dim(
            "  Ctrl-C stops the application, compares all files, and cleans up.",
        ));
        lines
    }

    fn row(&self, replica: &ReplicaView, primary: Option<Position>) -> String {
        let [p50, p99] = lag_cells(replica.lag);
        let colour = if replica.state == "streaming" {
            "32"
        } else {
            "33"
        };
        format!(
            "  {:<11}  {}  {}  {p99:>10}  {:>10}  {:>11}  {}",
            replica.name,
            self.style(colour, &format!("{:<12}", replica.state)),
            self.style("1;36", &format!("{p50:>10}")),
            bytes(replica.sent),
            thousands(replica.newest.unsigned_abs()),
            short_position(replica.position, primary),
        )
    }
}

fn lag_cells(lag: Option<Lag>) -> [String; 2] {
    match lag {
        Some(lag) => [short_time(lag.p50), short_time(lag.p99)],
        None => ["-", "-"].map(str::to_owned),
    }
}

/// Index and offset, where the generation is the primary's.
fn short_position(position: Option<Position>, primary: Option<Position>) -> String {
    match position {
        None => "-".to_owned(),
        Some(p) if primary.is_some_and(|primary| primary.generation == p.generation) => {
            format!("{:x}:{:x}", p.index, p.offset)
        }
        Some(p) => p.to_string(),
    }
}

fn one_line(view: &View) -> String {
    let mut line = format!(
        "{:>5}  {} commits/s  {} commits",
        clock(view.elapsed),
        thousands(view.rate.round().max(0.0) as u64),
        thousands(view.commits.unsigned_abs())
    );
    for replica in &view.replicas {
        let [p50, p99] = lag_cells(replica.lag);
        line.push_str(&format!(
            "  |  {} {} {} lag p50 {p50} p99 {p99} sent {}",
            replica.name,
            replica.state,
            short_position(replica.position, view.position),
            bytes(replica.sent)
        ));
    }
    line
}

/// A word as a shell takes it.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// The file as a URI that opens it read-only.
fn uri(path: &Path) -> String {
    let mut uri = "file:".to_owned();
    for c in path.display().to_string().chars() {
        match c {
            '%' | '?' | '#' | '\'' | '"' | '\\' => uri.push_str(&format!("%{:02X}", u32::from(c))),
            c => uri.push(c),
        }
    }
    uri + "?mode=ro"
}

const QUERY: &str = "select count(*), max(id) from orders";

fn sqlite3_line(path: &Path) -> String {
    format!("sqlite3 '{}' '{QUERY}'", uri(path))
}

fn python_line(path: &Path) -> String {
    format!(
        "python3 -c 'import sqlite3; print(sqlite3.connect(\"{}\", uri=True).execute(\"{QUERY}\").fetchone())'",
        uri(path)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        let at = |text: &str| text.parse().ok();
        let ms = |p50, p99| Lag {
            p50: Duration::from_micros(p50),
            p99: Duration::from_micros(p99),
        };
        let replica = |name: &str, lag, position| ReplicaView {
            name: name.to_owned(),
            state: "streaming".to_owned(),
            position,
            lag,
            newest: 12_034,
            sent: 5_100_000,
        };
        View {
            elapsed: Duration::from_secs(12),
            rate: 999.7,
            commits: 12_034,
            commit_takes: ms(21, 64),
            position: at("89abcdef01234567/0000000000000003:00000000000010f8"),
            replicas: vec![
                replica(
                    "replica-1",
                    Some(ms(412, 920)),
                    at("89abcdef01234567/0000000000000003:00000000000010f8"),
                ),
                replica("replica-2", None, None),
            ],
        }
    }

    #[test]
    fn one_line_says_it_all() {
        assert_eq!(
            one_line(&view()),
            " 0:12  1,000 commits/s  12,034 commits  \
             |  replica-1 streaming 3:10f8 lag p50 0.41 ms p99 0.92 ms sent 5.1 MB  \
             |  replica-2 streaming - lag p50 - p99 - sent 5.1 MB"
        );
    }

    #[test]
    fn columns_line_up_without_colours_as_with_them() {
        let plain = Screen {
            terminal: true,
            colours: false,
            drawn: 0,
            gone: false,
        };
        let picture = plain.picture(&view());
        let column = |line: &str, word: &str| line.find(word).map(|at| line[..at].chars().count());
        let (head, row) = (&picture[3], &picture[4]);
        assert_eq!(column(head, "POSITION"), column(row, "3:10f8"));
        assert_eq!(column(head, "STATE"), column(row, "streaming"));
        assert!(
            picture.iter().all(|line| line.chars().count() < 100),
            "{picture:#?}"
        );
        let colourful = Screen {
            colours: true,
            ..plain
        };
        assert!(colourful.picture(&view())[4].contains("\x1b["));
        assert_eq!(colourful.picture(&view()).len(), picture.len());
    }

    #[test]
    fn the_lines_to_copy_are_for_a_shell() {
        let path = Path::new("/tmp/a b/it's?.db");
        assert_eq!(
            sqlite3_line(path),
            "sqlite3 'file:/tmp/a b/it%27s%3F.db?mode=ro' 'select count(*), max(id) from orders'"
        );
        assert!(
            !python_line(path)[12..]
                .trim_end_matches('\'')
                .contains('\'')
        );
        assert_eq!(shell_word("/usr/bin/walcast"), "/usr/bin/walcast");
        assert_eq!(shell_word("it's"), "'it'\\''s'");
    }
}
