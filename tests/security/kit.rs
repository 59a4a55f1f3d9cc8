//! What the tests here have in common.

use crate::certs::Pair;
use crate::fake::{FakePrimary, FakeReplica};
use crate::running::{PATIENCE, Running, within};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use walcast::client::{Admin, ClientError, Upstream};
use walcast::config::{
    Grant, Limits, Permission, ServerOptions, ServerTls, TokenSource, UpstreamEntry, UpstreamTls,
};
use walcast::model::StreamStart;
use walcast::security::ServerSecurity;
use walcast::server::ServerConfig;

/// A server with a primary 'app.db', one in a directory, and a replica 'copy.db'.
pub struct Stage {
    pub server: Running,
    pub primary: Arc<FakePrimary>,
}

impl Stage {
    pub async fn new(options: &ServerOptions, limits: Limits) -> Stage {
        let primary = FakePrimary::new("app.db");
        let inner = FakePrimary::new("tenants/1.db");
        let replica = FakeReplica::new("copy.db");
        let databases = vec![primary.served(), inner.served(), replica.served()];
        let config = ServerConfig {
            security: ServerSecurity::load(options).expect("files that can be read"),
            limits,
            reflection: options.reflection,
            ..ServerConfig::default()
        };
        let server = Running::with(databases, None, config).await;
        Stage { server, primary }
    }

    pub fn https(&self) -> String {
        format!("https://localhost:{}", self.server.address.port())
    }
}

pub fn grant(name: &str, token: &str, databases: &[&str], allow: &[Permission]) -> Grant {
    Grant {
        name: name.to_owned(),
        token: Some(TokenSource::Value(token.to_owned())),
        client_name: None,
        databases: databases.iter().map(|&p| p.to_owned()).collect(),
        allow: allow.to_vec(),
    }
}

pub fn options(tls: Option<ServerTls>, access: Vec<Grant>) -> ServerOptions {
    ServerOptions {
        tls,
        access,
        ..ServerOptions::default()
    }
}

pub fn server_tls(pair: &Pair, client_ca: Option<&Path>) -> ServerTls {
    ServerTls {
        cert: pair.cert.clone(),
        key: pair.key.clone(),
        client_ca: client_ca.map(Path::to_owned),
    }
}

pub fn entry(
    url: &str,
    ca: Option<&Path>,
    pair: Option<&Pair>,
    token: Option<&str>,
) -> UpstreamEntry {
    UpstreamEntry {
        url: url.to_owned(),
        tls: UpstreamTls {
            ca: ca.map(Path::to_owned),
            cert: pair.map(|pair| pair.cert.clone()),
            key: pair.map(|pair| pair.key.clone()),
            server_name: None,
        },
        token: token.map(|token| TokenSource::Value(token.to_owned())),
    }
}

/// Asks for a position, as a new client.
pub async fn ask(entry: &UpstreamEntry) -> Result<(), ClientError> {
    let admin = Admin::connect_to(entry, false)?;
    within(admin.position("app.db")).await.map(drop)
}

/// The one line that a person reads.
pub async fn line_of(entry: &UpstreamEntry) -> String {
    let line = ask(entry).await.expect_err("a refusal").to_string();
    assert!(!line.contains('\n'), "one line: {line:?}");
    line
}

pub fn start(database: &str) -> StreamStart {
    StreamStart {
        database: database.into(),
        position: None,
        dbsum: None,
        frame_cksum: None,
        replica_id: "id".into(),
        replica_name: "name".into(),
        lz4: true,
        recent: false,
        page_size: 0,
        address: String::new(),
        transient: false,
        resume_only: false,
    }
}

pub fn upstream(entry: &UpstreamEntry) -> Upstream {
    Upstream::connect_to(entry, false).expect("an upstream")
}

/// Asks again until it is so.
pub async fn poll<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "gave up waiting for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
