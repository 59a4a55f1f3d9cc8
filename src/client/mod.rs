//! Clients: a replica's connection to its upstream, and the small one behind the commands.
//!
//! They know the wire and the model and nothing else: `replica` stands on [`Upstream`].

mod admin;
mod careful;
mod endpoint;
mod error;
mod upstream;

pub use admin::{Admin, Health, Listing, Waited};
pub use careful::{Answering, Carrier};
pub use error::{ClientError, ClientError as UpstreamError};
pub use upstream::{CopyStream, MessageStream, Upstream};
