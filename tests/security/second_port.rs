//! The second port with TLS, by real processes: certificates of servers and clients, and what changes while it runs.

use crate::certs::{Authority, Pair, Valid, replace};
use crate::kit::poll;
use crate::process::{TOKEN, database, walcast};
use crate::running::within;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// A primary with a second port.
struct Port {
    _child: Child,
    port: u16,
    scheme: String,
}

impl Port {
    async fn start(dir: &Path, more: &[&str]) -> Port {
        let start = ["primary", "--db", "app.db", "--listen", "127.0.0.1:0"];
        let mut child = Command::new(env!("CARGO_BIN_EXE_walcast"))
            .args([&start[..], &["--http-listen", "127.0.0.1:0"], more].concat())
            .current_dir(dir)
            .env_remove("WALCAST_TOKEN")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("walcast runs");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let page = within(async {
            while let Some(line) = lines.next_line().await.expect("text") {
                if let Some(page) = line.strip_prefix("status page on ") {
                    return page.to_owned();
                }
            }
            panic!("it ended");
        })
        .await;
        // The pipe must not fill.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let (scheme, rest) = page.split_once("://").expect("a URL");
        let port = rest.trim_end_matches('/').rsplit(':').next();
        Port {
            _child: child,
            port: port.and_then(|p| p.parse().ok()).expect("a port"),
            scheme: scheme.to_owned(),
        }
    }

    /// A connection as a browser with these files makes it.
    async fn connect(&self, ca: &Path, pair: Option<&Pair>) -> Result<Tls, String> {
        let roots = pem_certificates(ca);
        let mut store = rustls::RootCertStore::empty();
        for root in roots {
            store.add(root).expect("an authority");
        }
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS")
            .with_root_certificates(store);
        let config = match pair {
            None => config.with_no_client_auth(),
            Some(pair) => {
                use rustls_pki_types::pem::PemObject as _;
                let key = rustls_pki_types::PrivateKeyDer::from_pem_file(&pair.key).expect("a key");
                config
                    .with_client_auth_cert(pem_certificates(&pair.cert), key)
                    .expect("a pair")
            }
        };
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let socket = TcpStream::connect(("127.0.0.1", self.port))
            .await
            .map_err(|e| e.to_string())?;
        let name = "localhost".try_into().expect("a name");
        let stream = within(connector.connect(name, socket)).await;
        stream.map_err(|error| error.to_string())
    }

    /// The status and the answer of one request on a connection of its own.
    async fn get(
        &self,
        ca: &Path,
        pair: Option<&Pair>,
        path: &str,
        headers: &str,
    ) -> Result<(u16, String), String> {
        let mut stream = self.connect(ca, pair).await?;
        ask(
            &mut stream,
            path,
            &format!("connection: close\r\n{headers}"),
        )
        .await?;
        let mut text = Vec::new();
        // Of TLS 1.3 the refusal of a client's certificate comes with the first bytes.
        within(stream.read_to_end(&mut text))
            .await
            .map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
        status.map(|status| (status, text.clone())).ok_or(text)
    }
}

type Tls = tokio_rustls::client::TlsStream<TcpStream>;

fn pem_certificates(path: &Path) -> Vec<rustls_pki_types::CertificateDer<'static>> {
    use rustls_pki_types::pem::PemObject as _;
    rustls_pki_types::CertificateDer::pem_file_iter(path)
        .expect("a file")
        .map(|cert| cert.expect("a certificate"))
        .collect()
}

async fn ask(stream: &mut Tls, path: &str, headers: &str) -> Result<(), String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
    let sent = stream.write_all(request.as_bytes()).await;
    sent.map_err(|error| error.to_string())
}

const TLS: [&str; 4] = ["--tls-cert", "server.pem", "--tls-key", "server.key"];

