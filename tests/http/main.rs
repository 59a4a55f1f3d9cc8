//! The second port over real connections: metrics, probes, the page and its events, and who may see them. Databases are
//! fakes; `tests/browser` has real ones, and a browser.

mod access;
mod events;
mod fake;
mod limits;
mod metrics;
mod probes;
mod running;
