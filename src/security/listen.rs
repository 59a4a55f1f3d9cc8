//! Where a server may listen.

use std::io;
use std::net::SocketAddr;
use tokio::net::{TcpListener, lookup_host};

/// An address that is not listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Whoever reaches it could read along, tokens included.
    #[error(
        "{option} {address} can be reached from other machines and has no TLS: whoever is on the way reads the databases, and \
         the tokens; give a certificate (--tls-cert, --tls-key), listen on 127.0.0.1, or say --insecure if the network \
         itself is private"
    )]
    Plaintext {
        /// Which.
        address: SocketAddr,
        /// The option that sets it: there are two ports.
        option: &'static str,
    },
    /// The system refuses.
    #[error("listen on {address}: {source}; choose another with {option} ADDRESS:PORT")]
    Bind {
        /// As given.
        address: String,
        /// The option that sets it.
        option: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Refuses an address beyond loopback without TLS, unless that is said to be meant. Tokens do not change that: they
/// would be read on the way.
pub fn check_listen(
    address: SocketAddr,
    option: &'static str,
    tls: bool,
    insecure: bool,
) -> Result<(), ListenError> {
    if tls || insecure || address.ip().to_canonical().is_loopback() {
        Ok(())
    } else {
        Err(ListenError::Plaintext { address, option })
    }
}

/// Binds `ADDRESS:PORT`, or refuses; `option` is what sets it, for the message. Nothing listens before all is checked.
pub async fn bind(
    address: &str,
    option: &'static str,
    tls: bool,
    insecure: bool,
) -> Result<TcpListener, ListenError> {
    let fail = |source| ListenError::Bind {
        address: address.to_owned(),
        option,
        source,
    };
    let addresses: Vec<SocketAddr> = lookup_host(address).await.map_err(fail)?.collect();
    for address in &addresses {
        check_listen(*address, option, tls, insecure)?;
    }
    TcpListener::bind(addresses.as_slice()).await.map_err(fail)
}
