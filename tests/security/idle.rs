//! What connections cost that do nothing.

use crate::certs::{Authority, Valid};
use crate::process::Server;
use crate::raw::{HEADERS, Raw, headers};
use crate::running::within;
use tokio::net::TcpStream;
use walcast::security::ClientSecurity;

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .and_then(|l| l.trim().strip_suffix(" kB")?.trim().parse().ok())
        .expect("kB");
    kib << 10
}

/// Memory for each of a thousand connections on which one call was made.
async fn idle_cost(server: &Server, tls: Option<&ClientSecurity>) -> u64 {
    let pid = server.child.id().expect("a pid");
    let before = resident(pid);
    let mut held = Vec::new();
    for _ in 0..1000 {
        let socket = TcpStream::connect(&server.address)
            .await
            .expect("a connection");
        let mut raw = match tls {
            None => Raw::over(Box::new(socket)).await,
            Some(tls) => {
                let socket = within(tls.handshake(socket)).await.expect("a handshake");
                Raw::over(Box::new(socket)).await
            }
        };
        raw.send(HEADERS, 4, 1, &headers("/grpc.health.v1.Health/Check", &[]))
            .await;
        raw.send(0, 1, 1, &[0; 5]).await;
        let answered = async {
            while let Some(frame) = raw.next().await {
                if frame.kind == HEADERS {
                    return;
                }
            }
            panic!("closed");
        };
        within(answered).await;
        held.push(raw);
    }
    resident(pid).saturating_sub(before) / 1000
}

/// docs/security.md has the numbers.
#[tokio::test]
async fn a_thousand_idle_connections_cost_little() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let authority = Authority::new("a");
    let ca = authority.write(dir, "ca.pem");
    authority.server(dir, "server", &["localhost"], Valid::Now);
    let start = ["primary", "--listen", "127.0.0.1:0", "--db", "app.db"];
    let plain = Server::start(dir, &start).await;
    let tls = ["--tls-cert", "server.pem", "--tls-key", "server.key"];
    let start = ["primary", "--listen", "127.0.0.1:0", "--db", "b.db"];
    let encrypted = Server::start(dir, &[&start[..], &tls].concat()).await;
    let entry = crate::kit::entry("https://localhost:1", Some(&ca), None, None);
    let client = ClientSecurity::new(&entry, "https", "localhost", false).expect("a client");
    let (plain, encrypted) = (
        idle_cost(&plain, None).await,
        idle_cost(&encrypted, Some(&client)).await,
    );
    println!("an idle connection costs {plain} bytes, with TLS {encrypted}");
    assert!(plain < 64 << 10, "{plain} bytes for each idle connection");
    assert!(encrypted < 128 << 10, "{encrypted} bytes for each with TLS");
}
