//! The door of every call: who calls, and may that be? It looks at headers alone, before a byte of the message is read.

use super::connection::{CallPlace, Connection};
use super::errors::{Reason, Refusal};
use super::flow::{Flow, Outflow};
use crate::config::Permission;
use crate::security::{Caller, Denied, Seldom, ServerSecurity};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;
use tonic::Status;
use tonic::service::Routes;
use tonic::transport::server::TcpConnectInfo;
use tower::Service as _;

/// Calls at one time on a connection on which nobody was let in: probes need one.
const CALLS_OF_STRANGERS: usize = 16;

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// Nothing: probes know no secrets.
    Open,
    /// A grant with one of these.
    Needs(&'static [Permission]),
}

/// What every path needs. One that no service has is treated like the strictest: whether it exists is not told either.
fn gate(path: &str) -> Gate {
    let (service, method) = path
        .strip_prefix('/')
        .and_then(|path| path.rsplit_once('/'))
        .unwrap_or_default();
    Gate::Needs(match (service, method) {
        ("grpc.health.v1.Health", _) => return Gate::Open,
        ("walcast.v1.ReplicationService", _) => &[Permission::Stream],
        // `walcast status` shows the databases, too.
        ("walcast.v1.PositionService", "ListDatabases") => {
            &[Permission::Position, Permission::Status]
        }
        ("walcast.v1.PositionService", _) => &[Permission::Position],
        ("walcast.v1.AdminService", "ListReplicas") => &[Permission::Status],
        (service, _) if service.starts_with("grpc.reflection.") => &[Permission::Reflection],
        _ => &[Permission::Admin],
    })
}

/// True if the message of the call has an end of its own that is not the client's to choose.
fn is_unary(path: &str) -> bool {
    !path.ends_with("/ReportProgress") && !path.ends_with("/ServerReflectionInfo")
}

/// A caller that was let in, and what it was let in for: services ask it about each database.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    pub(super) caller: Caller,
    pub(super) needs: &'static [Permission],
}

impl Admitted {
    /// The caller of a request. One that never passed the guard is let in nowhere.
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Result<Admitted, Refusal> {
        request
            .extensions()
            .get()
            .cloned()
            .ok_or_else(|| Refusal::new(Reason::Unauthenticated, "nobody knows who calls"))
    }

    /// Whose calls are counted together.
    pub(super) fn client(&self) -> &Arc<str> {
        self.caller.client()
    }

    /// Whether it may know of this database.
    pub(super) fn sees(&self, database: &str) -> bool {
        self.caller.may_see(database)
    }

    /// Whether it may do with this database what it asks for.
    pub(super) fn may_use(&self, database: &str) -> bool {
        self.caller.may_use(self.needs, database)
    }

    /// A refusal unless it may do with this database what it asks for.
    pub(super) fn check(&self, database: &str) -> Result<(), Refusal> {
        if self.may_use(database) {
            return Ok(());
        }
        let message = format!("'{}' may not do that with '{database}'", self.client());
        Err(Refusal::new(Reason::PermissionDenied, message).about(database))
    }
}

/// The services as one connection reaches them.
#[derive(Clone)]
pub(super) struct Guard {
    pub(super) routes: Routes,
    pub(super) security: ServerSecurity,
    pub(super) connection: Arc<Connection>,
    /// For a unary message.
    pub(super) prompt: Duration,
    pub(super) refused: Arc<Seldom>,
}

impl Guard {
    fn admit(&self, request: &Request<Incoming>) -> Result<Option<Admitted>, Refusal> {
        let access = self.security.access();
        let Gate::Needs(needs) = gate(request.uri().path()) else {
            if access.is_open() {
                self.connection.is_known();
            } else if self.connection.is_stranger() && self.connection.calls() > CALLS_OF_STRANGERS
            {
                let message = "that many calls on one connection need an authenticated one first";
                return Err(Refusal::new(Reason::TooManyCalls, message));
            }
            return Ok(None);
        };
        let tokens = request.headers().get_all(AUTHORIZATION);
        let tokens: Vec<&[u8]> = tokens.iter().map(http::HeaderValue::as_bytes).collect();
        let address = self.connection.address.ip();
        let peer = self.connection.peer.as_ref();
        let caller = access
            .admit(&tokens, peer, Some(address), needs)
            .map_err(|denied| self.denied(request, denied))?;
        self.connection.is_known();
        Ok(Some(Admitted { caller, needs }))
    }

