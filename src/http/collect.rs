//! What `/metrics` answers. Each scrape asks the databases that are there now, so the series of one that is gone go with
//! it, and those of one that has just come begin at zero.
//!
//! Labels are the database, the replica, and words from short fixed lists.

use super::collect_archives::Archives;
use super::collect_server::{OfProcess, Server};
use super::encode::{BYTES, Families, NANOSECONDS};
use super::probes;
use super::process::Began;
use super::view;
use crate::model::{
    ArchiveStatus, DatabaseState, DatabaseStatus, Histogram, LogHolder, Meters, ProcessMeters,
    ReplicaStatus, Role,
};
use crate::server::{Registry, Served};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::prometheus_text;
use std::collections::HashMap;
use std::fmt::Error;
use std::sync::Arc;
use std::time::Duration;

/// All states, for the gauge that has one series for each.
const STATES: [DatabaseState; 9] = [
    DatabaseState::Waiting,
    DatabaseState::Starting,
    DatabaseState::Streaming,
    DatabaseState::Paused,
    DatabaseState::Snapshot,
    DatabaseState::CatchingUp,
    DatabaseState::Disconnected,
    DatabaseState::Stopped,
    DatabaseState::Failed,
];

/// The answer to a scrape, in Prometheus' text format.
pub fn scrape(
    registry: &Registry,
    may_see: impl Fn(&str) -> bool,
    meters: &Arc<ProcessMeters>,
    began: Began,
) -> String {
    let mut metrics = prometheus_client::registry::Registry::default();
    let walcast = metrics.sub_registry_with_prefix("walcast");
    let archives = archives(registry, &may_see);
    walcast.register_collector(Box::new(Databases(look(registry, may_see))));
    walcast.register_collector(Box::new(Archives(archives)));
    walcast.register_collector(Box::new(Server(meters.clone())));
    metrics.register_collector(Box::new(OfProcess(began)));
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = prometheus_text::encode(&mut text, &metrics);
    text
}

/// One database at the moment of the scrape.
#[derive(Debug)]
struct Seen {
    name: String,
    status: DatabaseStatus,
    meters: Arc<Meters>,
    ready: bool,
    /// It is not a copy that its upstream let go, which is no fault: alerts on its age would last for ever.
    followed: bool,
    /// Each with a label of its own.
    replicas: Vec<(String, ReplicaStatus)>,
}

fn look(registry: &Registry, may_see: impl Fn(&str) -> bool) -> Vec<Seen> {
    let max_staleness: Option<Duration> = registry.max_staleness();
    let mut list = registry.list();
    list.retain(|served| may_see(served.database().name()));
    let seen = list.into_iter().map(|served| Seen {
        name: served.database().name().to_owned(),
        status: served.database().status(),
        meters: served.database().meters(),
        ready: probes::fault_of(&served, max_staleness).is_ok(),
        followed: view::is_followed(&served),
        replicas: match &served {
            Served::Primary(primary) => labelled(primary.replicas()),
            Served::Replica(_) => Vec::new(),
        },
    });
    seen.collect()
}

fn archives(registry: &Registry, may_see: impl Fn(&str) -> bool) -> Vec<ArchiveStatus> {
    let mut list = registry.list();
    list.retain(|served| may_see(served.database().name()));
    let of = |served| match served {
        Served::Primary(primary) => primary.archives(),
        Served::Replica(_) => Vec::new(),
    };
    list.into_iter().flat_map(of).collect()
}

/// Two replicas may have one name (two processes on one host): the second must not repeat the series of the first.
fn labelled(replicas: Vec<ReplicaStatus>) -> Vec<(String, ReplicaStatus)> {
    let mut count: HashMap<String, usize> = HashMap::new();
    for replica in &replicas {
        *count.entry(replica.name.clone()).or_default() += 1;
    }
    let label = |replica: &ReplicaStatus| match count.get(&replica.name) {
        Some(1) => replica.name.clone(),
        _ => format!("{} ({})", replica.name, replica.replica_id),
    };
    let with_label = replicas
        .into_iter()
        .map(|replica| (label(&replica), replica));
    with_label.collect()
}

/// Everything that belongs to databases.
#[derive(Debug)]
struct Databases(Vec<Seen>);

type OneLabel<'a> = [(&'static str, &'a str); 1];
type TwoLabels<'a> = [(&'static str, &'a str); 2];

impl Databases {
    fn all(&self, value: impl Fn(&Seen) -> f64) -> impl Iterator<Item = (OneLabel<'_>, f64)> {
        self.0.iter().map(move |seen| (seen.label(), value(seen)))
    }

    fn of(&self, role: Role) -> impl Iterator<Item = &Seen> {
        self.0.iter().filter(move |seen| seen.status.role == role)
    }

