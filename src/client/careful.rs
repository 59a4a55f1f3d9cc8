//! A channel whose peer cannot end this process: tonic panics at an answer whose error details are no base64, and here a
//! panic anywhere is the end.

use crate::format::base64;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::{Body, Frame, SizeHint};
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::codegen::StdError;
use tonic::transport::Channel;

const DETAILS: &str = "grpc-status-details-bin";

/// Takes details that are none away from headers and trailers.
fn purge(headers: &mut HeaderMap) {
    let Some(value) = headers.get(DETAILS) else {
        return;
    };
    let decoded = value.to_str().ok().and_then(base64::decode);
    // In the one form that every reader takes.
    let clean = decoded.and_then(|bytes| HeaderValue::try_from(base64::encode(&bytes)).ok());
    match clean {
        Some(clean) => drop(headers.insert(DETAILS, clean)),
        None => drop(headers.remove(DETAILS)),
    }
}

/// An answer that is waited for.
pub type Answering =
    Pin<Box<dyn Future<Output = Result<Response<tonic::body::Body>, StdError>> + Send>>;

/// Carries calls to a server some other way than over HTTP/2: a simulated network.
pub trait Carrier: Debug + Send + Sync {
    /// Makes one call.
    fn call(&self, request: Request<tonic::body::Body>) -> Answering;
}

/// The channel.
#[derive(Clone, Debug)]
pub(super) enum Careful {
    Channel(Channel),
    Carried(Arc<dyn Carrier>),
}

impl tower::Service<Request<tonic::body::Body>> for Careful {
    type Response = Response<Answer>;
    type Error = StdError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, StdError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        match self {
            Careful::Channel(channel) => channel.poll_ready(context).map_err(Into::into),
            Careful::Carried(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let answer: Answering = match self {
            Careful::Channel(channel) => {
                let answer = channel.call(request);
                Box::pin(async move { Ok(answer.await?) })
            }
            Careful::Carried(carrier) => carrier.call(request),
        };
        Box::pin(async move {
            let mut answer = answer.await?;
            purge(answer.headers_mut());
            Ok(answer.map(Answer))
        })
    }
}

/// What follows the headers.
#[derive(Debug)]
pub(super) struct Answer(tonic::body::Body);

impl Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut frame = Pin::new(&mut self.0).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            purge(trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purged(value: &[u8]) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(DETAILS, HeaderValue::from_bytes(value).expect("a header"));
        purge(&mut headers);
        let left = headers.get(DETAILS)?;
        Some(left.to_str().expect("text").to_owned())
    }

    #[test]
    fn details_are_base64_or_nothing() {
        for (value, wanted) in [
            ("", Some("")),
            ("Zg", Some("Zg==")),
            ("Zg==", Some("Zg==")),
            ("Zm9v", Some("Zm9v")),
            // Bits that say nothing, and padding where none belongs.
            ("Zh", Some("Zg==")),
            ("Zm9v====", Some("Zm9v")),
            ("Z", None),
            ("^", None),
            ("Zg==Zg==", None),
            ("Zm 9v", None),
        ] {
            assert_eq!(purged(value.as_bytes()).as_deref(), wanted, "{value}");
        }
        assert_eq!(purged(b"\xff"), None);
    }
}
