//! The services over real connections: every row of docs/protocol.md, the end of a server, health, reflection, and what a
//! client says of servers that are none. Databases are fakes that do exactly what a row is about; `tests/e2e` has the
//! real ones.

mod cases;
mod drain;
mod exit_codes;
mod fake;
mod guarded;
mod health;
mod positions;
mod reflection;
mod registry;
mod running;
mod table;
mod upstream;
