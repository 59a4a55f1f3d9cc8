"""Runs the README's commands as they are written, in its order, and looks at what they print.

Only ports and the two places on disk are replaced, so that the test can run beside anything else.
"""

import os
import re
import socket
import sqlite3
import subprocess
import unittest
import urllib.request

from servers import ROOT, WALCAST, ServerTest, Walcast, poll, require

# Blocks that build, or that .ci/run runs as suites of their own.
ELSEWHERE = ("cargo run --release -- demo", "cargo test", "cargo build --release")

POSITION = r"[0-9a-f]{16}/[0-9a-f]{16}:[0-9a-f]{16}"
# What a block must print, by the words that it contains. Each must be met: the README keeps all of them.
EXPECTED = {
    "SELECT count(*) FROM note": r"\A1\n\Z",
    "walcast status --server": rf"app\.db.*streaming.*{POSITION}",
    "walcast position --server": rf"(?m)^{POSITION}$",
    "walcast wait --server": rf"\A{POSITION}\n\Z",
    "4041 list": r"(?m)^walcast\.v1\.PositionService$",
    "PositionService/GetPosition": rf'"position": "{POSITION}"',
    "AdminService/ListReplicas": rf'"applied": "{POSITION}"',
    "Health/Check": r'"status": "SERVING"',
    "walcast pause": rf"paused at {POSITION}",
    "walcast resume": POSITION,
    "walcast detach": POSITION,
    "walcast verify": r"(?i)equal",
    "walcast config check": r"walcast\.yml",
    "walcast restore": rf"(?m)^{POSITION}$",
}