    fn denied(&self, request: &Request<Incoming>, denied: Denied) -> Refusal {
        let (reason, message) = match denied {
            Denied::Unauthenticated(message) => (Reason::Unauthenticated, message),
            Denied::NotPermitted(message) => {
                // It has said who it is, which is what places for strangers are about.
                self.connection.is_known();
                (Reason::PermissionDenied, message)
            }
        };
        if let Some(others) = self.refused.now() {
            // Only known paths and addresses: what strangers write does not go to the log.
            let call = request.uri().path().rsplit('/').next().unwrap_or_default();
            let call: String = call
                .chars()
                .filter(char::is_ascii_alphanumeric)
                .take(40)
                .collect();
            tracing::warn!(client = %self.connection.address, call, others, "a call was refused: {message}");
        }
        Refusal::new(reason, message)
    }
}

impl hyper::service::Service<Request<Incoming>> for Guard {
    type Response = Response<Outflow<CallPlace>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let place = self.connection.begin();
        let admitted = self.admit(&request);
        let mut routes = self.routes.clone();
        let (connection, prompt) = (self.connection.clone(), self.prompt);
        Box::pin(async move {
            let flow = Flow::current();
            if let Some(flow) = &flow {
                connection.watch_flow(flow);
            }
            let response = match admitted {
                Err(refusal) => Status::from(refusal).into_http(),
                Ok(admitted) => {
                    let extensions = request.extensions_mut();
                    extensions.insert(TcpConnectInfo {
                        local_addr: connection.local,
                        remote_addr: Some(connection.address),
                    });
                    if let Some(admitted) = admitted {
                        extensions.insert(admitted);
                    }
                    let unary = is_unary(request.uri().path());
                    let request = request.map(|body| Inflow::new(body, unary.then_some(prompt)));
                    match routes.call(request).await {
                        Ok(response) => response,
                        Err(never) => match never {},
                    }
                }
            };
            Ok(response.map(|body| Outflow::new(body, flow, place)))
        })
    }
}

/// A message on its way in: a unary one that does not arrive in time is given up, so that it holds no place for ever.
struct Inflow {
    body: Incoming,
    limit: Option<Pin<Box<Sleep>>>,
}

impl Inflow {
    fn new(body: Incoming, limit: Option<Duration>) -> Inflow {
        let limit = limit.filter(|_| !body.is_end_stream());
        Inflow {
            body,
            limit: limit.map(|limit| Box::pin(tokio::time::sleep(limit))),
        }
    }
}

impl Body for Inflow {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if let Some(limit) = &mut self.limit
            && limit.as_mut().poll(cx).is_ready()
        {
            let status = Status::deadline_exceeded("the request did not arrive in time");
            return Poll::Ready(Some(Err(status.into())));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_needs_what_its_service_is_for() {
        use Permission::*;
        for (path, needs) in [
            ("/walcast.v1.ReplicationService/Stream", &[Stream][..]),
            ("/walcast.v1.ReplicationService/ReportProgress", &[Stream]),
            // A whole database, like a stream.
            ("/walcast.v1.ReplicationService/ReadCopy", &[Stream]),
            ("/walcast.v1.PositionService/GetPosition", &[Position]),
            ("/walcast.v1.PositionService/WaitForPosition", &[Position]),
            (
                "/walcast.v1.PositionService/ListDatabases",
                &[Position, Status],
            ),
            ("/walcast.v1.AdminService/ListReplicas", &[Status]),
            ("/walcast.v1.AdminService/PauseDatabase", &[Admin]),
            ("/walcast.v1.AdminService/DetachDatabase", &[Admin]),
            (
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                &[Reflection],
            ),
            (
                "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                &[Reflection],
            ),
            // What is not known is not open.
            ("/walcast.v1.AdminService/LaterCall", &[Admin]),
            ("/grpc.health.v1.HealthX/Check", &[Admin]),
            ("/x/grpc.health.v1.Health/Check", &[Admin]),
            ("//grpc.health.v1.Health/Check", &[Admin]),
            ("/", &[Admin]),
            ("", &[Admin]),
        ] {
            assert_eq!(gate(path), Gate::Needs(needs), "{path}");
        }
        assert_eq!(gate("/grpc.health.v1.Health/Check"), Gate::Open);
        assert_eq!(gate("/grpc.health.v1.Health/Watch"), Gate::Open);
    }

    /// axum routes by what is between the first and the second slash: no path may be one thing here and another there.
    #[test]
    fn no_other_spelling_of_a_path_is_more_open() {
        for path in [
            "/walcast.v1.AdminService/grpc.health.v1.Health/Check",
            "/walcast.v1.AdminService/PauseDatabase/",
            "/walcast.v1.ReplicationService/x/ListDatabases",
            "/walcast.v1.ReplicationService%2fStream",
        ] {
            assert_eq!(gate(path), Gate::Needs(&[Permission::Admin]), "{path}");
        }
    }
}
