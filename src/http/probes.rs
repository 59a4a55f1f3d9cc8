//! `/livez` and `/readyz`, for load balancers and orchestrators.
//!
//! Only replicas make a process unready: an application that is started after its sidecar would otherwise wait for a
//! database that it makes itself (`server::health` has the same rule for gRPC). A mirror is unready until it knows which
//! replicas it has. And no lag kills a process: what is
//! behind catches up sooner alive than restarted.
//!
//! Probes need no token, so only who may see metrics is told names, paths and addresses; others get numbers.

use crate::config::Readiness;
use crate::model::DatabaseState;
use crate::server::{Registry, Served};
use std::fmt::Write as _;
use std::time::Duration;

/// An answer, with what a person wants to know.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Yes or no.
    pub good: bool,
    /// One line for the answer, and one for each database that is not ready.
    pub text: String,
}

/// `Err`: why readers are not to be sent to this replica.
pub fn fault_of(served: &Served, max_staleness: Option<Duration>) -> Result<(), String> {
    let Served::Replica(replica) = served else {
        return Ok(());
    };
    if !replica.is_followed() {
        // Its upstream let it go: that is no fault of what is read here.
        return Ok(());
    }
    let status = replica.status();
    let fault = if matches!(status.state, DatabaseState::Failed | DatabaseState::Stopped) {
        "does not run".to_owned()
    } else if !replica.has_caught_up_once() {
        "was not level with its primary yet".to_owned()
    } else {
        let age = status.staleness_seconds;
        match max_staleness.map(|max| max.as_secs_f64()) {
            Some(max) if age < 0.0 || age > max => {
                format!("was last level with its primary {age:.1} s ago, {max} s are allowed")
            }
            _ => return Ok(()),
        }
    };
    match status.reason.as_str() {
        "" => Err(format!("{fault} ({})", status.state)),
        reason => Err(format!("{fault} ({}: {reason})", status.state)),
    }
}

/// Whether readers may be sent here.
pub fn readyz(
    registry: &Registry,
    readiness: &Readiness,
    draining: bool,
    may_name: impl Fn(&str) -> bool,
) -> Verdict {
    if draining {
        return Verdict {
            good: false,
            text: "not ready: shutting down\n".to_owned(),
        };
    }
    let max_staleness = registry.max_staleness();
    let mut ready = 0;
    let mut faults: Vec<(String, String)> = Vec::new();
    let list = registry.list();
    let names = list.iter().map(|served| served.database().name());
    if let Readiness::Named(wanted) = readiness {
        let known: Vec<&str> = names.collect();
        for name in wanted.iter().filter(|n| !known.contains(&n.as_str())) {
            faults.push((name.clone(), "is not here".to_owned()));
        }
    }
    if !matches!(readiness, Readiness::Named(_)) {
        faults.extend(registry.unknown());
    }
    for served in list.iter().filter(|s| matches!(s, Served::Replica(_))) {
        let name = served.database().name();
        if let Readiness::Named(wanted) = readiness
            && !wanted.iter().any(|w| w == name)
        {
            continue;
        }
        match fault_of(served, max_staleness) {
            // A copy that its upstream let go may be old: nobody's hope of a ready one rests on it.
            Ok(()) => ready += usize::from(is_followed(served)),
            Err(fault) => faults.push((name.to_owned(), fault)),
        }
    }
    let good = match readiness {
        Readiness::Any => ready > 0 || faults.is_empty(),
        Readiness::All | Readiness::Named(_) => faults.is_empty(),
    };
    let mut text = String::from(if good { "ready\n" } else { "not ready\n" });
    tell(&mut text, &faults, may_name, "not ready");
    Verdict { good, text }
}

fn is_followed(served: &Served) -> bool {
    match served {
        Served::Replica(replica) => replica.is_followed(),
        Served::Primary(_) => true,
    }
}

/// A line for each database that may be named, and the number of the others.
fn tell(
    text: &mut String,
    faults: &[(String, String)],
    may_name: impl Fn(&str) -> bool,
    what: &str,
) {
    let (named, others): (Vec<_>, Vec<_>) = faults.iter().partition(|(name, _)| may_name(name));
    // Writing to a string does not fail.
    for (name, fault) in named {
        let _ = writeln!(text, "{name}: {fault}");
    }
    if !others.is_empty() {
        let count = others.len();
        let _ = writeln!(
            text,
            "{what}: {count}; who may see metrics is told which, and why"
        );
    }
}

/// Whether this process works at all: it does when it answers. What has failed is told, since a restart may be wanted.
pub fn livez(registry: &Registry, may_name: impl Fn(&str) -> bool) -> Verdict {
    let statuses = registry.list().into_iter().map(|s| s.database().status());
    let faults: Vec<(String, String)> = statuses
        .filter(|status| status.state == DatabaseState::Failed)
        .map(|status| (status.name, format!("failed: {}", status.reason)))
        .collect();
    let mut text = String::from("alive\n");
    tell(&mut text, &faults, may_name, "failed");
    Verdict { good: true, text }
}
