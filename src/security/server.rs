//! All of a server's security in one handle, which both ports share and which a reload of the configuration replaces.

use super::{Access, Connection, Protocol, SecurityError, ServerTls};
use crate::config::ServerOptions;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// How soon a changed certificate or token is in force.
const LOOK: Duration = Duration::from_secs(2);
/// What a peer that is refused may still send.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 << 10;

/// A server's TLS and access; cheap to clone, and shared by its clones.
#[derive(Clone, Debug)]
pub struct ServerSecurity(Arc<RwLock<State>>);

#[derive(Clone, Debug)]
struct State {
    tls: Option<Arc<ServerTls>>,
    access: Arc<Access>,
}

impl Default for ServerSecurity {
    fn default() -> ServerSecurity {
        ServerSecurity::open()
    }
}

impl State {
    fn load(options: &ServerOptions) -> Result<State, SecurityError> {
        let tls = options.tls.as_ref().map(ServerTls::load).transpose()?;
        let certificates = options
            .tls
            .as_ref()
            .is_some_and(|tls| tls.client_ca.is_some());
        Ok(State {
            tls: tls.map(Arc::new),
            access: Arc::new(Access::new(&options.access, certificates)?),
        })
    }
}

/// Lets the peer read why it was refused: closed at once, with bytes of its own unread, TCP would reset the connection
/// and the alert would be lost.
async fn linger(mut stream: TcpStream) {
    let read = async {
        let _ = stream.shutdown().await;
        let mut sink = [0; 1024];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut sink).await {
                Ok(length) if length > 0 => left = left.saturating_sub(length),
                _ => break,
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, read).await;
}

impl ServerSecurity {
    /// Plaintext, and everyone may do everything.
    pub fn open() -> ServerSecurity {
        ServerSecurity(Arc::new(RwLock::new(State {
            tls: None,
            access: Arc::new(Access::open()),
        })))
    }

    /// Reads every certificate, key and token; the first that is wrong is an error.
    pub fn load(options: &ServerOptions) -> Result<ServerSecurity, SecurityError> {
        Ok(ServerSecurity(Arc::new(RwLock::new(State::load(options)?))))
    }

    /// Takes a changed configuration for connections and calls that begin from now on, all of it or nothing.
    pub fn replace(&self, options: &ServerOptions) -> Result<(), SecurityError> {
        let state = State::load(options)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = state;
        Ok(())
    }

    fn state(&self) -> State {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Who may do what, now.
    pub fn access(&self) -> Arc<Access> {
        self.state().access
    }

    /// Whether connections are encrypted.
    pub fn has_tls(&self) -> bool {
        self.state().tls.is_some()
    }

    /// The handshake, if there is TLS. The caller limits its time.
    pub async fn accept(&self, stream: TcpStream, protocol: Protocol) -> io::Result<Connection> {
        let Some(tls) = self.state().tls else {
            return Ok(Connection::Plain(stream));
        };
        let acceptor = TlsAcceptor::from(tls.config(protocol));
        match acceptor.accept(stream).into_fallible().await {
            Ok(stream) => Ok(Connection::Tls(Box::new(stream))),
            Err((error, stream)) => {
                linger(stream).await;
                Err(error)
            }
        }
    }

    /// Looks whether files have changed, now. It blocks for a moment.
    pub fn reload(&self) {
        let state = self.state();
        if let Some(tls) = &state.tls {
            tls.reload();
        }
        state.access.reload();
    }

    /// Looks whether files have changed, again and again. Never returns; dropping it ends it.
    pub async fn keep(&self) -> Infallible {
        loop {
            tokio::time::sleep(LOOK).await;
            let security = self.clone();
            // A panic in there ends the process; until then there is nothing to do here.
            let _ = tokio::task::spawn_blocking(move || security.reload()).await;
        }
    }
}
