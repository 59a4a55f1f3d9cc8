//! A replica's connection to its upstream.

use super::careful::{Careful, Carrier};
use super::endpoint::{Link, plain};
use super::{Admin, ClientError};
use crate::config::UpstreamEntry;
use crate::model::{CopyMessage, CopyRequest, Message, Progress, StreamStart};
use crate::wire::pb;
use pb::replication_service_client::ReplicationServiceClient;
use std::sync::Arc;
use tokio::sync::mpsc::Receiver;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// One HTTP/2 connection to a server; cheap to clone, and shared by all of its clones. It connects when it is first used
/// and connects again by itself when it was lost; each call says if that failed.
#[derive(Clone, Debug)]
pub struct Upstream {
    link: Link,
    url: Arc<str>,
}

impl Upstream {
    /// Plaintext, without a token. Checks the URL; connects nothing yet. Call it inside a tokio runtime.
    pub fn connect_lazy(url: &str) -> Result<Upstream, ClientError> {
        Upstream::connect_to(&plain(url), false)
    }

    /// With certificates and a token; checks the URL and reads the files, connects nothing yet. `insecure`: the token may
    /// cross a network in plaintext. Call it inside a tokio runtime.
    pub fn connect_to(entry: &UpstreamEntry, insecure: bool) -> Result<Upstream, ClientError> {
        Ok(Upstream {
            link: Link::new(entry, insecure)?,
            url: entry.url.as_str().into(),
        })
    }

    /// Over a network that a simulation makes.
    #[doc(hidden)]
    pub fn carried(url: &str, carrier: Arc<dyn Carrier>) -> Result<Upstream, ClientError> {
        Ok(Upstream {
            link: Link::carried(url, carrier)?,
            url: url.into(),
        })
    }

    fn client(&self) -> ReplicationServiceClient<Careful> {
        ReplicationServiceClient::new(self.link.channel.clone())
    }

    /// A client of the other services, on the same connection.
    pub fn admin(&self) -> Admin {
        Admin::on(self.link.clone(), &self.url)
    }

    /// The server's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Asks for a database from a position on.
    pub async fn stream(&self, start: StreamStart) -> Result<MessageStream, ClientError> {
        let request = self.link.request(pb::StreamRequest::from(start)).await?;
        match self.client().stream(request).await {
            Ok(response) => Ok(MessageStream {
                inner: response.into_inner(),
                url: self.url.clone(),
            }),
            Err(status) => Err(ClientError::from_status(&self.url, status)),
        }
    }

    /// Reads a replica's copy once.
    pub async fn read_copy(&self, request: CopyRequest) -> Result<CopyStream, ClientError> {
        let request = self
            .link
            .request(pb::ReadCopyRequest::from(request))
            .await?;
        match self.client().read_copy(request).await {
            Ok(response) => Ok(CopyStream {
                inner: response.into_inner(),
                url: self.url.clone(),
            }),
            Err(status) => Err(ClientError::from_status(&self.url, status)),
        }
    }

    /// Reports progress until the sender of `reports` is dropped, or until the server ends the call.
    pub async fn report(&self, reports: Receiver<Progress>) -> Result<(), ClientError> {
        let requests = ReceiverStream::new(reports).map(pb::ReportProgressRequest::from);
        let request = self.link.request(requests).await?;
        match self.client().report_progress(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(ClientError::from_status(&self.url, status)),
        }
    }
}

/// The messages of one stream, each checked by `wire`. Dropping it ends the stream.
#[derive(Debug)]
pub struct MessageStream {
    inner: Streaming<pb::StreamResponse>,
    url: Arc<str>,
}

impl MessageStream {
    /// The next message; `None`: the server ended the stream without an error. After an error comes nothing more.
    pub async fn next(&mut self) -> Option<Result<Message, ClientError>> {
        Some(match self.inner.message().await {
            Ok(Some(response)) => {
                Message::try_from(response).map_err(|error| ClientError::wire(&self.url, error))
            }
            Ok(None) => return None,
            Err(status) => Err(ClientError::from_status(&self.url, status)),
        })
    }
}

/// The messages of one copy, each checked by `wire`. Dropping it ends the call.
#[derive(Debug)]
pub struct CopyStream {
    inner: Streaming<pb::ReadCopyResponse>,
    url: Arc<str>,
}

impl CopyStream {
    /// The next message; `None`: the server has sent all. After an error comes nothing more.
    pub async fn next(&mut self) -> Option<Result<CopyMessage, ClientError>> {
        Some(match self.inner.message().await {
            Ok(Some(response)) => {
                CopyMessage::try_from(response).map_err(|error| ClientError::wire(&self.url, error))
            }
            Ok(None) => return None,
            Err(status) => Err(ClientError::from_status(&self.url, status)),
        })
    }
}
