//! TLS: who believes whom, what is said of each mistake, and files that change.

use crate::certs::{Authority, Pair, Valid, replace};
use crate::fake::at;
use crate::kit::*;
use crate::running::within;
use rcgen::ExtendedKeyUsagePurpose;
use std::path::Path;
use tempfile::TempDir;
use tonic::Code;
use walcast::client::Admin;
use walcast::config::{Grant, Limits, Permission, TokenSource};
use walcast::model::{Message, Progress};

const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// A directory with an authority, and a server with a certificate of it.
async fn stage(valid: Valid, names: &[&str]) -> (TempDir, Authority, std::path::PathBuf, Stage) {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new("test authority");
    let ca = authority.write(dir.path(), "ca.pem");
    let pair = authority.server(dir.path(), "server", names, valid);
    let options = options(Some(server_tls(&pair, None)), Vec::new());
    let stage = Stage::new(&options, Limits::default()).await;
    (dir, authority, ca, stage)
}

#[tokio::test]
async fn a_call_over_tls() {
    let (_dir, _, ca, stage) = stage(Valid::Now, &NAMES).await;
    ask(&entry(&stage.https(), Some(&ca), None, None))
        .await
        .expect("an answer");
    // By address, too.
    let url = format!("https://{}", stage.server.address);
    ask(&entry(&url, Some(&ca), None, None))
        .await
        .expect("an answer");
    // A replica's stream: messages arrive as they are sent.
    let upstream = upstream(&entry(&url, Some(&ca), None, None));
    let mut stream = within(upstream.stream(start("app.db")))
        .await
        .expect("a stream");
    assert!(matches!(
        within(stream.next()).await,
        Some(Ok(Message::Hello(_)))
    ));
}

#[tokio::test]
async fn a_wrong_authority_is_told() {
    let (dir, _, _, stage) = stage(Valid::Now, &NAMES).await;
    let other = Authority::new("another").write(dir.path(), "other.pem");
    let line = line_of(&entry(&stage.https(), Some(&other), None, None)).await;
    assert!(
        line.contains("authority that is not believed here"),
        "{line}"
    );
    assert!(line.contains("--tls-ca"), "{line}");
}

#[tokio::test]
async fn a_wrong_name_is_told_and_can_be_overridden() {
    let (_dir, _, ca, stage) = stage(Valid::Now, &["primary.example"]).await;
    let mut wrong = entry(&stage.https(), Some(&ca), None, None);
    let line = line_of(&wrong).await;
    assert!(line.contains("not for 'localhost'"), "{line}");
    assert!(
        line.contains("primary.example") && line.contains("--tls-server-name"),
        "{line}"
    );
    wrong.tls.server_name = Some("primary.example".to_owned());
    ask(&wrong).await.expect("an answer");
}

#[tokio::test]
async fn a_certificate_out_of_its_time_is_told() {
    for (valid, words) in [
        (Valid::Past, "has expired"),
        (Valid::Future, "not valid yet"),
    ] {
        let (_dir, _, ca, stage) = stage(valid, &NAMES).await;
        let line = line_of(&entry(&stage.https(), Some(&ca), None, None)).await;
        assert!(line.contains(words), "{line}");
    }
}

