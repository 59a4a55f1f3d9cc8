//! What `/metrics` answers of archives. Labels are the database and the archive's URL, which holds no secret.

use super::encode::{Families, NANOSECONDS};
use crate::model::{ArchiveStatus, DatabaseState};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use std::fmt::Error;

/// The archives of all databases.
#[derive(Debug)]
pub struct Archives(pub Vec<ArchiveStatus>);

type Labels<'a> = [(&'static str, &'a str); 2];

impl Archives {
    fn all<T>(&self, value: impl Fn(&ArchiveStatus) -> T) -> impl Iterator<Item = (Labels<'_>, T)> {
        self.0.iter().map(move |status| {
            let labels = [
                ("database", status.database.as_str()),
                ("archive", status.archive.as_str()),
            ];
            (labels, value(status))
        })
    }
}

impl Collector for Archives {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut out = Families(encoder);
        let is_up = |status: &ArchiveStatus| {
            let up = matches!(
                status.state,
                DatabaseState::Streaming | DatabaseState::CatchingUp | DatabaseState::Snapshot
            );
            f64::from(u8::from(up))
        };
        out.gauge(
            "archive_connected",
            "1 while an archive takes what is written to it",
            self.all(is_up),
        )?;
        out.gauge(
            "archive_lag_seconds",
            "Seconds since the oldest commit that is not in an archive; 0 when level",
            self.all(|status| status.lag_seconds),
        )?;
        out.gauge(
            "archive_lag_bytes",
            "Bytes of WAL that are not in an archive yet",
            self.all(|status| status.lag_bytes as f64),
        )?;
        out.counter(
            "archive_uploads",
            "Segments written to an archive",
            self.all(|status| status.meters.uploads.get()),
        )?;
        out.counter(
            "archive_uploaded_bytes",
            "Bytes of segments, their documents and snapshots written to an archive, compressed",
            self.all(|status| status.meters.uploaded_bytes.get()),
        )?;
        out.counter(
            "archive_upload_failures",
            "Times that an archive failed to take or to answer something, each of which is tried again",
            self.all(|status| status.meters.upload_failures.get()),
        )?;
        out.counter(
            "archive_snapshots",
            "Snapshots written to an archive",
            self.all(|status| {
                let (_, counts) = status.meters.snapshots.read();
                counts.iter().map(|(_, count)| count).sum()
            }),
        )?;
        out.histogram(
            "archive_snapshot_duration_seconds",
            "Seconds that each snapshot took until it was in an archive",
            NANOSECONDS,
            self.0.iter().map(|status| {
                let labels = [
                    ("database", status.database.as_str()),
                    ("archive", status.archive.as_str()),
                ];
                (labels, &status.meters.snapshots)
            }),
        )
    }
}
