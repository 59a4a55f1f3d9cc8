//! Progress of long work: a bar on a terminal, a line now and then otherwise. To stderr, so that results stay alone.

use super::units::show_size;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// Time between two lines where there is no terminal.
const LINES: Duration = Duration::from_secs(5);
const TEMPLATE: &str = "{msg} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";

/// Work that is counted in bytes. Nothing of a bar is left on the screen once it is dropped.
pub(super) struct Progress {
    what: String,
    bar: Option<ProgressBar>,
    total: u64,
    done: u64,
    next_line: Instant,
}

impl Progress {
    /// Begins; `quiet`: shows nothing.
    pub(super) fn new(what: &str, quiet: bool) -> Progress {
        let bar = (std::io::stderr().is_terminal() && !quiet).then(|| {
            let style = ProgressStyle::with_template(TEMPLATE)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr())
                .with_style(style)
                .with_message(what.to_owned())
        });
        Progress {
            what: what.to_owned(),
            bar,
            total: 0,
            done: 0,
            next_line: Instant::now() + if quiet { Duration::MAX / 4 } else { LINES },
        }
    }

    /// How much there is, about.
    pub(super) fn of(&mut self, total: u64) {
        self.total = total;
        if let Some(bar) = &self.bar {
            bar.set_length(total);
        }
    }

    /// So many bytes more are done.
    pub(super) fn add(&mut self, bytes: u64) {
        self.done += bytes;
        match &self.bar {
            Some(bar) => bar.set_position(self.done),
            None if Instant::now() >= self.next_line => {
                self.next_line = Instant::now() + LINES;
                eprintln!("{}", line(&self.what, self.done, self.total));
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(what: &str, done: u64, total: u64) -> String {
    // What is announced is about right: more may come.
    let total = total.max(done);
    let percent = (done as f64 / total.max(1) as f64 * 100.0).floor();
    format!(
        "{what}: {} of {} ({percent} %)",
        show_size(done),
        show_size(total)
    )
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn a_line_says_what_how_much_and_of_how_much() {
        assert_eq!(line("a", 1 << 20, 3 << 20), "a: 1.0 MiB of 3.0 MiB (33 %)");
        assert_eq!(line("a", 0, 0), "a: 0 B of 0 B (0 %)");
        assert_eq!(line("a", 2048, 1024), "a: 2.0 KiB of 2.0 KiB (100 %)");
    }
}