#[tokio::test]
async fn plaintext_to_a_tls_port_and_the_reverse_are_told() {
    let (_dir, _, ca, stage) = stage(Valid::Now, &NAMES).await;
    let url = format!("http://{}", stage.server.address);
    let line = line_of(&entry(&url, None, None, None)).await;
    assert!(
        line.contains("TLS port") && line.contains("https://"),
        "{line}"
    );
    let plain = Stage::new(&options(None, Vec::new()), Limits::default()).await;
    let line = line_of(&entry(&plain.https(), Some(&ca), None, None)).await;
    assert!(line.contains("TLS") && line.contains("http://"), "{line}");
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named() {
    let (dir, authority, ca, stage) = stage(Valid::Now, &NAMES).await;
    let missing = dir.path().join("missing.pem");
    let line = line_of(&entry(&stage.https(), Some(&missing), None, None)).await;
    assert!(line.contains("missing.pem"), "{line}");
    let (one, two) = (
        authority.client(dir.path(), "one", &["one"], "one"),
        authority.client(dir.path(), "two", &["two"], "two"),
    );
    let mixed = Pair {
        cert: one.cert.clone(),
        key: two.key.clone(),
    };
    let line = line_of(&entry(&stage.https(), Some(&ca), Some(&mixed), None)).await;
    assert!(
        line.contains("two.key") && line.contains("one.pem"),
        "{line}"
    );
    let no_key = Pair {
        cert: one.cert.clone(),
        key: one.cert.clone(),
    };
    let line = line_of(&entry(&stage.https(), Some(&ca), Some(&no_key), None)).await;
    assert!(line.contains("no private key"), "{line}");
    let plain = entry("http://localhost:1", Some(&ca), None, None);
    assert!(line_of(&plain).await.contains("https://"));
}

/// A server that knows clients by their certificates.
async fn mutual(
    dir: &Path,
    authority: &Authority,
    access: Vec<Grant>,
) -> (std::path::PathBuf, Stage) {
    let ca = authority.write(dir, "ca.pem");
    let pair = authority.server(dir, "server", &NAMES, Valid::Now);
    let options = options(Some(server_tls(&pair, Some(&ca))), access);
    (ca, Stage::new(&options, Limits::default()).await)
}

fn named(name: &str, client: &str, allow: &[Permission]) -> Grant {
    Grant {
        client_name: Some(client.to_owned()),
        token: None,
        ..grant(name, "", &[], allow)
    }
}

#[tokio::test]
async fn without_grants_every_certificate_of_the_authority_will_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new("test authority");
    let (ca, stage) = mutual(dir.path(), &authority, Vec::new()).await;
    let client = authority.client(dir.path(), "client", &["any.example"], "any");
    ask(&entry(&stage.https(), Some(&ca), Some(&client), None))
        .await
        .expect("an answer");
    let error = ask(&entry(&stage.https(), Some(&ca), None, None))
        .await
        .expect_err("nobody");
    assert_eq!(error.code(), Code::Unauthenticated);
    assert!(
        error.to_string().contains("client certificate is needed"),
        "{error}"
    );
    // Health asks nobody who he is.
    let admin = Admin::connect_to(&entry(&stage.https(), Some(&ca), None, None), false);
    within(admin.expect("a client").health(""))
        .await
        .expect("an answer");
}

#[tokio::test]
async fn a_refused_client_certificate_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new("test authority");
    let (ca, stage) = mutual(dir.path(), &authority, Vec::new()).await;
    let stranger = Authority::new("another").client(dir.path(), "stranger", &["x"], "x");
    let line = line_of(&entry(&stage.https(), Some(&ca), Some(&stranger), None)).await;
    assert!(line.contains("does not believe the authority"), "{line}");
    let old = Pair::at(dir.path(), "old");
    let usage = ExtendedKeyUsagePurpose::ClientAuth;
    authority.sign(&old, &["old"], "old", usage, Valid::Past);
    let line = line_of(&entry(&stage.https(), Some(&ca), Some(&old), None)).await;
    assert!(
        line.contains("our client certificate has expired"),
        "{line}"
    );
    let server = authority.server(dir.path(), "purpose", &NAMES, Valid::Now);
    let line = line_of(&entry(&stage.https(), Some(&ca), Some(&server), None)).await;
    assert!(line.contains("refuses our client certificate"), "{line}");
}

#[tokio::test]
async fn a_certificates_name_leads_to_its_grant() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new("test authority");
    let access = vec![
        named("reader", "Reader.example", &[Permission::Position]),
        named("old reader", "common", &[Permission::Position]),
        named("replica", "replica.example", &[Permission::Stream]),
        grant(
            "ops",
            "a-token-of-the-operators",
            &[],
            &[Permission::Position],
        ),
    ];
    let (ca, stage) = mutual(dir.path(), &authority, access).await;
    let ask_as = async |names: &[&str], common: &str, token: Option<&str>| {
        let pair = authority.client(dir.path(), "client", names, common);
        ask(&entry(&stage.https(), Some(&ca), Some(&pair), token)).await
    };
    ask_as(&["reader.example"], "x", None)
        .await
        .expect("its DNS name");
    ask_as(&["other", "reader.example"], "x", None)
        .await
        .expect("one of its DNS names");
    ask_as(&[], "common", None)
        .await
        .expect("its common name, as it has no other");
    for (names, common) in [
        (&["replica.example"][..], "x"),
        // Where there are DNS names the common name is only for people.
        (&["other.example"], "common"),
        (&[], "nobody"),
    ] {
        let error = ask_as(names, common, None).await.expect_err("no grant");
        assert_eq!(
            error.code(),
            Code::PermissionDenied,
            "{names:?} {common}: {error}"
        );
    }
    // Either will do: what the certificate may not, the token may.
    ask_as(&["replica.example"], "x", Some("a-token-of-the-operators"))
        .await
        .expect("the token's grant");
    let error = ask_as(&["reader.example"], "x", Some("a-token-that-nobody-has"));
    assert_eq!(
        error.await.expect_err("a wrong token").code(),
        Code::Unauthenticated
    );
    ask(&entry(
        &stage.https(),
        Some(&ca),
        None,
        Some("a-token-of-the-operators"),
    ))
    .await
    .expect("no certificate is needed with a token");
}

