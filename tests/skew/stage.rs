//! The real program on either side, and what is asked of it.

use crate::reader::checksum_of;
use crate::server::{Server, until};
use crate::transcript::{State, Transcript};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub const NAME: &str = "app.db";
pub const PAGE_SIZE: usize = 4096;

/// One database, in one line without a space: how many rows, and what is in them.
pub fn content_of(connection: &Connection) -> String {
    let sql = "SELECT count(*) || ':' || total(n) || ':' || total(length(data)) || ':' || max(substr(data, 1, 20)) FROM t";
    let content: String = connection
        .query_row(sql, [], |row| row.get(0))
        .expect("a table");
    content.replace(' ', "_")
}

/// A reader as any program is one.
pub fn read_only(path: &Path) -> Connection {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("a database")
}

fn walcast(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_walcast"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("walcast runs");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8(said).expect("UTF-8"),
    )
}

/// What the server says of its database; null while it does not answer.
pub fn status(server: &Server) -> Value {
    status_of(&server.url)
}

/// The same of a server at this URL.
pub fn status_of(url: &str) -> Value {
    let (_, said) = walcast(&["status", "--json", "--server", url]);
    let status: Value = serde_json::from_str(&said).unwrap_or_default();
    status["databases"][0].clone()
}

/// Waits until the server's database is at this position.
pub fn wait_position(server: &Server, position: &str) {
    until(position, || {
        (status(server)["position"] == position).then_some(())
    });
}

/// Waits until the status gives this as the reason of the database's state.
pub fn wait_reason(server: &Server, words: &str) -> Value {
    until(words, || {
        let status = status(server);
        let reason = status["reason"].as_str().unwrap_or_default();
        reason.contains(words).then_some(status)
    })
}

/// Waits until a load balancer would send readers there.
pub fn wait_healthy(server: &Server) {
    until("its health", || {
        let (code, _) = walcast(&["health", "--server", &server.url, "--db", NAME]);
        (code == Some(0)).then_some(())
    });
}

/// A directory with a database of a primary, or with a copy.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Place {
        Place(tempfile::tempdir().expect("a directory"))
    }

    /// With the files that the recorded primary left.
    pub fn of_recorded_primary(transcript: &Transcript) -> Place {
        let place = Place::new();
        for (name, bytes) in &transcript.files {
            let path = place.path(name);
            let parent = path.parent().expect("below the directory");
            std::fs::create_dir_all(parent).expect("a directory");
            std::fs::write(path, bytes).expect("a file");
        }
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn db(&self) -> PathBuf {
        self.path(NAME)
    }

    fn named(&self) -> String {
        format!("{NAME}={}", self.db().display())
    }

    pub fn primary(&self) -> Server {
        Server::start(&["primary", "--db", &self.named()])
    }

    /// On an address that is not loopback's.
    pub fn primary_at(&self, address: IpAddr) -> Server {
        let listen = SocketAddr::new(address, 0).to_string();
        let named = self.named();
        Server::start_at(&["primary", "--insecure", "--listen", &listen, "--db", &named])
    }

    pub fn replica(&self, upstream: &str) -> Server {
        Server::start(&["replica", "--upstream", upstream, "--db", &self.named()])
    }

    /// Asserts that the replica has exactly this database: by what it says, by its pages, and by what readers see.
    pub fn assert_is(&self, replica: &Server, state: &State) {
        let status = status(replica);
        let checksum = format!("{:016x}", state.checksum);
        assert_eq!(status["position"], *state.position);
        assert_eq!(status["database_checksum"], *checksum);
        let backup = self.path("backup.db");
        let shown = backup.display().to_string();
        let args = [
            "backup",
            "--server",
            &replica.url,
            "--db",
            NAME,
            "--to",
            &shown,
        ];
        let (code, said) = walcast(&args);
        assert_eq!((code, said.trim_end()), (Some(0), &*state.position));
        let pages = std::fs::read(&backup).expect("a backup");
        assert_eq!(pages.len(), state.page_count as usize * PAGE_SIZE);
        let sum = checksum_of(pages.chunks_exact(PAGE_SIZE));
        assert_eq!(sum, state.checksum, "pages are those of the primary");
        assert_content(&backup, state);
        assert_content(&self.db(), state);
        std::fs::remove_file(backup).expect("a backup");
    }
}

/// Asserts that SQLite reads this in the file, and finds it whole.
pub fn assert_content(path: &Path, state: &State) {
    let connection = read_only(path);
    let check: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("a check");
    assert_eq!(check, "ok");
    assert_eq!(content_of(&connection), state.content);
}
