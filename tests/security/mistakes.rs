//! Mistakes with TLS, made with real processes: what a command says of each, and what a replica's status does.

use crate::certs::{Authority, Valid};
use crate::process::{Server, database, until_done, walcast};
use std::path::Path;

/// A server with a certificate, or without.
async fn server(dir: &Path, name: &str, pair: Option<&str>) -> Server {
    let db = format!("app.db={name}.db");
    let mut args = vec!["primary", "--db", &db, "--listen", "127.0.0.1:0"];
    let files = pair.map(|pair| [format!("{pair}.pem"), format!("{pair}.key")]);
    if let Some([cert, key]) = &files {
        args.extend(["--tls-cert", cert, "--tls-key", key]);
    }
    Server::start(dir, &args).await
}

struct Mistake<'a> {
    what: &'a str,
    url: String,
    ca: Option<&'a str>,
    /// What the line says.
    words: &'a [&'a str],
}

#[tokio::test]
async fn each_is_one_line_and_the_same_in_a_replicas_status() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    drop(database(dir));
    let authority = Authority::new("a");
    authority.write(dir, "ca.pem");
    Authority::new("another").write(dir, "other.pem");
    authority.server(dir, "good", &["localhost"], Valid::Now);
    authority.server(dir, "elsewhere", &["primary.example"], Valid::Now);
    authority.server(dir, "old", &["localhost"], Valid::Past);
    authority.server(dir, "early", &["localhost"], Valid::Future);
    let good = server(dir, "one", Some("good")).await;
    let elsewhere = server(dir, "two", Some("elsewhere")).await;
    let old = server(dir, "three", Some("old")).await;
    let early = server(dir, "four", Some("early")).await;
    let plain = server(dir, "five", None).await;
    let https = |server: &Server| format!("https://localhost:{}", server.port());
    let http = |server: &Server| format!("http://localhost:{}", server.port());
    let mistakes = [
        Mistake {
            what: "wrong authority",
            url: https(&good),
            ca: Some("other.pem"),
            words: &["authority that is not believed here"],
        },
        Mistake {
            what: "wrong name",
            url: https(&elsewhere),
            ca: Some("ca.pem"),
            words: &["not for 'localhost'", "primary.example"],
        },
        Mistake {
            what: "plaintext to a TLS port",
            url: http(&good),
            ca: None,
            words: &["TLS port", "https://"],
        },
        Mistake {
            what: "TLS to a plaintext port",
            url: https(&plain),
            ca: Some("ca.pem"),
            words: &["TLS", "http://"],
        },
        Mistake {
            what: "expired",
            url: https(&old),
            ca: Some("ca.pem"),
            words: &["has expired"],
        },
        Mistake {
            what: "not valid yet",
            url: https(&early),
            ca: Some("ca.pem"),
            words: &["not valid yet"],
        },
    ];
    for (i, mistake) in mistakes.iter().enumerate() {
        let what = mistake.what;
        for command in [
            &["position", "--db", "app.db"][..],
            &["status"],
            &["health"],
            &["backup", "--db", "app.db", "--to", "never.db"],
        ] {
            let mut args = [command, &["--server", &mistake.url]].concat();
            args.extend(mistake.ca.iter().flat_map(|ca| ["--tls-ca", ca]));
            let (code, text) = walcast(dir, &args).await;
            assert_eq!(code, 3, "{what}: {args:?}: {text}");
            assert_eq!(text.lines().count(), 1, "{what}: one line: {text}");
            for words in mistake.words {
                assert!(text.contains(words), "{what}: {args:?}: {text}");
            }
        }
        let copy = format!("app.db=copy-{i}.db");
        let mut args = vec!["replica", "--upstream", &mistake.url, "--db", &copy];
        args.extend(["--listen", "127.0.0.1:0"]);
        args.extend(mistake.ca.iter().flat_map(|ca| ["--upstream-ca", ca]));
        let replica = Server::start(dir, &args).await;
        let url = http(&replica);
        let status = ["status", "--json", "--server", &url];
        let told = |text: &str| {
            let all: serde_json::Value = serde_json::from_str(text).expect("JSON");
            let database = &all["databases"][0];
            let reason = database["reason"].as_str().expect("a reason");
            database["state"] == "disconnected"
                && !reason.contains('\n')
                && mistake.words.iter().all(|words| reason.contains(words))
        };
        until_done(dir, what, &status, told).await;
    }
    assert!(!dir.join("never.db").exists());
}