#[tokio::test]
async fn plaintext_beyond_loopback_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let start = ["primary", "--db", "app.db", "--listen", "127.0.0.1:0"];
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let args = [&start[..], &["--http-listen", listen]].concat();
        let (code, text) = walcast(dir, &args).await;
        assert_eq!(code, 2, "{text}");
        assert!(
            text.contains("--http-listen") && text.contains("--insecure"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1, "one line: {text}");
    }
    assert_eq!(std::fs::read_dir(dir).expect("a directory").count(), 0);
    let authority = Authority::new("a");
    authority.server(dir, "server", &["localhost"], Valid::Now);
    for meant in [&["--insecure"][..], &TLS] {
        let all = ["--http-listen", "0.0.0.0:0"];
        let port = Port::start(dir, &[&all[..], meant].concat()).await;
        assert_eq!(port.scheme, if meant.len() > 1 { "https" } else { "http" });
    }
}

#[tokio::test]
async fn a_page_over_tls_and_a_certificate_that_changes() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    drop(database(dir));
    let authority = Authority::new("a");
    let ca = authority.write(dir, "ca.pem");
    authority.server(dir, "server", &["localhost"], Valid::Now);
    replace(&dir.join("token"), TOKEN);
    let port = Port::start(dir, &[&TLS[..], &["--access-token-file", "token"]].concat()).await;
    assert_eq!(port.scheme, "https");
    let bearer = format!("authorization: Bearer {TOKEN}\r\n");
    for (path, token, wanted) in [
        ("/", bearer.as_str(), 200),
        ("/metrics", &bearer, 200),
        ("/", "", 401),
        ("/metrics", "", 401),
        ("/readyz", "", 200),
    ] {
        let (status, text) = port.get(&ca, None, path, token).await.expect("an answer");
        assert_eq!(status, wanted, "{path}: {text}");
    }
    let other = Authority::new("another");
    let other_ca = other.write(dir, "other.pem");
    port.get(&other_ca, None, "/", &bearer)
        .await
        .expect_err("not believed");

    // Plaintext is no request here.
    let mut plain = TcpStream::connect(("127.0.0.1", port.port))
        .await
        .expect("a connection");
    plain
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .expect("sent");
    let mut answer = Vec::new();
    let _ = within(plain.read_to_end(&mut answer)).await;
    assert!(
        !answer.starts_with(b"HTTP/"),
        "{}",
        String::from_utf8_lossy(&answer)
    );

    // A page that is open stays open while the certificate changes; new connections get the new one.
    let mut open = port.connect(&ca, None).await.expect("a connection");
    ask(&mut open, "/events", &bearer).await.expect("sent");
    let mut some = vec![0; 1 << 16];
    assert!(within(open.read(&mut some)).await.expect("events") > 0);
    other.server(dir, "server", &["localhost"], Valid::Now);
    poll("the new certificate", || async {
        port.get(&other_ca, None, "/", &bearer).await.ok()
    })
    .await;
    port.get(&ca, None, "/", &bearer)
        .await
        .expect_err("the old one is gone");
    // What comes now was sent later: each second there is a tick.
    for _ in 0..3 {
        assert!(within(open.read(&mut some)).await.expect("events") > 0);
    }
}

#[tokio::test]
async fn a_client_certificate_opens_the_page() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    drop(database(dir));
    let authority = Authority::new("a");
    let ca = authority.write(dir, "ca.pem");
    authority.server(dir, "server", &["localhost"], Valid::Now);
    let client = authority.client(dir, "client", &["client.example"], "x");
    let stranger = Authority::new("another").client(dir, "stranger", &["x"], "x");
    let port = Port::start(dir, &[&TLS[..], &["--tls-client-ca", "ca.pem"]].concat()).await;
    for (pair, path, wanted) in [
        (Some(&client), "/", 200),
        (Some(&client), "/metrics", 200),
        (None, "/", 401),
        (None, "/metrics", 401),
        (None, "/livez", 200),
    ] {
        let (status, text) = port.get(&ca, pair, path, "").await.expect("an answer");
        assert_eq!(status, wanted, "{path}: {text}");
    }
    port.get(&ca, Some(&stranger), "/livez", "")
        .await
        .expect_err("nobody here believes its authority");
}
