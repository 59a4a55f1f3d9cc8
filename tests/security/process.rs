//! The program itself, and clients that we did not write.

use crate::certs::{Authority, Valid, replace};
use crate::proxy::Proxy;
use crate::running::within;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

pub const TOKEN: &str = "the-token-of-this-test-0123456789";
/// For what takes a dead peer 15 s by design, on a machine that does much else.
const LONG: Duration = Duration::from_secs(60);

/// A tool is missing: loud, and a failure where nothing may be skipped.
pub fn skip(what: &str) {
    assert!(
        std::env::var("WALCAST_REQUIRE_ALL").as_deref() != Ok("1"),
        "SKIP is a failure here (WALCAST_REQUIRE_ALL=1): {what}"
    );
    eprintln!("\n##### SKIPPED: {what} #####\n");
}

/// Runs walcast to its end: its code, and what it said.
pub async fn walcast(dir: &Path, args: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_walcast"));
    command.args(args).current_dir(dir).kill_on_drop(true);
    command.stdin(Stdio::null()).env_remove("WALCAST_TOKEN");
    let output = within(command.output()).await.expect("walcast runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.code().expect("an exit code"), text)
}

/// A server's process.
pub struct Server {
    pub child: Child,
    pub address: String,
}

impl Server {
    pub async fn start(dir: &Path, args: &[&str]) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_walcast"))
            .args(args)
            .current_dir(dir)
            .env_remove("WALCAST_TOKEN")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("walcast runs");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let address = within(async {
            let mut said = Vec::new();
            loop {
                match lines.next_line().await.expect("text") {
                    Some(line) => match line.strip_prefix("listening on ") {
                        Some(address) => return address.to_owned(),
                        None => said.push(line),
                    },
                    None => panic!("it ended: {said:?}"),
                }
            }
        })
        .await;
        // The pipe must not fill.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Server { child, address }
    }

    pub fn port(&self) -> &str {
        self.address.rsplit(':').next().expect("a port")
    }
}

/// Runs walcast until it ends with 0.
pub async fn until_done(
    dir: &Path,
    what: &str,
    args: &[&str],
    fits: impl Fn(&str) -> bool,
) -> String {
    let end = Instant::now() + LONG;
    loop {
        let (code, text) = walcast(dir, args).await;
        if code == 0 && fits(&text) {
            return text;
        }
        assert!(
            Instant::now() < end,
            "gave up waiting for {what}: {code} {text}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub fn database(dir: &Path) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(dir.join("app.db")).expect("a database");
    let sql = "PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)";
    connection.execute_batch(sql).expect("a table");
    connection
}

#[tokio::test]
async fn the_environment_gives_a_token_and_an_option_takes_reflection_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    replace(&dir.join("token"), TOKEN);
    let _app = database(dir);
    let listen = ["primary", "--db", "app.db", "--listen", "127.0.0.1:0"];
    let access = ["--access-token-file", "token"];
    for (more, has_reflection) in [(&[][..], true), (&["--no-reflection"][..], false)] {
        let args = [&listen[..], &access, more].concat();
        let server = Server::start(dir, &args).await;
        let url = format!("http://{}", server.address);
        let ask = async |token: Option<&str>| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_walcast"));
            command.args(["status", "--server", &url]).current_dir(dir);
            command.env_remove("WALCAST_TOKEN").kill_on_drop(true);
            command.envs(token.map(|token| ("WALCAST_TOKEN", token)));
            let output = within(command.output()).await.expect("walcast runs");
            (
                output.status.code(),
                String::from_utf8_lossy(&output.stderr).into_owned(),
            )
        };
        assert_eq!(ask(Some(TOKEN)).await.0, Some(0));
        for wrong in [None, Some(""), Some("another-token-of-nobody-0123456789")] {
            let (code, text) = ask(wrong).await;
            assert_ne!(code, Some(0), "{wrong:?}");
            assert!(text.contains("token"), "{wrong:?}: {text}");
        }

        let channel = tonic::transport::Endpoint::new(url.clone()).expect("a URL");
        let mut client =
            ServerReflectionClient::new(within(channel.connect()).await.expect("a port"));
        let mut request = tonic::Request::new(tokio_stream::empty());
        let bearer = format!("Bearer {TOKEN}").parse().expect("ASCII");
        request.metadata_mut().insert("authorization", bearer);
        let answer = within(client.server_reflection_info(request)).await;
        match has_reflection {
            true => drop(answer.expect("a service")),
            false => {
                let error = answer.expect_err("it was turned off");
                assert_eq!(error.code(), tonic::Code::Unimplemented, "{error}");
            }
        }
    }
}