def blocks():
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        found = re.findall(r"^```sh\n(.*?)^```$", file.read(), re.MULTILINE | re.DOTALL)
    return [block for block in found if not block.startswith(ELSEWHERE)]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Readme(ServerTest):
    def setUp(self):
        super().setUp()
        have_grpcurl = subprocess.run(["which", "grpcurl"], capture_output=True, check=False).returncode == 0
        require(have_grpcurl, "grpcurl is missing")
        self.replaced = {
            "127.0.0.1:4040": f"127.0.0.1:{free_port()}",
            "127.0.0.1:4041": f"127.0.0.1:{free_port()}",
            "127.0.0.1:4042": f"127.0.0.1:{free_port()}",
            "127.0.0.1:4043": f"127.0.0.1:{free_port()}",
            "127.0.0.1:4080": f"127.0.0.1:{free_port()}",
            "/tmp/backup.db": self.path("backup.db"),
            "/tmp/restored.db": self.path("restored.db"),
            "/tmp/replica": self.path("replica"),
        }

    def placed(self, text):
        for written, here in self.replaced.items():
            text = text.replace(written, here)
        return text

    def run_block(self, block):
        """Runs a block as a shell does that reads it line by line, and stops at the first command that fails."""
        environment = dict(os.environ, PATH=os.path.dirname(WALCAST) + os.pathsep + os.environ["PATH"])
        done = subprocess.run(
            ["bash", "-euc", self.placed(block)], cwd=self.directory, env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120, check=False,
        )
        self.assertEqual(done.returncode, 0, f"{block}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def start_server(self, block):
        command, *arguments = self.placed(block).split()
        self.assertEqual(command, "walcast")
        server = Walcast(self.directory, "-".join((arguments[0], str(len(os.listdir(self.directory))))), *arguments)
        self.addCleanup(server.stop)
        server.wait_until_it_listens()
        return server

    def is_level(self):
        try:
            return self.run_block("walcast health --server http://127.0.0.1:4041 --db app.db")
        except AssertionError:
            return None

    def test_every_command_runs_as_it_is_written(self):
        servers = []
        met = set()
        for block in blocks():
            if block.startswith(("walcast primary", "walcast replica", "walcast run")):
                servers.append(self.start_server(block))
                if len(servers) == 2:
                    poll("the replica to be level", self.is_level)
                continue
            if "Health/Check" in block or "ListReplicas" in block:
                # A report of the replica is due each second at the latest.
                poll("the replica to have reported", self.has_reported)
            if "walcast restore" in block:
                # Its first second may not be over.
                poll("an archive", lambda: self.has_archive("backups/shop"))
            out = self.run_block(block)
            for words, pattern in EXPECTED.items():
                if words in block:
                    self.assertRegex(out, re.compile(pattern, re.DOTALL) if "streaming" in pattern else pattern)
                    met.add(words)
        self.assertEqual(met, set(EXPECTED), "the README lost a command")

        # Detached: an ordinary database, that takes writes.
        database = sqlite3.connect(self.path("replica/app.db"))
        with database:
            database.execute("INSERT INTO note VALUES ('mine now')")
        self.assertEqual(database.execute("SELECT count(*) FROM note").fetchone(), (2,))
        database.close()
        self.assertFalse(os.path.exists(self.path("replica/app.db-walcast")))

        # The backup is one as well.
        backup = sqlite3.connect(self.path("backup.db"))
        with backup:
            backup.execute("INSERT INTO note VALUES ('and this')")
        backup.close()

        # What was archived is there.
        restored = sqlite3.connect(self.path("restored.db"))
        self.assertEqual(restored.execute("SELECT text FROM note").fetchall(), [("kept",)])
        restored.close()

        # The directory is watched, and the second port tells of it.
        tenant = sqlite3.connect(self.path("tenants/acme.db"))
        tenant.execute("PRAGMA journal_mode=WAL")
        tenant.execute("CREATE TABLE t (a)")
        poll("the database in the directory", self.has_tenant)
        tenant.close()

        for server in reversed(servers):
            server.process.terminate()
            self.assertEqual(server.process.wait(30), 0, server.log())

    def has_reported(self):
        out = self.run_block("walcast status --server http://127.0.0.1:4040 --json")
        return '"applied":"' in out

    def has_archive(self, place):
        out = self.run_block(f"walcast snapshots {place} 2>/dev/null || true")
        # A heading, and a line for each.
        return len(out.splitlines()) > 1

    def has_tenant(self):
        url = f"http://{self.replaced['127.0.0.1:4080']}"
        with urllib.request.urlopen(url + "/metrics", timeout=10) as answer:
            metrics = answer.read().decode()
        with urllib.request.urlopen(url + "/", timeout=10) as answer:
            self.assertIn("<html", answer.read().decode())
        return 'database="acme.db"' in metrics


class Documents(unittest.TestCase):
    def setUp(self):
        names = ["README.md", "CHANGELOG.md", *("docs/" + name for name in os.listdir(os.path.join(ROOT, "docs")))]
        self.texts = {}
        for name in names:
            if name.endswith(".md"):
                with open(os.path.join(ROOT, name), encoding="utf-8") as file:
                    self.texts[name] = file.read()

    def test_every_link_leads_somewhere(self):
        followed = 0
        for name, text in self.texts.items():
            for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
                if not re.match("https?://", link):
                    target = os.path.join(ROOT, os.path.dirname(name), link)
                    self.assertTrue(os.path.exists(target), f"{name}: {link}")
                    followed += 1
        self.assertGreater(followed, 10)

    def test_every_option_that_is_named_exists(self):
        require(os.access(WALCAST, os.X_OK), f"{WALCAST} is missing; build it, or set WALCAST_BIN")

        def help_of(*command):
            return subprocess.run(
                [WALCAST, *command, "--help"], capture_output=True, text=True, timeout=60, check=True
            ).stdout

        commands = re.findall(r"(?m)^  ([a-z]+)  ", help_of().split("Commands:")[1])
        self.assertIn("replica", commands)
        known = {command: help_of(command) for command in commands if command != "help"}
        options = set(re.findall(r"--[a-z][a-z-]+", " ".join(known.values())))
        # Options of cargo in the README's first commands.
        options.update(("--release", "--path", "--locked"))
        for name in ("README.md", "CHANGELOG.md", "docs/limits.md", "docs/formats.md", "docs/protocol.md"):
            for option in re.findall(r"--[a-z][a-z-]+", self.texts[name]):
                self.assertIn(option, options, name)
            for command in re.findall(r"`walcast ([a-z]+)\b", self.texts[name]):
                self.assertIn(command, [*known, "help", "lineage"], name)


if __name__ == "__main__":
    unittest.main()
