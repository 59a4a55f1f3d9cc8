//! Who may do what, and how both sides know each other: TLS, tokens, grants.
//!
//! Nothing here knows gRPC or HTTP: the two ports ask the same [`ServerSecurity`] for a handshake and for what a caller
//! may do, and all clients take a [`ClientSecurity`]. Files are read again when they change; a new file that is broken
//! leaves the old one in force. docs/security.md says what is protected against whom.

mod access;
mod client;
mod error;
mod handshake;
mod listen;
mod peer;
mod pem;
mod problem;
mod roots;
mod seldom;
mod server;
mod server_tls;
mod stamp;
#[cfg(test)]
mod tests;
mod token;

pub use access::{Access, Caller, Denied};
pub use client::{ClientSecurity, TlsFailure};
pub use error::SecurityError;
pub use handshake::{Connection, Protocol};
pub use listen::{ListenError, bind, check_listen};
pub use peer::Peer;
pub use problem::{TlsProblem, describe_alert};
pub use seldom::Seldom;
pub use server::ServerSecurity;
pub use server_tls::ServerTls;
