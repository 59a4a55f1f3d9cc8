//! The status again and again: in place on a terminal, one after the other otherwise.

use super::super::exit::{Exit, Failure};
use super::super::process::shutdown;
use super::show;
use crate::client::Admin;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

/// The other screen, so that what was there comes back; no cursor; lines cut at the edge instead of wrapped.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K\n";
const CLEAR_BELOW: &str = "\x1b[J";

/// A terminal that is given back as it was, whatever happens.
struct Screen;

impl Screen {
    fn enter() -> io::Result<Screen> {
        write(ENTER)?;
        Ok(Screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = write(LEAVE);
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Until Ctrl-C. A server that cannot be reached for a while is shown as such, not the end.
pub(super) async fn run(admin: &Admin, interval: Duration, json: bool) -> Result<Exit, Failure> {
    let stop = shutdown()?;
    tokio::pin!(stop);
    let in_place = io::stdout().is_terminal() && !json;
    let failed = |error: io::Error| Failure::new(Exit::Failed, format!("write: {error}"));
    let _screen = match in_place {
        true => Some(Screen::enter().map_err(failed)?),
        false => None,
    };
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let shown = tokio::select! {
            () = &mut stop => return Ok(Exit::Done),
            shown = async {
                ticks.tick().await;
                show(admin, json).await
            } => shown,
        };
        let text = match shown {
            Ok(text) if in_place => frame(admin.url(), interval, &text),
            Ok(text) if json => text,
            Ok(text) => text + "\n",
            Err(failure) if in_place => frame(admin.url(), interval, &format!("{failure}\n")),
            Err(failure) => {
                eprintln!("walcast: {failure}");
                continue;
            }
        };
        match write(&text) {
            // Whoever reads it has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
            written => written.map_err(failed)?,
        }
    }
}

/// One picture, drawn over the last one.
fn frame(url: &str, interval: Duration, text: &str) -> String {
    let mut out = format!("{HOME}{url}, each {interval:?}, Ctrl-C ends{CLEAR_LINE}{CLEAR_LINE}");
    for line in text.lines() {
        out.push_str(line);
        out.push_str(CLEAR_LINE);
    }
    out.push_str(CLEAR_BELOW);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_leaves_nothing_of_the_last_one() {
        let shown = frame("http://h:1", Duration::from_secs(1), "a\nb\n");
        let expected =
            "\x1b[Hhttp://h:1, each 1s, Ctrl-C ends\x1b[K\n\x1b[K\na\x1b[K\nb\x1b[K\n\x1b[J";
        assert_eq!(shown, expected);
    }
}
