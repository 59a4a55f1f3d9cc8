//! Security over real connections: certificates, tokens, limits, and what hostile peers send.

mod certs;
#[allow(dead_code)]
#[path = "../rpc/fake.rs"]
mod fake;
mod kit;
mod limits;
mod process;
#[allow(dead_code)]
#[path = "../e2e/support/proxy.rs"]
mod proxy;
mod raw;
mod requests;
#[allow(dead_code)]
#[path = "../rpc/running.rs"]
mod running;
mod tls;
mod tokens;
