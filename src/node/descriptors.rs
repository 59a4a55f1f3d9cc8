//! Open files: what the databases need, and what the system allows. Too few would show as failures in the middle of work.

use super::plan::{Plan, Spec};
use nix::sys::resource::{Resource, getrlimit};

/// Of a primary: the database twice (ours and SQLite's), its log twice, the shared memory, the lock, the page table, a
/// segment and its sidecar; and one for a moment's work.
const PRIMARY: u64 = 10;
/// Of a replica: the database and its log twice, the shared memory, the lock, the page table, two records; the database and
/// its log for checkpoints; and one for a moment's work.
const REPLICA: u64 = 12;
/// Beside the databases: the ports, connections, streams that read what was kept.
const OTHERS: u64 = 64;

/// What one database needs.
fn of(spec: &Spec) -> u64 {
    match spec {
        Spec::Primary { .. } => PRIMARY,
        Spec::Replica { .. } => REPLICA,
        Spec::Shown { .. } => 0,
    }
}

/// What this process may have open: the limit was raised as far as it goes when the process began.
pub fn allowed() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}

/// Leaves out the databases for which the files do not suffice. `Some`: there were such, and this is what to do.
pub fn fit(plan: &mut Plan, allowed: u64) -> Option<String> {
    let needed: u64 = OTHERS + plan.values().map(of).sum::<u64>();
    if needed <= allowed {
        return None;
    }
    let databases = plan.values().filter(|spec| of(spec) > 0).count();
    let reason = format!(
        "{databases} databases need {needed} open files, and the system allows this process {allowed}; raise the limit: \
         `ulimit -n {needed}` in the shell that starts it, `LimitNOFILE={needed}` in a systemd unit"
    );
    let mut left = allowed.saturating_sub(OTHERS);
    for spec in plan.values_mut() {
        match left.checked_sub(of(spec)) {
            Some(rest) => left = rest,
            None => {
                left = 0;
                *spec = spec.refused(&reason);
            }
        }
    }
    Some(reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PrimaryOptions;

    fn plan(count: usize) -> Plan {
        let spec = |n| Spec::Primary {
            path: format!("/data/{n}.db").into(),
            options: PrimaryOptions::default(),
        };
        (0..count).map(|n| (format!("{n:03}"), spec(n))).collect()
    }

    #[test]
    fn what_suffices_changes_nothing() {
        let mut wanted = plan(10);
        assert_eq!(fit(&mut wanted, OTHERS + 10 * PRIMARY), None);
        assert_eq!(wanted, plan(10));
    }

    #[test]
    fn what_does_not_suffice_serves_some_and_names_the_number() {
        let mut wanted = plan(10);
        let reason = fit(&mut wanted, OTHERS + 7 * PRIMARY + 3).expect("too few");
        assert!(
            reason.contains("10 databases need 164 open files"),
            "{reason}"
        );
        let served = |spec: &&Spec| matches!(spec, Spec::Primary { .. });
        assert_eq!(wanted.values().take(7).filter(served).count(), 7);
        assert_eq!(wanted.values().filter(served).count(), 7);
    }
}