#[tokio::test]
async fn plaintext_beyond_loopback_is_refused_token_or_not() {
    let dir = tempfile::tempdir().expect("a directory");
    replace(&dir.path().join("token"), TOKEN);
    let primary = ["primary", "--db", "app.db"];
    let replica = [
        "replica",
        "--upstream",
        "http://127.0.0.1:1",
        "--db",
        "app.db",
    ];
    let token = ["--access-token-file", "token"];
    for command in [&primary[..], &replica[..]] {
        for listen in ["0.0.0.0:0", "[::]:0"] {
            for more in [&[][..], &token[..]] {
                let args = [command, &["--listen", listen], more].concat();
                let (code, text) = walcast(dir.path(), &args).await;
                assert_eq!(code, 2, "{args:?}: {text}");
                assert!(
                    text.contains("--tls-cert") && text.contains("--insecure"),
                    "{text}"
                );
                assert_eq!(text.lines().count(), 1, "one line: {text}");
            }
        }
    }
    let left = std::fs::read_dir(dir.path()).expect("a directory").count();
    assert_eq!(left, 1, "nothing was changed");
    let server = Server::start(
        dir.path(),
        &[
            "primary",
            "--db",
            "app.db",
            "--listen",
            "0.0.0.0:0",
            "--insecure",
        ],
    );
    let _meant = server.await;
    let authority = Authority::new("a");
    authority.server(dir.path(), "server", &["localhost"], Valid::Now);
    let tls = ["--tls-cert", "server.pem", "--tls-key", "server.key"];
    let args = [
        &["primary", "--db", "b.db", "--listen", "0.0.0.0:0"][..],
        &tls,
    ]
    .concat();
    let _encrypted = Server::start(dir.path(), &args).await;
    // A key that is not the certificate's is told before anything listens.
    authority.server(dir.path(), "other", &["localhost"], Valid::Now);
    let wrong = [
        "primary",
        "--db",
        "c.db",
        "--tls-cert",
        "server.pem",
        "--tls-key",
        "other.key",
    ];
    let (code, text) = walcast(dir.path(), &wrong).await;
    assert_eq!(code, 2, "{text}");
    assert!(
        text.contains("other.key") && text.contains("server.pem"),
        "{text}"
    );
}

/// grpcurl of the tests' environment, or of the system.
fn grpcurl() -> Option<PathBuf> {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/ci-venv/bin/grpcurl");
    let found = std::iter::once(venv)
        .chain(
            std::env::var_os("PATH")
                .iter()
                .flat_map(std::env::split_paths)
                .map(|d| d.join("grpcurl")),
        )
        .find(|path| path.is_file());
    if found.is_none() {
        skip("grpcurl is missing; run .ci/tools");
    }
    found
}

