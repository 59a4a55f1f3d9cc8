//! Who may see what.

use crate::fake::Handle;
use crate::running::Running;
use walcast::config::{Grant, Permission, TokenSource};
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
    let databases = [
        Handle::primary("tenants/a.db"),
        Handle::primary("tenants/b.db"),
    ];
    Running::with(&databases.each_ref(), None, security).await
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
