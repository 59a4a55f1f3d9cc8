//! The commands of docs/security.md, run as they are written; what they make is used.

use crate::process::{Server, database, skip, until_done, walcast};
use tokio::process::Command;

const PAGE: &str = include_str!("../../docs/security.md");

fn commands() -> &'static str {
    let section = PAGE
        .split("\n## Certificates\n")
        .nth(1)
        .expect("the section");
    let block = section.split("```sh\n").nth(1).expect("a block");
    block.split("```").next().expect("its end")
}

#[tokio::test]
async fn the_commands_make_what_a_primary_and_a_replica_need() {
    if Command::new("openssl")
        .arg("version")
        .output()
        .await
        .is_err()
    {
        return skip("openssl is missing");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let output = Command::new("bash")
        .args(["-e", "-c", commands()])
        .current_dir(dir)
        .output()
        .await;
    let output = output.expect("bash runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let app = database(dir);
    let tls = ["--tls-cert", "server.pem", "--tls-key", "server.key"];
    let start = [
        "primary",
        "--db",
        "app.db",
        "--listen",
        "127.0.0.1:0",
        "--access-token-file",
        "token",
    ];
    let args = [&start[..], &tls, &["--tls-client-ca", "ca.pem"]].concat();
    let primary = Server::start(dir, &args).await;
    let url = format!("https://localhost:{}", primary.port());
    // The replica has the token; who asks for a position is known by the certificate or the token.
    let args = [
        "replica",
        "--upstream",
        &url,
        "--upstream-ca",
        "ca.pem",
        "--upstream-token-file",
        "token",
        "--db",
        "app.db=copy/app.db",
        "--listen",
        "127.0.0.1:0",
    ];
    let replica = Server::start(dir, &args).await;
    let client = [
        "--tls-ca",
        "ca.pem",
        "--tls-cert",
        "client.pem",
        "--tls-key",
        "client.key",
    ];
    let with_token = ["--tls-ca", "ca.pem", "--token-file", "token"];
    let position = ["position", "--server", &url, "--db", "app.db"];
    let args = [&position[..], &with_token].concat();
    until_done(dir, "the primary", &args, |_| true).await;
    app.execute_batch("INSERT INTO t VALUES(2)").expect("a row");
    let at = until_done(dir, "a position", &args, |_| true).await;
    let copy = format!("http://{}", replica.address);
    let wait = [
        "wait",
        "--server",
        &copy,
        "--db",
        "app.db",
        "--position",
        at.trim(),
    ];
    until_done(dir, "the replica", &wait, |_| true).await;
    let reader = rusqlite::Connection::open(dir.join("copy/app.db")).expect("a reader");
    let rows: i64 = reader
        .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
        .expect("rows");
    assert_eq!(rows, 2);
    // The one grant of the command line is the token's: a certificate alone has none.
    let (code, text) = walcast(dir, &[&position[..], &client].concat()).await;
    assert_eq!(code, 5, "{text}");
    assert!(text.contains("replica-1.example"), "{text}");
    let (code, text) = walcast(dir, &[&position[..], &["--tls-ca", "ca.pem"]].concat()).await;
    assert_eq!(code, 5, "{text}");
    assert!(text.contains("token"), "{text}");
    drop(primary);
    // Without a token, every certificate of the authority will do.
    let start = ["primary", "--db", "app.db", "--listen", "127.0.0.1:0"];
    let args = [&start[..], &tls, &["--tls-client-ca", "ca.pem"]].concat();
    let primary = Server::start(dir, &args).await;
    let url = format!("https://localhost:{}", primary.port());
    let position = ["position", "--server", &url, "--db", "app.db"];
    until_done(
        dir,
        "the primary",
        &[&position[..], &client].concat(),
        |_| true,
    )
    .await;
}