#[tokio::test]
async fn grpcurl_with_a_token_and_with_a_certificate() {
    let Some(grpcurl) = grpcurl() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let (dir, _app) = (dir.path(), database(dir.path()));
    let authority = Authority::new("a");
    authority.write(dir, "ca.pem");
    authority.server(dir, "server", &["localhost"], Valid::Now);
    authority.client(dir, "client", &["client.example"], "x");
    replace(&dir.join("token"), TOKEN);
    let tls = ["--tls-cert", "server.pem", "--tls-key", "server.key"];
    let start = ["primary", "--db", "app.db", "--listen", "127.0.0.1:0"];
    let by_token = Server::start(
        dir,
        &[&start[..], &tls, &["--access-token-file", "token"]].concat(),
    )
    .await;
    let ask = async |port: &str, more: &[&str]| {
        let address = format!("localhost:{port}");
        let output = Command::new(&grpcurl)
            .args(more)
            .args([
                "-d",
                r#"{"database":"app.db"}"#,
                &address,
                "walcast.v1.PositionService/GetPosition",
            ])
            .current_dir(dir)
            .output();
        let output = within(output).await.expect("grpcurl runs");
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    };
    let header = format!("authorization: Bearer {TOKEN}");
    let health = [
        "health",
        "--server",
        &format!("https://localhost:{}", by_token.port()),
        "--tls-ca",
        "ca.pem",
        "--db",
        "app.db",
    ];
    until_done(dir, "the database", &health, |_| true).await;
    let (good, text) = ask(by_token.port(), &["-cacert", "ca.pem", "-H", &header]).await;
    assert!(good && text.contains("position"), "{text}");
    for wrong in [
        &["-cacert", "ca.pem"][..],
        &["-cacert", "ca.pem", "-H", "authorization: Bearer no"],
    ] {
        let (good, text) = ask(by_token.port(), wrong).await;
        assert!(!good && text.contains("Unauthenticated"), "{text}");
    }
    let (good, text) = ask(by_token.port(), &["-plaintext", "-H", &header]).await;
    assert!(!good, "{text}");
    drop(by_token);
    let args = [&start[..], &tls, &["--tls-client-ca", "ca.pem"]].concat();
    let mutual = Server::start(dir, &args).await;
    let health = [
        "health",
        "--server",
        &format!("https://localhost:{}", mutual.port()),
        "--tls-ca",
        "ca.pem",
        "--db",
        "app.db",
    ];
    until_done(dir, "the database", &health, |_| true).await;
    let pair = [
        "-cacert",
        "ca.pem",
        "-cert",
        "client.pem",
        "-key",
        "client.key",
    ];
    let (good, text) = ask(mutual.port(), &pair).await;
    assert!(good && text.contains("position"), "{text}");
    let (good, text) = ask(mutual.port(), &["-cacert", "ca.pem"]).await;
    assert!(!good && text.contains("client certificate"), "{text}");
}

/// A route that is lost without a word: no FIN, no RST. Each side has only its own pings to tell.
#[tokio::test]
async fn a_dead_peer_is_noticed_on_both_sides() {
    let dir = tempfile::tempdir().expect("a directory");
    let (dir, _app) = (dir.path(), database(dir.path()));
    let primary = Server::start(
        dir,
        &[
            "primary",
            "--db",
            "app.db",
            "--listen",
            "127.0.0.1:0",
            "--heartbeat",
            "1h",
        ],
    )
    .await;
    let proxy = Proxy::start();
    proxy.set_target(primary.address.parse().expect("an address"));
    let upstream = format!("http://{}", proxy.addr());
    let replica = [
        "replica",
        "--upstream",
        &upstream,
        "--db",
        "app.db=copy/app.db",
        "--listen",
        "127.0.0.1:0",
        "--name",
        "far",
    ];
    let replica = Server::start(dir, &replica).await;
    let of = |server: &Server| format!("http://{}", server.address);
    let (primary_url, replica_url) = (of(&primary), of(&replica));
    let of_primary = ["status", "--server", &primary_url, "--json"];
    let of_replica = ["status", "--server", &replica_url, "--json"];
    let streams = |text: &str| text.contains("\"streaming\"");
    until_done(dir, "the replica", &of_replica, streams).await;
    until_done(dir, "the primary", &of_primary, |text| {
        text.contains("\"far\"")
    })
    .await;
    proxy.stall(true);
    let cut = Instant::now();
    // Not by heartbeats: there are none within the hour. At the same time: the bound is of each.
    let lost = |text: &str| text.contains("disconnected");
    let at = async |what, args: &[&str]| {
        until_done(dir, what, args, lost).await;
        cut.elapsed()
    };
    let (replica, primary) = tokio::join!(
        at("the replica to notice", &of_replica),
        at("the primary to notice", &of_primary),
    );
    println!("noticed by the replica after {replica:?}, by the primary after {primary:?}");
    // It is what the protocol promises, and no matter of speed: 8 s without a sign, and 4 s for an answer.
    let most = Duration::from_secs(15);
    assert!(
        replica <= most && primary <= most,
        "{replica:?} {primary:?}"
    );
}
