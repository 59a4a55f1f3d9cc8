//! A primary's stream, as the commands read it that want a database once.

use super::exit::{Exit, Failure};
use super::progress::Progress;
use crate::client::{ClientError, MessageStream, Upstream};
use crate::model::{Message, Point, StreamStart};
use crate::replica::{Take, TakeError, Taken};
use std::time::Duration;

/// A server that sends nothing for longer is gone: an idle primary sends heartbeats.
const SILENCE: Duration = Duration::from_secs(60);

/// A stream from nothing.
pub(super) struct Source {
    stream: MessageStream,
    url: String,
}

impl Source {
    /// Asks for a database. The inner error is the server's answer.
    pub(super) async fn open(
        upstream: &Upstream,
        database: &str,
    ) -> Result<Result<Source, ClientError>, Failure> {
        let host = nix::unistd::gethostname().ok();
        let host = host.and_then(|name| name.into_string().ok());
        let id = getrandom::u64().map_err(|e| Failure::new(Exit::Failed, e.to_string()))?;
        let start = StreamStart {
            database: database.to_owned(),
            position: None,
            dbsum: None,
            frame_cksum: None,
            replica_id: format!("once-{id:016x}"),
            replica_name: host.unwrap_or_else(|| "once".to_owned()),
            lz4: true,
            // It reads a snapshot, and leaves.
            recent: false,
            page_size: 0,
            address: String::new(),
            transient: true,
            resume_only: false,
        };
        let opened = upstream.stream(start).await;
        Ok(opened.map(|stream| Source {
            stream,
            url: upstream.url().to_owned(),
        }))
    }

    /// The next message.
    pub(super) async fn next(&mut self) -> Result<Message, Failure> {
        let unreachable =
            |what: &str| Failure::new(Exit::Unreachable, format!("{}: {what}", self.url));
        match tokio::time::timeout(SILENCE, self.stream.next()).await {
            Ok(Some(message)) => Ok(message?),
            Ok(None) => Err(unreachable("the stream ended")),
            Err(_) => Err(unreachable(
                "nothing came for a minute; is the server overloaded?",
            )),
        }
    }

    /// Reads on until the snapshot is complete.
    pub(super) async fn snapshot(
        &mut self,
        take: &mut Take,
        what: &str,
        quiet: bool,
    ) -> Result<Point, Failure> {
        let mut progress = Progress::new(what, quiet);
        let mut size = 0;
        loop {
            let message = self.next().await?;
            if let Message::Hello(hello) = &message {
                size = u64::from(hello.page_size);
            }
            match take.message(message).map_err(take_failed)? {
                Taken::Nothing => {}
                Taken::Begun(pages) => progress.of(u64::from(pages) * size),
                Taken::Pages(pages) => progress.add(u64::from(pages) * size),
                Taken::At(point) => return Ok(point),
            }
        }
    }
}

pub(super) fn take_failed(error: TakeError) -> Failure {
    Failure::new(Exit::Failed, error.to_string())
}
