//! The client behind the commands: one call each, with a time limit, in domain types.

use super::ClientError;
use super::endpoint::{Link, plain};
use crate::config::{LONGEST_DURATION, UpstreamEntry};
use crate::format::position::Position;
use crate::model::{DatabaseStatus, ReplicaStatus};
use crate::wire::{WireError, parse_position, pb};
use pb::admin_service_client::AdminServiceClient;
use pb::position_service_client::PositionServiceClient;
use std::future::Future;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Calls that only look.
const QUICK: Duration = Duration::from_secs(10);
/// The longest list: a status is below 1 KiB, and a server of thousands of databases has many replicas for each.
const LIST: usize = 64 << 20;
/// Calls that wait for a database to be let go, or checkpointed.
const SLOW: Duration = Duration::from_secs(120);

/// The answer of `WaitForPosition`.
#[derive(Clone, Copy, Debug)]
pub struct Waited {
    /// Whether the position was reached.
    pub reached: bool,
    /// The position at the end of the wait.
    pub position: Option<Position>,
}

/// A server's or a database's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It serves.
    Serving,
    /// It does not.
    NotServing,
    /// The server has no such database.
    Unknown,
}

/// A client for the services of those who operate and watch.
#[derive(Clone, Debug)]
pub struct Admin {
    link: Link,
    url: String,
}

type Result<T> = std::result::Result<T, ClientError>;

impl Admin {
    /// Plaintext, without a token. Checks the URL; connects with the first call. Call it inside a tokio runtime.
    pub fn connect_lazy(url: &str) -> Result<Admin> {
        Admin::connect_to(&plain(url), false)
    }

    /// With certificates and a token; checks the URL and reads the files, connects with the first call. `insecure`: the
    /// token may cross a network in plaintext. Call it inside a tokio runtime.
    pub fn connect_to(entry: &UpstreamEntry, insecure: bool) -> Result<Admin> {
        Ok(Admin {
            link: Link::new(entry, insecure)?,
            url: entry.url.clone(),
        })
    }

    /// On a connection that is there.
    pub(super) fn on(link: Link, url: &str) -> Admin {
        Admin {
            link,
            url: url.to_owned(),
        }
    }

    /// The server's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn positions(&self) -> PositionServiceClient<Channel> {
        PositionServiceClient::new(self.link.channel.clone()).max_decoding_message_size(LIST)
    }

    fn operations(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.link.channel.clone()).max_decoding_message_size(LIST)
    }

    async fn call<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = std::result::Result<Response<T>, Status>>,
    ) -> Result<T> {
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(ClientError::from_status(&self.url, status)),
            Err(_) => Err(ClientError::Unreachable {
                url: self.url.clone(),
                problem: format!("no answer within {} s", limit.as_secs()),
            }),
        }
    }

    fn check<T>(&self, value: std::result::Result<T, WireError>) -> Result<T> {
        value.map_err(|error| ClientError::wire(&self.url, error))
    }

    fn position_or_none(&self, text: &str) -> Result<Option<Position>> {
        if text.is_empty() {
            return Ok(None);
        }
        self.check(parse_position("position", text)).map(Some)
    }

    /// The position of a database; `None`: it has none yet.
    pub async fn position(&self, database: &str) -> Result<Option<Position>> {
        let request = self
            .link
            .request(pb::GetPositionRequest {
                database: database.to_owned(),
            })
            .await?;
        let answer = self
            .call(QUICK, self.positions().get_position(request))
            .await?;
        self.position_or_none(&answer.position)
    }

    /// Waits until a database has reached a position, at most `max_wait`; the server has a limit of its own.
    pub async fn wait(
        &self,
        database: &str,
        position: Position,
        max_wait: Duration,
    ) -> Result<Waited> {
        // `Duration::MAX` would be no time of a clock, and no duration of protobuf.
        let max_wait = max_wait.min(LONGEST_DURATION);
        let request = self
            .link
            .request(pb::WaitForPositionRequest {
                database: database.to_owned(),
                position: position.to_string(),
                max_wait: Some(prost_types::Duration::try_from(max_wait).unwrap_or_default()),
            })
            .await?;
        let mut positions = self.positions();
        let answer = self
            .call(max_wait + QUICK, positions.wait_for_position(request))
            .await?;
        Ok(Waited {
            reached: answer.reached,
            position: self.position_or_none(&answer.position)?,
        })
    }

    /// All databases, by name.
    pub async fn databases(&self) -> Result<Vec<DatabaseStatus>> {
        let request = self.link.request(pb::ListDatabasesRequest {}).await?;
        let answer = self
            .call(QUICK, self.positions().list_databases(request))
            .await?;
        let databases = answer
            .databases
            .into_iter()
            .map(DatabaseStatus::try_from)
            .collect();
        self.check(databases)
    }

    /// The replicas of one database, or of all (`""`).
    pub async fn replicas(&self, database: &str) -> Result<Vec<ReplicaStatus>> {
        let request = self
            .link
            .request(pb::ListReplicasRequest {
                database: database.to_owned(),
            })
            .await?;
        let answer = self
            .call(QUICK, self.operations().list_replicas(request))
            .await?;
        let replicas = answer
            .replicas
            .into_iter()
            .map(ReplicaStatus::try_from)
            .collect();
        self.check(replicas)
    }

    /// Lets a primary let go of a database's files; where capture stopped.
    pub async fn pause(&self, database: &str) -> Result<Position> {
        let request = self
            .link
            .request(pb::PauseDatabaseRequest {
                database: database.to_owned(),
            })
            .await?;
        let answer = self
            .call(SLOW, self.operations().pause_database(request))
            .await?;
        self.check(parse_position("position", &answer.position))
    }

    /// Lets a primary take a database's files again; where capture goes on, and whether in the same generation.
    pub async fn resume(&self, database: &str) -> Result<(Position, bool)> {
        let request = self
            .link
            .request(pb::ResumeDatabaseRequest {
                database: database.to_owned(),
            })
            .await?;
        let answer = self
            .call(SLOW, self.operations().resume_database(request))
            .await?;
        let position = self.check(parse_position("position", &answer.position))?;
        Ok((position, answer.continuous))
    }

    /// Ends the replication of a replica's database; the position that it holds, if that is known, and its file.
    pub async fn detach(&self, database: &str) -> Result<(Option<Position>, String)> {
        let request = self
            .link
            .request(pb::DetachDatabaseRequest {
                database: database.to_owned(),
            })
            .await?;
        let answer = self
            .call(SLOW, self.operations().detach_database(request))
            .await?;
        Ok((self.position_or_none(&answer.position)?, answer.path))
    }

    /// The health of a database, or of the server (`""`), as load balancers see it.
    pub async fn health(&self, database: &str) -> Result<Health> {
        let request = self
            .link
            .request(tonic_health::pb::HealthCheckRequest {
                service: database.to_owned(),
            })
            .await?;
        let mut client = HealthClient::new(self.link.channel.clone());
        match self.call(QUICK, client.check(request)).await {
            Ok(answer) if answer.status == i32::from(ServingStatus::Serving) => Ok(Health::Serving),
            Ok(_) => Ok(Health::NotServing),
            Err(error) if error.code() == Code::NotFound => Ok(Health::Unknown),
            Err(error) => Err(error),
        }
    }
}
