//! `AdminService`: for those who operate a server.

use super::guard::Admitted;
use super::shared::Shared;
use crate::wire::pb;
use pb::admin_service_server::AdminService;
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub(super) struct Admin(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl AdminService for Admin {
    async fn list_replicas(
        &self,
        request: Request<pb::ListReplicasRequest>,
    ) -> Result<Response<pb::ListReplicasResponse>, Status> {
        let by = Admitted::of(&request)?;
        let mut replicas = match request.into_inner().database.as_str() {
            "" => self
                .0
                .registry
                .primaries()
                .iter()
                .filter(|primary| by.may_use(primary.name()))
                .flat_map(|primary| primary.followers())
                .collect(),
            name => self.0.find(&by, name)?.served.primary()?.followers(),
        };
        replicas.sort_by(|a, b| (&a.database, &a.name).cmp(&(&b.database, &b.name)));
        let replicas = replicas.into_iter().map(pb::Replica::from).collect();
        Ok(Response::new(pb::ListReplicasResponse { replicas }))
    }

    async fn pause_database(
        &self,
        request: Request<pb::PauseDatabaseRequest>,
    ) -> Result<Response<pb::PauseDatabaseResponse>, Status> {
        let by = Admitted::of(&request)?;
        let entry = self.0.find(&by, &request.into_inner().database)?;
        let primary = entry.served.primary()?;
        let point = primary.pause().await?;
        let position = point.position.to_string();
        Ok(Response::new(pb::PauseDatabaseResponse { position }))
    }

    async fn resume_database(
        &self,
        request: Request<pb::ResumeDatabaseRequest>,
    ) -> Result<Response<pb::ResumeDatabaseResponse>, Status> {
        let by = Admitted::of(&request)?;
        let entry = self.0.find(&by, &request.into_inner().database)?;
        let primary = entry.served.primary()?;
        let (point, continuous) = primary.resume().await?;
        let position = point.position.to_string();
        Ok(Response::new(pb::ResumeDatabaseResponse {
            position,
            continuous,
        }))
    }

    async fn detach_database(
        &self,
        request: Request<pb::DetachDatabaseRequest>,
    ) -> Result<Response<pb::DetachDatabaseResponse>, Status> {
        let by = Admitted::of(&request)?;
        let entry = self.0.find(&by, &request.into_inner().database)?;
        let replica = entry.served.replica()?;
        let (position, path) = replica.detach().await?;
        Ok(Response::new(pb::DetachDatabaseResponse {
            position: position.map(|p| p.to_string()).unwrap_or_default(),
            path: path.display().to_string(),
        }))
    }
}
