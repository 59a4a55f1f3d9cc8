//! The second port: metrics for Prometheus, probes, and a status page for people. It only looks; nothing can be changed
//! through it.
//!
//! ```text
//! registry ── each second ──> sample (`sampler`) ──> rows, rates, history ──> /events ──> the page
//!     └────── each scrape ──> `collect` ──> /metrics        `probes` ──> /livez, /readyz
//! ```

mod access;
mod collect;
mod collect_archives;
mod collect_server;
mod encode;
mod events;
mod history;
mod host;
mod listen;
mod options;
mod page;
mod probes;
mod process;
mod recent;
mod routes;
mod sampler;
mod seat;
mod stall;
mod told;
mod view;

pub use listen::serve;
pub use options::HttpOptions;
pub use recent::{Line, Recent};