    fn gauges(
        &self,
        role: Role,
        value: impl Fn(&Seen) -> f64,
    ) -> impl Iterator<Item = (OneLabel<'_>, f64)> {
        self.of(role).map(move |seen| (seen.label(), value(seen)))
    }

    fn followed(
        &self,
        value: impl Fn(&DatabaseStatus) -> f64,
    ) -> impl Iterator<Item = (OneLabel<'_>, f64)> {
        let followed = self.of(Role::Replica).filter(|seen| seen.followed);
        followed.map(move |seen| (seen.label(), value(&seen.status)))
    }

    fn counters(
        &self,
        role: Role,
        value: impl Fn(&Seen) -> u64,
    ) -> impl Iterator<Item = (OneLabel<'_>, u64)> {
        self.of(role).map(move |seen| (seen.label(), value(seen)))
    }

    fn histograms(
        &self,
        role: Role,
        histogram: impl Fn(&Meters) -> &Histogram,
    ) -> impl Iterator<Item = (OneLabel<'_>, &Histogram)> {
        self.of(role)
            .map(move |seen| (seen.label(), histogram(&seen.meters)))
    }

    fn replicas(
        &self,
        value: impl Fn(&ReplicaStatus) -> f64,
    ) -> impl Iterator<Item = (TwoLabels<'_>, f64)> {
        let each = self.0.iter().flat_map(|seen| {
            let database = seen.name.as_str();
            let replicas = seen.replicas.iter();
            replicas.map(move |(label, replica)| (database, label.as_str(), replica))
        });
        each.map(move |(database, label, replica)| {
            ([("database", database), ("replica", label)], value(replica))
        })
    }

    fn both(&self, out: &mut Families<'_>) -> Result<(), Error> {
        let role = |role| match role {
            Role::Primary => "primary",
            Role::Replica => "replica",
        };
        out.gauge(
            "database_info",
            "The databases of this server, and its role for each",
            self.0.iter().map(|s| {
                let labels: TwoLabels<'_> = [("database", &s.name), ("role", role(s.status.role))];
                (labels, 1.0)
            }),
        )?;
        out.gauge(
            "database_state",
            "1 for the state that a database is in, 0 for all others",
            self.0.iter().flat_map(|seen| {
                STATES.map(|state| {
                    let name = state_name(state);
                    let labels: TwoLabels<'_> = [("database", &seen.name), ("state", name)];
                    (labels, flag(seen.status.state == state))
                })
            }),
        )?;
        out.gauge(
            "database_size_bytes",
            "Bytes of a database, as its readers see it",
            self.all(|seen| seen.status.size_bytes as f64),
        )?;
        out.gauge(
            "log_size_bytes",
            "Bytes of a database's -wal file",
            self.all(|seen| seen.status.wal_bytes as f64),
        )?;
        out.gauge(
            "log_held",
            "1 for what keeps a database's -wal file from beginning anew, 0 for all others",
            self.0.iter().flat_map(|seen| {
                LogHolder::ALL.map(|holder| {
                    let labels: TwoLabels<'_> = [("database", &seen.name), ("by", holder.name())];
                    (labels, flag(seen.meters.holder() == holder))
                })
            }),
        )?;
        out.counter(
            "checksum_failures",
            "Times that a copy or a kept log was found not to be what its checksum says, or was changed by another program",
            self.0
                .iter()
                .map(|seen| (seen.label(), seen.meters.checksum_failures.get())),
        )
    }

    fn primaries(&self, out: &mut Families<'_>) -> Result<(), Error> {
        let role = Role::Primary;
        out.counter(
            "captured_commits",
            "Transactions captured",
            self.counters(role, |s| s.status.commits),
        )?;
        out.counter(
            "captured_frames",
            "WAL frames captured",
            self.counters(role, |s| s.meters.frames.get()),
        )?;
        out.counter(
            "captured_bytes",
            "Bytes of WAL captured, before compression",
            self.counters(role, |s| s.meters.wal_bytes.get()),
        )?;
        out.histogram(
            "captured_segment_size_bytes",
            "Compressed bytes of each captured segment",
            BYTES,
            self.histograms(role, |m| &m.segments),
        )?;
        out.histogram(
            "capture_duration_seconds",
            "Seconds from reading a segment to its being kept and published",
            NANOSECONDS,
            self.histograms(role, |m| &m.work),
        )?;
        out.counter(
            "generations",
            "Histories begun, each of which costs every replica a snapshot",
            self.counters(role, |s| s.meters.generations.get()),
        )?;
        out.counter(
            "sent_bytes",
            "Payload bytes sent to replicas",
            self.counters(role, |s| s.status.bytes_streamed),
        )?;
        out.counter(
            "streams",
            "Streams to replicas begun",
            self.counters(role, |s| s.meters.streams.get()),
        )?;
        out.histogram(
            "snapshot_sent_duration_seconds",
            "Seconds that each full snapshot took to send",
            NANOSECONDS,
            self.histograms(role, |m| &m.snapshots),
        )?;
        out.gauge(
            "replicas_connected",
            "Replicas that are connected",
            self.gauges(role, |s| {
                s.replicas.iter().filter(|(_, r)| is_connected(r)).count() as f64
            }),
        )?;
        out.gauge(
            "replica_connected",
            "1 while a replica is connected",
            self.replicas(|r| flag(is_connected(r))),
        )?;
        out.gauge(
            "replica_lag_seconds",
            "Seconds since the oldest commit that a replica's readers do not see; 0 when level",
            self.replicas(|r| r.lag_seconds),
        )?;
        out.gauge(
            "replica_lag_bytes",
            "Bytes of WAL that a replica's readers do not see yet",
            self.replicas(|r| r.lag_bytes as f64),
        )?;
        out.gauge(
            "replica_sent_bytes",
            "Payload bytes sent to a replica since it connected",
            self.replicas(|r| r.bytes_sent as f64),
        )
    }

