//! Who may see what.

use crate::fake::Handle;
use crate::running::Running;
use walcast::config::{Grant, Limits, Permission, TokenSource};
use walcast::model::DatabaseState;
use walcast::security::ServerSecurity;

fn grant(name: &str, token: &str, databases: &[&str], allow: &[Permission]) -> Grant {
    Grant {
        name: name.to_owned(),
        token: Some(TokenSource::Value(token.to_owned())),
        client_name: None,
        databases: databases.iter().map(ToString::to_string).collect(),
        allow: allow.to_vec(),
    }
}

async fn guarded() -> Running {
    let databases = [
        Handle::primary("tenants/a.db"),
        Handle::primary("tenants/b.db"),
    ];
    guarding(&databases.each_ref(), Limits::default()).await
}

pub async fn guarding(databases: &[&Handle], limits: Limits) -> Running {
    let mut config = options();
    config.access = vec![
        grant(
            "everything",
            "token-of-the-monitoring",
            &[],
            &[Permission::Metrics],
        ),
        grant(
            "some",
            "token-of-one-tenant-0",
            &["tenants/a.db"],
            &[Permission::Metrics],
        ),
        grant(
            "reader",
            "token-of-a-reader-000",
            &[],
            &[Permission::Position],
        ),
    ];
    let security = ServerSecurity::load(&config).expect("good tokens");
    Running::limited(databases, None, security, limits).await
}

fn options() -> walcast::config::ServerOptions {
    walcast::config::ServerOptions {
        listen: String::new(),
        http_listen: None,
        insecure: false,
        server_id: None,
        drain_timeout: std::time::Duration::ZERO,
        tls: None,
        access: Vec::new(),
        reflection: true,
        limits: Default::default(),
        readiness: Default::default(),
        max_staleness: None,
        log: walcast::config::LogConfig {
            level: "info".to_owned(),
            format: Default::default(),
        },
    }
}

const PATHS: [&str; 4] = ["/", "/metrics", "/events", "/history?database=tenants/a.db"];

#[tokio::test]
async fn a_token_is_asked_for_but_not_of_probes() {
    let server = guarded().await;
    for path in PATHS {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 401, "{path}");
        let ways = answer.header("www-authenticate");
        assert_eq!(
            ways,
            [
                "Basic realm=\"walcast\", charset=\"UTF-8\"",
                "Bearer realm=\"walcast\""
            ]
        );
        assert!(!answer.body.contains("tenants"), "{}", answer.body);
        for (header, wanted) in [
            ("Bearer not-a-token-of-anyone", 401),
            // any:not-a-token
            ("Basic YW55Om5vdC1hLXRva2Vu", 401),
            ("Basic !", 401),
            ("Bearer token-of-a-reader-000", 403),
        ] {
            let line = format!("authorization: {header}\r\n");
            let answer = server.ask(&format!("GET {path}"), &line).await;
            assert_eq!(
                answer.status, wanted,
                "{path} with {header}: {}",
                answer.body
            );
        }
    }
    assert_eq!(server.get("/livez").await.status, 200);
    assert_eq!(server.get("/readyz").await.status, 200);
    server.end().await;
}

#[tokio::test]
async fn a_browser_gives_the_token_as_its_password() {
    let server = guarded().await;
    for header in [
        "Bearer token-of-the-monitoring",
        // anyone:token-of-the-monitoring
        "Basic YW55b25lOnRva2VuLW9mLXRoZS1tb25pdG9yaW5n",
    ] {
        let line = format!("authorization: {header}\r\n");
        for path in ["/", "/metrics", "/history?database=tenants/b.db"] {
            let answer = server.ask(&format!("GET {path}"), &line).await;
            assert_eq!(answer.status, 200, "{path} with {header}: {}", answer.body);
        }
    }
    server.end().await;
}

#[tokio::test]
async fn a_client_of_some_databases_sees_nothing_of_the_others() {
    let server = guarded().await;
    let token = "authorization: Bearer token-of-one-tenant-0\r\n";
    let metrics = server.ask("GET /metrics", token).await;
    assert!(metrics.body.contains("tenants/a.db") && !metrics.body.contains("tenants/b.db"));
    let events = server.ask("GET /events", token).await;
    assert_eq!(events.status, 403);
    assert!(!events.body.contains("tenants/b.db"), "{}", events.body);
    for (path, wanted) in [("a.db", 200), ("b.db", 404), ("c.db", 404)] {
        let answer = server
            .ask(&format!("GET /history?database=tenants/{path}"), token)
            .await;
        assert_eq!(answer.status, wanted, "{path}");
    }
    server.end().await;
}

#[tokio::test]
async fn a_probe_without_a_token_learns_no_name() {
    let lost = |name: &str| {
        let replica = Handle::replica(name);
        replica.set(|status| {
            status.state = DatabaseState::Failed;
            status.reason = "cannot open /data/secret.db from http://upstream.example".to_owned();
        });
        replica
    };
    let databases = [lost("tenants/a.db"), lost("tenants/b.db")];
    let server = guarding(&databases.each_ref(), Limits::default()).await;
    for (path, first) in [
        ("/readyz", "not ready\nnot ready: 2;"),
        ("/livez", "alive\nfailed: 2;"),
    ] {
        for token in [
            "",
            "authorization: Bearer token-of-a-reader-000\r\n",
            "authorization: Bearer unknown\r\n",
        ] {
            let body = server.ask(&format!("GET {path}"), token).await.body;
            assert!(body.starts_with(first), "{body}");
            for secret in ["tenants", "data", "upstream"] {
                assert!(!body.contains(secret), "{path}: {body}");
            }
        }
        let all = "authorization: Bearer token-of-the-monitoring\r\n";
        let body = server.ask(&format!("GET {path}"), all).await.body;
        assert_eq!(body.matches("tenants/").count(), 2, "{body}");
        assert!(body.contains("/data/secret.db"), "{body}");
        let some = "authorization: Bearer token-of-one-tenant-0\r\n";
        let body = server.ask(&format!("GET {path}"), some).await.body;
        assert!(
            body.contains("tenants/a.db: ") && !body.contains("tenants/b.db"),
            "{body}"
        );
        assert!(body.contains(": 1; who may see metrics"), "{body}");
    }
    server.end().await;
}

#[tokio::test]
async fn a_name_that_leads_here_from_elsewhere_is_refused_while_all_is_open() {
    let database = Handle::primary("own.db");
    let server = Running::start(&[&database]).await;
    let of = async |server: &Running, path: &str, host: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        server.say(&request).await
    };
    for path in [
        "/",
        "/metrics",
        "/events",
        "/history?database=own.db",
        "/livez",
        "/readyz",
        "/x",
    ] {
        let answer = of(&server, path, "evil.example:4041").await;
        assert_eq!(answer.status, 421, "{path}");
        assert!(
            answer.body.contains("\"evil.example:4041\""),
            "{}",
            answer.body
        );
        assert!(!answer.body.contains("own.db"));
    }
    for host in ["localhost:1", "127.0.0.1", "[::1]:8", "walcast-box:4041"] {
        assert_eq!(of(&server, "/metrics", host).await.status, 200, "{host}");
    }
    server.end().await;
    // A token says more than a name.
    let server = guarded().await;
    assert_eq!(of(&server, "/livez", "walcast.example").await.status, 200);
    assert_eq!(of(&server, "/metrics", "walcast.example").await.status, 401);
    server.end().await;
}
