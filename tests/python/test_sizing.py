"""Holds the formulas of docs/sizing.md against a run: what is on disk, what went over the network, what is in memory."""

import glob
import json
import os
import random
import shutil
import sqlite3
import subprocess
import tempfile
import unittest

from servers import WALCAST, Walcast, poll, require

KIB, MIB = 1 << 10, 1 << 20
PAGE = 4096


def table_bytes(pages):
    """`8 * N`, rounded up to 512 KiB; 16 KiB up to 2,048 pages."""
    if pages <= 2048:
        return 16 * KIB
    return max(1, -(-8 * (pages + 1) // (512 * KIB))) * 512 * KIB


def tree_bytes(path):
    return sum(
        os.path.getsize(os.path.join(directory, name)) for directory, _, names in os.walk(path) for name in names
    )


class Sizing(unittest.TestCase):
    def setUp(self):
        require(os.access(WALCAST, os.X_OK), f"{WALCAST} is missing; build it, or set WALCAST_BIN")
        self.directory = tempfile.mkdtemp(prefix="walcast-sizing-")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.app = os.path.join(self.directory, "app.db")
        self.copy = os.path.join(self.directory, "copy", "app.db")
        self.connection = sqlite3.connect(self.app, isolation_level=None)
        self.addCleanup(self.connection.close)
        self.connection.executescript(
            "PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, data)"
        )

    def start(self, name, *arguments):
        server = Walcast(self.directory, name, *arguments, "--listen", "127.0.0.1:0")
        self.addCleanup(server.stop)
        server.wait_until_it_listens()
        return server

    def status(self, server):
        done = subprocess.run(
            [WALCAST, "status", "--json", "--server", f"http://{server.address}"], capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)["databases"][0]

    def level(self):
        def same():
            primary, replica = self.status(self.primary), self.status(self.replica)
            return primary["position"] and primary["position"] == replica["position"]

        poll("the replica", same)

    def pair(self):
        self.primary = self.start("primary", "primary", "--db", self.app)
        self.replica = self.start("replica", "replica", "--upstream", f"http://{self.primary.address}", "--db", self.copy)
        self.level()

    def pages(self):
        return self.connection.execute("PRAGMA page_count").fetchone()[0]

    def streamed(self):
        (replica,) = self.status(self.primary)["replicas"]
        return replica["bytes_sent"]

    def hash_table(self, server):
        """The size of the file without a name that holds the hashes."""
        for descriptor in glob.glob(f"/proc/{server.process.pid}/fd/*"):
            try:
                if "pages.tmp" in os.readlink(descriptor):
                    return os.stat(descriptor).st_size
            except FileNotFoundError:
                pass
        self.fail("no table of hashes is open")

    def resident(self, server):
        with open(f"/proc/{server.process.pid}/status", encoding="ascii") as file:
            for line in file:
                # What is mapped from files (the program, page hashes) the kernel can take back.
                if line.startswith("RssAnon"):
                    return int(line.split()[1]) * KIB
        self.fail("no RssAnon")

    def write(self, commits, data):
        """One-row commits, each of one new page's worth of data; W by the formula, counted from what changed."""
        log = 0
        for _ in range(commits):
            before = os.path.getsize(self.app + "-wal")
            self.connection.execute("UPDATE t SET data = ? WHERE id = ?", (data(), random.randrange(1, 401)))
            after = os.path.getsize(self.app + "-wal")
            # An update in place of a row that fills a page and an overflow page changes both.
            log += 2 * (24 + PAGE)
            self.assertGreaterEqual(after, before)
        return log

    def fill(self, data):
        with_rows = "INSERT INTO t(data) VALUES (?)"
        self.connection.execute("BEGIN")
        for _ in range(400):
            self.connection.execute(with_rows, (data(),))
        self.connection.execute("COMMIT")

    def test_log_and_network_with_data_that_does_not_shrink(self):
        self.check(lambda: os.urandom(7000), 0.8, 1.1)

    def test_log_and_network_with_text(self):
        words = [b"the quick brown fox", b" jumps over", b" the lazy dog", b" and goes home. "]
        self.check(lambda: (b"".join(random.choices(words, k=700)))[:7000], 0.05, 0.6)

    def check(self, data, least, most):
        random.seed(7)
        self.fill(data)
        self.pair()
        size = self.pages() * PAGE
        snapshot = self.streamed()
        self.assertLessEqual(snapshot, size * most + MIB)
        self.assertGreaterEqual(snapshot, size * least * 0.5)

        kept_before = tree_bytes(self.app + "-walcast")
        log = self.write(1500, data)
        self.level()
        sent = self.streamed() - snapshot
        # C is what the formula says of such data, and disk and network have the same bytes.
        self.assertLessEqual(sent, log * most)
        self.assertGreaterEqual(sent, log * least)
        kept = tree_bytes(self.app + "-walcast") - kept_before
        self.assertLessEqual(kept, sent + 2 * MIB)

        commits = 48 * 1500 + PAGE
        self.assertLessEqual(tree_bytes(self.app + "-walcast/commits"), commits + 48 * 400)
        for server in (self.primary, self.replica):
            self.assertEqual(self.hash_table(server), table_bytes(self.pages()))
        self.assertEqual(os.path.getsize(self.copy) // PAGE <= self.pages(), True)
        self.assertLessEqual(os.path.getsize(self.copy + "-wal"), 16 * MIB + 2 * MIB)
        self.assertLessEqual(self.resident(self.primary), (16 + 8 + 8) * MIB)
        self.assertLessEqual(self.resident(self.replica), (14 + 8 + 8) * MIB)

    def test_retained_log_has_its_bound(self):
        self.fill(lambda: os.urandom(7000))
        self.primary = self.start("primary", "primary", "--db", self.app, "--retain-size", "4MiB")
        self.write(4000, lambda: os.urandom(7000))
        wal = os.path.join(self.app + "-walcast", "generations")
        # What is removed goes in whole files, of which the newest is kept.
        poll("what is kept to be in its bound", lambda: tree_bytes(wal) <= 4 * MIB + 2 * MIB)


if __name__ == "__main__":
    unittest.main()