#[tokio::test]
async fn certificates_change_without_dropping_a_stream() {
    let (dir, _, ca, stage) = stage(Valid::Now, &NAMES).await;
    let first = entry(&stage.https(), Some(&ca), None, None);
    let upstream = upstream(&first);
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let call = tokio::spawn(async move { upstream.report(receiver).await });
    sender.send(progress(0x20)).await.expect("an open call");
    let reported = |count| {
        let reports = stage.primary.reports.lock().expect("reports").len();
        async move { (reports >= count).then_some(()) }
    };
    poll("the first report", || reported(1)).await;
    // A broken file first: the old one stays in force.
    let server = Pair::at(dir.path(), "server");
    replace(&server.cert, "no certificate");
    let later = Authority::new("later");
    let later_ca = later.write(dir.path(), "later.pem");
    let second = entry(&stage.https(), Some(&later_ca), None, None);
    // Two looks at the files fit in this.
    let end = tokio::time::Instant::now() + std::time::Duration::from_millis(4500);
    while tokio::time::Instant::now() < end {
        ask(&first).await.expect("the old certificate");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    later.server(dir.path(), "server", &NAMES, Valid::Now);
    poll("the new certificate", || async { ask(&second).await.ok() }).await;
    assert!(
        line_of(&first).await.contains("not believed"),
        "the old one is gone"
    );
    // The call that was open has seen nothing of it.
    sender.send(progress(0x40)).await.expect("an open call");
    poll("the second report", || reported(2)).await;
    drop(sender);
    within(call)
        .await
        .expect("no panic")
        .expect("the call ends in order");
}

fn progress(offset: u64) -> Progress {
    Progress {
        database: "app.db".into(),
        replica_id: "id".into(),
        session_id: "session".into(),
        received: Some(at(offset)),
        applied: Some(at(offset)),
        durable: None,
        apply_lag_seconds: 0.0,
    }
}

#[tokio::test]
async fn a_clients_files_are_read_again_for_each_connection() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new("test authority");
    let access = vec![named("reader", "reader.example", &[Permission::Position])];
    let (ca, stage) = mutual(dir.path(), &authority, access).await;
    let pair = authority.client(dir.path(), "client", &["nobody.example"], "x");
    let token = dir.path().join("token");
    replace(&token, "a-token-that-nobody-has\n");
    let mut entry = entry(&stage.https(), Some(&ca), Some(&pair), None);
    let admin = Admin::connect_to(&entry, false).expect("a client");
    let error = within(admin.position("app.db"))
        .await
        .expect_err("no grant");
    assert_eq!(error.code(), Code::PermissionDenied);
    authority.client(dir.path(), "client", &["reader.example"], "x");
    // The connection that is open has the old one; the next has the new.
    ask(&entry).await.expect("the new certificate");
    entry.token = Some(TokenSource::File(token.clone()));
    let admin = Admin::connect_to(&entry, false).expect("a client");
    let error = within(admin.position("app.db"))
        .await
        .expect_err("a wrong token");
    assert_eq!(error.code(), Code::Unauthenticated);
    // A token is read for each call.
    std::fs::remove_file(&token).expect("a file");
    let error = within(admin.position("app.db"))
        .await
        .expect_err("no token");
    assert!(error.to_string().contains("token"), "{error}");
}

/// What is taken up again brings the certificate of its beginning, whatever became of that.
#[tokio::test]
async fn a_clients_certificate_is_looked_at_in_each_handshake() {
    use rustls_pki_types::pem::PemObject as _;
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new("test authority");
    let ca = authority.write(dir.path(), "ca.pem");
    let pair = authority.server(dir.path(), "server", &NAMES, Valid::Now);
    for (client_ca, again) in [
        (None, rustls::HandshakeKind::Resumed),
        (Some(&*ca), rustls::HandshakeKind::Full),
    ] {
        let options = options(Some(server_tls(&pair, client_ca)), Vec::new());
        let stage = Stage::new(&options, Limits::default()).await;
        let mut roots = rustls::RootCertStore::empty();
        let root = rustls_pki_types::CertificateDer::from_pem_file(&ca).expect("a certificate");
        roots.add(root).expect("an authority");
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let socket = tokio::net::TcpStream::connect(stage.server.address).await;
            let name = "localhost".try_into().expect("a name");
            let stream = connector.connect(name, socket.expect("a connection"));
            let mut stream = within(stream).await.expect("a handshake");
            kinds.push(stream.get_ref().1.handshake_kind().expect("it is done"));
            // Tickets come before the first bytes of HTTP/2.
            let read = tokio::io::AsyncReadExt::read_u8(&mut stream);
            within(read).await.expect("a frame");
        }
        assert_eq!(kinds, [rustls::HandshakeKind::Full, again], "{client_ca:?}");
    }
}
