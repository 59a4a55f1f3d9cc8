//! Every row of the table in docs/protocol.md, made to happen.

use crate::cases::{Stage, case};
use crate::guarded::guarded;
use crate::running::within;
use std::collections::BTreeSet;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use walcast::client::{ClientError, Upstream};
use walcast::model::StreamStart;
use walcast::server::Reason;

/// A row of the documentation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    rpc: String,
    code: String,
    reason: String,
    retry: String,
}

fn rows() -> Vec<Row> {
    let text = include_str!("../../docs/protocol.md");
    let table = text
        .split("| RPC | code | reason | retry | when |")
        .nth(1)
        .expect("the table");
    table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [_, rpc, code, reason, retry, _, _] = cells[..] else {
                panic!("a row has five cells: {line}")
            };
            Row {
                rpc: rpc.into(),
                code: code.into(),
                reason: reason.into(),
                retry: retry.into(),
            }
        })
        .collect()
}

fn code_word(code: Code) -> String {
    let words: String = format!("{code:?}")
        .chars()
        .flat_map(|c| {
            c.is_uppercase()
                .then_some('_')
                .into_iter()
                .chain([c.to_ascii_uppercase()])
        })
        .collect();
    words.trim_start_matches('_').to_owned()
}

/// What arrived, as a row.
fn row_of(rpc: &str, status: &Status) -> Row {
    let info = status
        .get_details_error_info()
        .expect("ErrorInfo in every refusal");
    assert_eq!(info.domain, "walcast");
    assert!(!status.message().is_empty(), "{rpc}: a line for people");
    let delay = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay);
    let retry = delay.map_or("no".to_owned(), |delay| match delay.as_millis() {
        millis if millis % 1000 == 0 => format!("{}s", millis / 1000),
        millis => format!("{millis}ms"),
    });
    Row {
        rpc: rpc.to_owned(),
        code: code_word(status.code()),
        reason: info.reason,
        retry,
    }
}

#[tokio::test]
async fn every_row_happens_as_it_is_written() {
    let rows = rows();
    assert!(
        rows.len() >= 50,
        "the table was not found whole: {} rows",
        rows.len()
    );
    let unique: BTreeSet<&Row> = rows.iter().collect();
    assert_eq!(unique.len(), rows.len(), "a row stands twice");
    for row in rows.iter().filter(|row| row.reason != "-") {
        let reason = Reason::ALL
            .into_iter()
            .find(|reason| reason.word() == row.reason);
        let reason = reason.unwrap_or_else(|| panic!("{} is no reason", row.reason));
        let status = match reason {
            Reason::Unauthenticated | Reason::PermissionDenied => {
                within(guarded(&row.rpc, reason)).await
            }
            _ => {
                let stage = Stage::new().await;
                within(case(&stage, &row.rpc, reason)).await
            }
        };
        assert_eq!(&row_of(&row.rpc, &status), row);
    }
    for reason in Reason::ALL {
        let found = rows.iter().any(|row| row.reason == reason.word());
        assert!(found, "{} is in no row", reason.word());
    }
}

/// The rows with the reason "-": what the replica's side makes of a server's message.
#[tokio::test]
async fn a_message_that_cannot_be_used_ends_the_stream() {
    let (unknown, invalid) = crate::upstream::odd_servers().await;
    for (url, code, retry) in [
        (unknown, Code::Unimplemented, "no"),
        (invalid, Code::DataLoss, "yes"),
    ] {
        let upstream = Upstream::connect_lazy(&url).expect("a URL");
        let mut stream = upstream
            .stream(crate::upstream::start("app.db"))
            .await
            .expect("a stream");
        let error: ClientError = within(stream.next())
            .await
            .expect("a message")
            .expect_err("odd");
        assert_eq!(error.code(), code);
        assert_eq!(error.is_retryable(), retry == "yes");
        let row = Row {
            rpc: "Stream".into(),
            code: code_word(code),
            reason: "-".into(),
            retry: retry.into(),
        };
        assert!(rows().contains(&row), "{row:?}");
    }
}

/// A primary sees the peer's address, which the request cannot set.
#[tokio::test]
async fn the_address_comes_from_the_connection() {
    let stage = Stage::new().await;
    let _stream = stage.open_stream().await;
    let starts: Vec<StreamStart> = stage.primary.starts.lock().unwrap().clone();
    assert!(
        starts[0].address.starts_with("127.0.0.1:"),
        "{}",
        starts[0].address
    );
}