    fn followers(&self, out: &mut Families<'_>) -> Result<(), Error> {
        let role = Role::Replica;
        out.gauge(
            "ready",
            "1 while readers may be sent to a replica, by the rules of /readyz",
            self.gauges(role, |s| flag(s.ready)),
        )?;
        out.gauge(
            "connected",
            "1 while a replica receives its upstream's stream",
            self.followed(|status| flag(receives(status.state))),
        )?;
        out.gauge(
            "lag_seconds",
            "Seconds that readers are behind what is known of the primary; 0 when level",
            self.followed(|status| status.lag_seconds),
        )?;
        out.gauge(
            "lag_bytes",
            "Bytes of WAL that readers are behind what is known of the primary; a lower bound across log restarts",
            self.followed(|status| lag_bytes(status) as f64),
        )?;
        out.gauge(
            "staleness_seconds",
            "Seconds since a replica last knew that it was level; +Inf if it never was",
            self.followed(staleness),
        )?;
        out.counter(
            "applied_publications",
            "Times that commits became visible to readers",
            self.counters(role, |s| s.status.commits),
        )?;
        out.counter(
            "applied_frames",
            "Pages applied",
            self.counters(role, |s| s.meters.frames.get()),
        )?;
        out.histogram(
            "apply_duration_seconds",
            "Seconds to prove, write and publish what arrived",
            NANOSECONDS,
            self.histograms(role, |m| &m.work),
        )?;
        out.counter(
            "received_bytes",
            "Payload bytes received",
            self.counters(role, |s| s.status.bytes_streamed),
        )?;
        out.histogram(
            "received_segment_size_bytes",
            "Bytes of each received message, as it travelled",
            BYTES,
            self.histograms(role, |m| &m.segments),
        )?;
        out.counter(
            "reconnects",
            "Streams begun after the first",
            self.counters(role, |s| s.meters.streams.get().saturating_sub(1)),
        )?;
        out.histogram(
            "snapshot_received_duration_seconds",
            "Seconds that each full snapshot took to arrive and be published",
            NANOSECONDS,
            self.histograms(role, |m| &m.snapshots),
        )
    }
}

impl Seen {
    fn label(&self) -> OneLabel<'_> {
        [("database", self.name.as_str())]
    }
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn is_connected(replica: &ReplicaStatus) -> bool {
    replica.connected_since_us > 0
}

fn receives(state: DatabaseState) -> bool {
    matches!(
        state,
        DatabaseState::Streaming | DatabaseState::CatchingUp | DatabaseState::Snapshot
    )
}

/// Never level is as stale as can be: an alert on a limit must not overlook it.
fn staleness(status: &DatabaseStatus) -> f64 {
    match status.staleness_seconds {
        age if age < 0.0 => f64::INFINITY,
        age => age,
    }
}

fn lag_bytes(status: &DatabaseStatus) -> u64 {
    view::bytes_between(status.position, status.upstream_position)
}

fn state_name(state: DatabaseState) -> &'static str {
    match state {
        DatabaseState::Waiting => "waiting",
        DatabaseState::Starting => "starting",
        DatabaseState::Streaming => "streaming",
        DatabaseState::Paused => "paused",
        DatabaseState::Snapshot => "snapshot",
        DatabaseState::CatchingUp => "catching-up",
        DatabaseState::Disconnected => "disconnected",
        DatabaseState::Stopped => "stopped",
        DatabaseState::Failed => "failed",
        DatabaseState::Unknown => "unknown",
    }
}

impl Collector for Databases {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut out = Families(encoder);
        self.both(&mut out)?;
        self.primaries(&mut out)?;
        self.followers(&mut out)
    }
}
