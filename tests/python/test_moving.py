"""Runs the commands of docs/moving.md as they are written, section by section, and looks at what is there afterwards.

Only ports and places on disk are replaced.
"""

import glob
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import unittest

from servers import ROOT, WALCAST, Walcast, poll, require


def sections():
    with open(os.path.join(ROOT, "docs", "moving.md"), encoding="utf-8") as file:
        parts = re.split(r"^## (.*)$", file.read(), flags=re.MULTILINE)
    return {
        title: re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        for title, text in zip(parts[1::2], parts[2::2])
    }


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Moving(unittest.TestCase):
    def setUp(self):
        require(os.access(WALCAST, os.X_OK), f"{WALCAST} is missing; build it, or set WALCAST_BIN")
        self.directory = tempfile.mkdtemp(prefix="walcast-moving-")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.replaced = {f"127.0.0.1:{port}": f"127.0.0.1:{free_port()}" for port in range(4040, 4044)}
        for place in ("/data", "/replica", "/new", "/backup"):
            os.mkdir(self.directory + place)
            self.replaced[place + "/"] = self.directory + place + "/"
        self.servers = []
        self.app = sqlite3.connect(self.at("/data/app.db"), isolation_level=None)
        self.addCleanup(self.app.close)
        self.app.execute("CREATE TABLE note (text)")
        self.add("first")

    def at(self, path):
        return self.directory + path

    def add(self, text):
        self.app.execute("INSERT INTO note VALUES (?)", (text,))

    def notes(self, path):
        connection = sqlite3.connect(self.at(path))
        try:
            return [row[0] for row in connection.execute("SELECT text FROM note ORDER BY rowid")]
        finally:
            connection.close()

    def placed(self, text):
        for written, here in self.replaced.items():
            text = text.replace(written, here)
        return text

    def run_block(self, block):
        environment = dict(os.environ, PATH=os.path.dirname(WALCAST) + os.pathsep + os.environ["PATH"])
        done = subprocess.run(
            ["bash", "-euc", self.placed(block)], cwd=self.directory, env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120, check=False,
        )
        logs = "".join(f"\n--- {server.name}\n{server.log()}" for server in self.servers) if done.returncode else ""
        self.assertEqual(done.returncode, 0, f"{block}\n{done.stdout}\n{done.stderr}{logs}")
        return done.stdout

    def serve(self, block):
        """A block that is one server: it goes on, and is healthy when this returns."""
        command, *arguments = self.placed(block).split()
        self.assertEqual((command, arguments[0] in ("primary", "replica")), ("walcast", True), block)
        server = Walcast(self.directory, f"{arguments[0]}{len(self.servers)}", *arguments)
        self.servers.append(server)
        self.addCleanup(server.stop)
        server.wait_until_it_listens()
        health = [WALCAST, "health", "--server", f"http://{server.address}", "--db", "app.db"]
        poll("health", lambda: subprocess.run(health, check=False, capture_output=True).returncode == 0)
        return server

    def test_adopt(self):
        switch, primary, replica, verify = sections()["Adopt an existing database"]
        self.assertEqual(self.run_block(switch), "wal\n")
        self.serve(primary)
        self.add("while it is adopted")
        self.serve(replica)
        self.assertRegex(self.run_block(verify), r"^equal at ")
        self.assertEqual(self.notes("/replica/app.db"), ["first", "while it is adopted"])

    def test_move(self):
        primary, replica, last, detach, new = sections()["Move the primary to another host"]
        self.app.execute("PRAGMA journal_mode=WAL")
        self.serve(primary)
        self.serve(replica)
        self.add("just before the application stopped")
        self.app.close()
        self.assertIn("equal at ", self.run_block(last))
        self.assertIn("ordinary database", self.run_block(detach))
        for server in self.servers:
            server.stop()
        self.app = sqlite3.connect(self.at("/new/app.db"), isolation_level=None)
        self.add("on the new host")
        self.serve(new)
        self.add("captured there")
        self.assertEqual(
            self.notes("/new/app.db"),
            ["first", "just before the application stopped", "on the new host", "captured there"],
        )
        self.assertEqual(self.notes("/data/app.db"), ["first", "just before the application stopped"])

    def test_replace(self):
        backup, replace = sections()["Replace the database by a backup"]
        self.app.execute("PRAGMA journal_mode=WAL")
        _, primary, replica, verify = sections()["Adopt an existing database"]
        self.serve(primary)
        self.serve(replica)
        self.run_block(backup)
        self.add("what the backup does not have")
        self.app.close()
        self.assertIn("a new generation", self.run_block(replace))
        self.app = sqlite3.connect(self.at("/data/app.db"), isolation_level=None)
        self.add("after it")
        expected = ["first", "after it"]
        self.assertEqual(self.notes("/data/app.db"), expected)
        poll("the replica", lambda: self.notes("/replica/app.db") == expected)
        self.assertRegex(self.run_block(verify), r"^equal at ")

    def test_litestream(self):
        drop, primary, backup = sections()["Come from Litestream"]
        self.app.execute("PRAGMA journal_mode=WAL")
        # What Litestream leaves.
        self.app.execute("CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)")
        self.app.execute("CREATE TABLE _litestream_lock (id INTEGER)")
        os.makedirs(self.at("/data/.app.db-litestream/generations"))
        self.run_block(drop)
        self.serve(primary)
        self.run_block(backup)
        (written,) = glob.glob(self.at("/backup/app-*.db"))
        self.assertEqual(self.notes("/backup/" + os.path.basename(written)), ["first"])
        self.assertEqual(os.listdir(self.at("/data")).count(".app.db-litestream"), 0)
        tables = [row[0] for row in self.app.execute("SELECT name FROM sqlite_schema")]
        self.assertEqual(tables, ["note"])

    def test_every_section_is_run(self):
        self.assertEqual(
            sorted(sections()),
            sorted(
                [
                    "Adopt an existing database",
                    "Move the primary to another host",
                    "Replace the database by a backup",
                    "Come from Litestream",
                ]
            ),
        )


if __name__ == "__main__":
    unittest.main()
