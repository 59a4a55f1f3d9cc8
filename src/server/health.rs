//! Health as load balancers and probes see it (grpc.health.v1).
//!
//! A replica serves once it has been level with its primary, and goes on serving when it is not, unless `--max-staleness`
//! says otherwise: a primary's restart must not take all readers away. A primary's database serves while it is captured.
//! The server as a whole (`""`) serves while all of its replicas do; primaries do not count for it, since an application
//! that is started after its sidecar would otherwise wait for a database that it makes itself.

use super::database::Served;
use super::registry::Registry;
use super::shared::Shared;
use crate::model::DatabaseState;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// How late a change may show: far less than any probe's interval.
const INTERVAL: Duration = Duration::from_millis(200);

fn serves(served: &Served, max_staleness: Option<Duration>) -> bool {
    let (state, staleness) = served.database().pulse();
    if matches!(state, DatabaseState::Failed | DatabaseState::Stopped) {
        return false;
    }
    match served {
        Served::Primary(_) => state == DatabaseState::Streaming,
        Served::Replica(replica) => {
            let fresh =
                max_staleness.is_none_or(|max| (0.0..=max.as_secs_f64()).contains(&staleness));
            replica.has_caught_up_once() && fresh
        }
    }
}

/// The state of `""` and of each database.
fn survey(registry: &Registry) -> BTreeMap<String, bool> {
    let mut whole = true;
    let mut states = BTreeMap::new();
    let max_staleness = registry.max_staleness();
    for served in registry.list() {
        let state = serves(&served, max_staleness);
        whole &= match &served {
            Served::Primary(_) => true,
            Served::Replica(replica) => state || !replica.is_followed(),
        };
        states.insert(served.database().name().to_owned(), state);
    }
    states.insert(String::new(), whole);
    states
}

/// Sets what has changed, and forgets what is gone: a probe of that is answered with NOT_FOUND.
async fn report(
    reporter: &mut HealthReporter,
    known: &mut BTreeMap<String, bool>,
    now: BTreeMap<String, bool>,
) {
    for (name, serving) in &now {
        if known.get(name) != Some(serving) {
            let status = if *serving {
                ServingStatus::Serving
            } else {
                ServingStatus::NotServing
            };
            reporter.set_service_status(name, status).await;
        }
    }
    let gone = known.keys().filter(|name| !now.contains_key(*name));
    for name in gone {
        reporter.clear_service_status(name).await;
    }
    *known = now;
}

/// The reporter with the state as it is now. tonic-health reports `""` as serving from its start: this comes before the
/// first call can.
pub(super) async fn begin(shared: &Shared) -> (HealthReporter, BTreeMap<String, bool>) {
    let mut reporter = HealthReporter::new();
    let mut known = BTreeMap::new();
    report(&mut reporter, &mut known, survey(&shared.registry)).await;
    (reporter, known)
}

/// Keeps the reporter true until the drain begins; then nothing serves, and `told` is cancelled. Never returns.
pub(super) async fn keep(
    shared: &Shared,
    mut reporter: HealthReporter,
    mut known: BTreeMap<String, bool>,
    told: &CancellationToken,
) -> Infallible {
    let mut changes = shared.registry.changes();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            // What comes or goes shows at once.
            _ = changes.changed() => {}
            () = shared.draining.cancelled() => break,
        }
        report(&mut reporter, &mut known, survey(&shared.registry)).await;
    }
    let none = known.keys().map(|name| (name.clone(), false)).collect();
    report(&mut reporter, &mut known, none).await;
    told.cancel();
    std::future::pending().await
}
