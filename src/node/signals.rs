//! The signals that a person or a supervisor sends.

use super::error::NodeError;
use nix::sys::signal::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

/// SIGTERM and SIGINT, which ask for the end.
pub struct EndSignals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

/// Listens from now on: before this a signal does what it does to any process.
pub fn listen() -> Result<(EndSignals, unix::Signal), NodeError> {
    let listen = |kind| signal(kind).map_err(NodeError::system("listen for signals"));
    let end = EndSignals {
        terminate: listen(SignalKind::terminate())?,
        interrupt: listen(SignalKind::interrupt())?,
    };
    Ok((end, listen(SignalKind::hangup())?))
}

impl EndSignals {
    /// The next one.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::SIGTERM,
            _ = self.interrupt.recv() => Signal::SIGINT,
        }
    }
}
