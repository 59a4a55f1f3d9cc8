//! What the servers of a site printed; and what is kept of a failure.

use super::Site;
use crate::support::proc::tail;

impl Site {
    /// Searches the servers' logs for what must not be there, counts what is of interest, and removes those of runs that
    /// ended.
    pub fn look_through_logs(&mut self) {
        const COUNTED: [&str; 3] = [
            "sending snapshot",
            "a snapshot heals it",
            "was changed by another program",
        ];
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            if path.extension().is_none_or(|ext| ext != "log") {
                continue;
            }
            let text =
                String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).into_owned();
            let seen = self.read_logs.entry(path.clone()).or_default();
            let fresh = text.get(*seen..).unwrap_or_default();
            *seen = text.len();
            let name = self.setup.name;
            if fresh.contains("panicked at") {
                self.shared
                    .fail(&format!("{name}: {}:\n{}", path.display(), tail(fresh)));
            }
            for what in COUNTED {
                let number = fresh.lines().filter(|line| line.contains(what)).count();
                self.shared
                    .count(&format!("{name}: {what:?} in the logs"), number as u64);
            }
        }
        let current = [
            self.cluster.primary.current_log(),
            self.cluster.replica.current_log(),
        ];
        self.read_logs.retain(|path, _| {
            let keep = current.contains(path);
            if !keep {
                let _told_next_time = std::fs::remove_file(path);
            }
            keep
        });
    }

    /// Copies all of the site's files, for whoever looks at a failure.
    pub fn keep_evidence(&self) {
        let number = self.shared.failures();
        let to = self
            .shared
            .out
            .join(format!("evidence-{}-{number}", self.setup.name));
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .arg(&self.dir)
            .arg(&to)
            .status();
        self.shared
            .say(&format!("evidence in {}: {copied:?}", to.display()));
    }
}
