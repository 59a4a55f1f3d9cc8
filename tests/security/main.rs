//! Security over real connections: certificates, tokens, limits, and what hostile peers send.

mod answers;
#[path = "../common/bytes_codec.rs"]
mod bytes_codec;
mod certs;
mod documentation;
#[allow(dead_code)]
#[path = "../rpc/fake.rs"]
mod fake;
mod idle;
mod kit;
mod limits;
mod mistakes;
mod process;
#[allow(dead_code)]
#[path = "../e2e/support/proxy.rs"]
mod proxy;
mod raw;
mod replica;
mod requests;
#[allow(dead_code)]
#[path = "../rpc/running.rs"]
mod running;
mod second_port;
mod stalled;
mod tls;
mod tokens;
