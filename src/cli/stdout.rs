//! What commands print.

use super::exit::{Exit, Failure};
use std::io::{self, Write as _};

/// To stdout. Who stops reading, as `head` does, has seen enough.
pub(super) fn print(bytes: impl AsRef<[u8]>) -> Result<Exit, Failure> {
    match io::stdout().write_all(bytes.as_ref()) {
        Ok(()) => Ok(Exit::Done),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        Err(error) => Err(Failure::new(
            Exit::Failed,
            format!("write to stdout: {error}"),
        )),
    }
}
