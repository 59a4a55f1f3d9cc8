//! What Prometheus's own tool says of the metrics, the rules and the dashboard.

use crate::fake::Handle;
use crate::metrics::monitoring;
use crate::running::Running;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Runs `promtool`, which must find nothing wrong; `None` where it is missing and may be.
fn promtool(arguments: &[&str], input: &str) -> Option<String> {
    let (good, said) = run_promtool(arguments, input)?;
    assert!(good, "promtool {arguments:?}: {said}");
    Some(said)
}

/// Whether it found nothing wrong, and what it said.
fn run_promtool(arguments: &[&str], input: &str) -> Option<(bool, String)> {
    let directory = format!("{}/deploy/monitoring", env!("CARGO_MANIFEST_DIR"));
    let child = Command::new("promtool")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            let must = std::env::var("WALCAST_REQUIRE_ALL").as_deref() == Ok("1");
            assert!(
                !must,
                "SKIP is a failure here (WALCAST_REQUIRE_ALL=1): promtool: {error}"
            );
            eprintln!(
                "\n##### SKIPPED: promtool (Debian's prometheus) is missing: {error} #####\n"
            );
            return None;
        }
    };
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("write");
    drop(stdin);
    let out = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    Some((out.status.success(), said))
}

#[tokio::test]
async fn promtool_finds_nothing_wrong() {
    let (primary, replica) = (Handle::primary("own.db"), Handle::replica("copy.db"));
    primary.follow("copenhagen", "1", 0.0);
    let server = Running::start(&[&primary, &replica]).await;
    let answer = server.get("/metrics").await;
    if let Some(said) = promtool(&["check", "metrics"], &answer.body) {
        assert_eq!(said, "");
        promtool(&["check", "rules", "alerts.yml"], "");
        promtool(&["test", "rules", "alerts_test.yml"], "");
    }
    server.end().await;
}

/// The expressions below a value, with what Grafana puts into them.
fn expressions(value: &serde_json::Value, found: &mut Vec<String>) {
    let below: Vec<&serde_json::Value> = match value {
        serde_json::Value::Object(map) => map.values().collect(),
        serde_json::Value::Array(list) => list.iter().collect(),
        _ => Vec::new(),
    };
    if let Some(text) = value.get("expr").and_then(|expr| expr.as_str()) {
        let text = text
            .replace("$__rate_interval", "1m")
            .replace("$instance", ".*");
        found.push(text.replace("$database", ".*"));
    }
    for value in below {
        expressions(value, found);
    }
}

#[test]
fn promtool_reads_every_expression_of_the_dashboard() {
    let dashboard = serde_json::from_str(&monitoring("grafana.json")).expect("JSON");
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    assert!(found.len() > 30, "{found:?}");
    let check = |expressions: &[String]| {
        let rule =
            |(i, expr)| serde_json::json!({"record": format!("walcast:panel:{i}"), "expr": expr});
        let rules: Vec<_> = expressions.iter().enumerate().map(rule).collect();
        let groups = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
        let file = tempfile::NamedTempFile::with_suffix(".yml").expect("a file");
        // JSON is YAML.
        std::fs::write(file.path(), groups.to_string()).expect("rules");
        let path = file.path().to_str().expect("UTF-8");
        run_promtool(&["check", "rules", path], "")
    };
    let Some((good, said)) = check(&found) else {
        return;
    };
    assert!(good, "{said}");
    // And it would tell: a variable that nobody replaced, or a bracket too few.
    let wrong = [found[0].replace("max(", "max((")];
    assert!(!check(&wrong).expect("promtool").0, "nothing is checked");
    let unknown = found.iter().find(|expr| expr.contains('$'));
    assert_eq!(unknown, None, "a variable that this test does not know");
}
