//! What the status page shows of each database.

use crate::format::position::Position;
use crate::model::{DatabaseState, DatabaseStatus, ReplicaStatus, Role};
use crate::server::Served;
use serde::Serialize;

/// A replica that is this many seconds behind is worth a look.
const LATE: f64 = 5.0;

/// How well something is, for a first glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// As it should be.
    Ok,
    /// On its way there.
    Work,
    /// Worth a look.
    Warn,
    /// Needs a person.
    Bad,
}

/// One database.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub name: String,
    pub role: &'static str,
    pub state: String,
    pub health: Health,
    pub reason: String,
    pub path: String,
    pub position: String,
    pub durable: String,
    pub upstream: String,
    pub upstream_position: String,
    /// Bytes of the database, and of its log.
    pub size: u64,
    pub log: u64,
    pub held: &'static str,
    /// Seconds that its readers may be behind; on a primary, those of the replica that is furthest behind.
    pub behind: f64,
    /// A replica's seconds since it was level, where that says more than `behind`.
    pub stale: Option<f64>,
    /// False for a copy that its upstream let go.
    pub followed: bool,
    pub commits: u64,
    pub bytes: u64,
    pub snapshots: u64,
    pub commits_per_second: f64,
    pub bytes_per_second: f64,
    pub replicas: Vec<Follower>,
}

/// A replica as its primary knows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Follower {
    pub name: String,
    pub id: String,
    pub address: String,
    pub state: String,
    pub health: Health,
    pub reason: String,
    pub sent: String,
    pub applied: String,
    pub durable: String,
    pub behind: f64,
    pub behind_bytes: u64,
    pub since_ms: i64,
    pub bytes: u64,
}

/// Bytes of WAL from one position to another; where the log began anew in between, those after that.
pub fn bytes_between(from: Option<Position>, to: Option<Position>) -> u64 {
    let Some(to) = to else {
        return 0;
    };
    match from {
        Some(from) if (from.generation, from.index) == (to.generation, to.index) => {
            to.offset.saturating_sub(from.offset)
        }
        // The report of the primary is older than what came since.
        Some(from) if from.generation == to.generation && from.index > to.index => 0,
        _ => to.offset,
    }
}

fn text(position: Option<Position>) -> String {
    position.map(|p| p.to_string()).unwrap_or_default()
}

/// Milliseconds are enough, and keep equal what did not change.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

fn health_of(state: DatabaseState, behind: f64) -> Health {
    match state {
        DatabaseState::Failed => Health::Bad,
        DatabaseState::Waiting
        | DatabaseState::Paused
        | DatabaseState::Disconnected
        | DatabaseState::Stopped
        | DatabaseState::Unknown => Health::Warn,
        DatabaseState::Starting | DatabaseState::Snapshot | DatabaseState::CatchingUp => {
            Health::Work
        }
        DatabaseState::Streaming if behind > LATE => Health::Warn,
        DatabaseState::Streaming => Health::Ok,
    }
}

/// The seconds by which a replica may be behind, as far as it can know: without its primary it can only say since when.
pub fn behind(status: &DatabaseStatus) -> f64 {
    match status.state {
        DatabaseState::Streaming => status.lag_seconds,
        _ => status.lag_seconds.max(status.staleness_seconds),
    }
}

/// False for a copy that its upstream let go.
pub fn is_followed(served: &Served) -> bool {
    match served {
        Served::Primary(_) => true,
        Served::Replica(replica) => replica.is_followed(),
    }
}

impl Row {
    /// As it is now; rates are the sampler's.
    pub fn of(served: &Served) -> Row {
        let database = served.database();
        let status = database.status();
        let replicas: Vec<Follower> = match served {
            Served::Primary(primary) => {
                let replicas = primary.followers();
                replicas.into_iter().map(Follower::of).collect()
            }
            Served::Replica(_) => Vec::new(),
        };
        let followed = is_followed(served);
        let behind = match status.role {
            Role::Replica if !followed => 0.0,
            Role::Primary => replicas.iter().map(|r| r.behind).fold(0.0, f64::max),
            Role::Replica => behind(&status),
        };
        let stale =
            (status.role == Role::Replica && followed && status.state != DatabaseState::Streaming)
                .then(|| rounded(status.staleness_seconds));
        // A primary is as well as its capture; its replicas have a health of their own.
        let own = match status.role {
            Role::Primary => 0.0,
            Role::Replica => behind,
        };
        Row {
            role: match status.role {
                Role::Primary => "primary",
                Role::Replica => "replica",
            },
            state: status.state.to_string(),
            health: match followed {
                true => health_of(status.state, own),
                // As it should be, and for good.
                false => Health::Ok,
            },
            followed,
            reason: status.reason,
            path: status.path,
            position: text(status.position),
            durable: text(status.durable),
            upstream: status.upstream,
            upstream_position: text(status.upstream_position),
            size: status.size_bytes,
            log: status.wal_bytes,
            held: database.meters().holder().name(),
            behind: rounded(behind),
            stale,
            commits: status.commits,
            bytes: status.bytes_streamed,
            snapshots: status.snapshots,
            commits_per_second: 0.0,
            bytes_per_second: 0.0,
            replicas,
            name: status.name,
        }
    }

    /// The worst of its own health and its replicas'.
    pub fn worst(&self) -> Health {
        let replicas = self.replicas.iter().map(|replica| replica.health);
        replicas.fold(self.health, Health::max)
    }
}

impl Follower {
    fn of(status: ReplicaStatus) -> Follower {
        let behind = rounded(status.lag_seconds);
        Follower {
            health: health_of(status.state, behind),
            name: status.name,
            id: status.replica_id,
            address: status.address,
            state: status.state.to_string(),
            reason: status.reason,
            sent: text(status.sent),
            applied: text(status.applied),
            durable: text(status.durable),
            behind,
            behind_bytes: status.lag_bytes,
            since_ms: status.connected_since_us / 1000,
            bytes: status.bytes_sent,
        }
    }
}
