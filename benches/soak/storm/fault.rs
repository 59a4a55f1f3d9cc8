//! What happens to the storm's cluster.

use super::SIDES;
use crate::steady::{NETWORK, Network};

/// One of them.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    KillApplication,
    KillReaders,
    KillServer(&'static str),
    KillAll,
    StopApplication,
    StopServer(&'static str),
    Network(Network),
    /// An operation of the disk fails, once.
    Disk(&'static str),
    /// One that writes fails for a while: no space.
    Full(&'static str),
    DamagedByte,
    ForeignHeader,
    Checkpoint,
}

/// Each of them once.
pub fn all_faults() -> Vec<Fault> {
    let mut all = vec![
        Fault::KillApplication,
        Fault::KillReaders,
        Fault::KillAll,
        Fault::StopApplication,
        Fault::DamagedByte,
        Fault::ForeignHeader,
        Fault::Checkpoint,
    ];
    all.extend(NETWORK.map(Fault::Network));
    for side in SIDES {
        all.extend([
            Fault::KillServer(side),
            Fault::StopServer(side),
            Fault::Disk(side),
            Fault::Full(side),
        ]);
    }
    all
}

impl Fault {
    /// As it stands in the verdict.
    pub fn name(self) -> String {
        match self {
            Fault::KillApplication => "kill -9 of the application".to_owned(),
            Fault::KillReaders => "kill -9 of all readers".to_owned(),
            Fault::KillServer(side) => format!("kill -9 of the {side}"),
            Fault::KillAll => "kill -9 of all at once".to_owned(),
            Fault::StopApplication => "SIGSTOP of the application".to_owned(),
            Fault::StopServer(side) => format!("SIGSTOP of the {side}"),
            Fault::Network(fault) => fault.name().to_owned(),
            Fault::Disk(side) => format!("disk: an operation of the {side} fails"),
            Fault::Full(side) => format!("disk: no space for the {side}"),
            Fault::DamagedByte => "a byte of the copy damaged".to_owned(),
            Fault::ForeignHeader => "a foreign wal-index header on the copy".to_owned(),
            Fault::Checkpoint => "a checkpoint by a reader of the copy".to_owned(),
        }
    }
}
