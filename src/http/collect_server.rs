//! What `/metrics` answers of the server and its process, which have no database as a label.

use super::encode::Families;
use super::process::{self, Began};
use crate::model::ProcessMeters;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use std::fmt::Error;
use std::sync::Arc;

/// What belongs to the server as a whole.
#[derive(Debug)]
pub struct Server(pub Arc<ProcessMeters>);

const NO_LABELS: [(&str, &str); 0] = [];

impl Collector for Server {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut out = Families(encoder);
        let Server(meters) = self;
        let build = [("version", env!("CARGO_PKG_VERSION"))];
        out.gauge("build_info", "The version that runs here", [(build, 1.0)])?;
        let opened = meters.connections_opened.get();
        // Read after the other, so that what closes in between does not make it negative.
        let open = opened.saturating_sub(meters.connections_closed.get());
        out.gauge(
            "connections",
            "gRPC connections that are open",
            [(NO_LABELS, open as f64)],
        )?;
        out.counter(
            "connections_opened",
            "gRPC connections accepted",
            [(NO_LABELS, opened)],
        )?;
        out.counter(
            "config_reloads",
            "Configurations taken over by SIGHUP",
            [(NO_LABELS, meters.reloads.get())],
        )?;
        out.counter(
            "config_reload_failures",
            "Configurations that were refused by SIGHUP",
            [(NO_LABELS, meters.reload_failures.get())],
        )
    }
}

/// The process, under the names that all Prometheus clients use.
#[derive(Debug)]
pub struct OfProcess(pub Began);

impl Collector for OfProcess {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut out = Families(encoder);
        let now = process::read();
        let known = |value: Option<u64>| value.map(|value| (NO_LABELS, value as f64));
        out.gauge(
            "process_start_time_seconds",
            "When the server began, seconds since 1970-01-01 UTC",
            [(NO_LABELS, self.0.time_ms as f64 / 1000.0)],
        )?;
        out.gauge(
            "process_resident_memory_bytes",
            "Memory in RAM",
            known(now.resident_bytes),
        )?;
        out.gauge(
            "process_open_fds",
            "Open file descriptors",
            known(now.open_fds),
        )?;
        out.gauge(
            "process_max_fds",
            "File descriptors that may be open",
            known(now.max_fds),
        )?;
        out.gauge("process_threads", "Threads", known(now.threads))?;
        out.counter_f64("process_cpu_seconds", "CPU time used", now.cpu_seconds)
    }
}
