"""Archives in a bucket, by the S3 API of moto's server: written, failing in each way, and restored by hand."""

import contextlib
import datetime
import importlib.util
import json
import os
import shutil
import sqlite3
import subprocess
import threading
import unittest

from bucket import Bucket, Container, Door
from servers import ROOT, WALCAST, ServerTest, poll, require

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "k",
    "AWS_SECRET_ACCESS_KEY": "s",
    "AZURE_STORAGE_ACCOUNT_NAME": Container.ACCOUNT,
    "AZURE_STORAGE_ACCOUNT_KEY": Container.KEY,
}
AZURITE = os.environ.get("AZURITE") or os.path.join(ROOT, "target", "ci-node", "node_modules", ".bin", "azurite-blob")


class Application(threading.Thread):
    """Commits rows without an end; the number of the last one is what it has surely committed."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.last, self.slowest, self.told = path, 0, 0.0, threading.Event()

    def run(self):
        app = sqlite3.connect(self.path, isolation_level=None, timeout=60)
        app.execute("PRAGMA journal_mode=WAL")
        app.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, data BLOB)")
        while not self.told.wait(0.002):
            app.execute("INSERT INTO t VALUES (?, randomblob(500))", (self.last + 1,))
            self.last += 1
        app.close()

    def stop(self):
        self.told.set()
        self.join()
        return self.last


class ArchiveTest(ServerTest):
    """With an application that writes, a bucket, and a door before it."""

    SCHEME, PATH = "s3", "&region=us-east-1"

    def make_bucket(self):
        require(importlib.util.find_spec("moto") is not None, "Python's moto is missing")
        return Bucket(self.directory)

    def setUp(self):
        super().setUp()
        require(shutil.which("lz4") is not None, "lz4 is missing")
        self.bucket = self.make_bucket()
        self.addCleanup(self.bucket.stop)
        self.door = Door(self.bucket.port)
        self.addCleanup(self.door.server_close)
        self.addCleanup(self.door.shutdown)
        os.environ.update(CREDENTIALS)
        self.app = Application(self.path("app.db"))
        self.app.start()
        poll("the application", lambda: self.app.last > 20)

    def primary(self, name, more=""):
        url = f"{self.SCHEME}://bucket/backups/app?endpoint={self.door.url}{self.PATH}"
        with open(self.path("walcast.yml"), "w", encoding="utf-8") as file:
            file.write(
                f"listen: 127.0.0.1:0\ndrain-timeout: 60s\ndbs:\n  - path: app.db\n    archives:\n      - url: {url}\n"
                f"        sync-interval: 100ms\n{more}"
            )
        return self.start(name, "run", "--config", "walcast.yml")

    def archive(self, server):
        done = subprocess.run(
            [WALCAST, "status", "--json", "--server", f"http://{server.address}"], capture_output=True, text=True, check=True
        )
        found = []

        def look(value):
            if isinstance(value, list):
                for item in value:
                    look(item)
            elif isinstance(value, dict):
                if str(value.get("name", "")).startswith("archive "):
                    found.append(value)
                for item in value.values():
                    look(item)

        look(json.loads(done.stdout))
        return found[0]

    def wait_state(self, server, state):
        seen = {}

        def is_so():
            seen.update(self.archive(server))
            return seen["state"] == state

        try:
            poll(f"the archive to be {state}", is_so, 120)
        except AssertionError as error:
            raise AssertionError(f"{error}\nlast: {seen}\nlog of {server.name}:\n{server.log()}") from None
        return seen

    def restore(self):
        """By hand; the rows of the result."""
        directory = self.path("restored")
        shutil.rmtree(directory, ignore_errors=True)
        self.bucket.download("backups/app/generations/", directory)
        (generation,) = os.listdir(directory)
        root = os.path.join(directory, generation)
        first = max(os.listdir(os.path.join(root, "snapshots"))).split(".")[0]
        database = os.path.join(directory, "app.db")
        unpack([os.path.join(root, "snapshots", first + ".snapshot.lz4")], database)
        for index in sorted(os.listdir(os.path.join(root, "wal"))):
            if index >= first:
                wal = os.path.join(root, "wal", index)
                unpack([os.path.join(wal, name) for name in sorted(os.listdir(wal))], database + "-wal")
                restored = sqlite3.connect(database)
                restored.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                restored.close()
        restored = sqlite3.connect(database)
        self.addCleanup(restored.close)
        self.assertEqual(restored.execute("PRAGMA integrity_check").fetchone(), ("ok",))
        return [n for (n,) in restored.execute("SELECT n FROM t ORDER BY n")]

    def restore_to_points(self):
        """`walcast restore` from the bucket to positions and times in between."""
        server = self.primary("primary")
        self.wait_state(server, "streaming")
        points = []
        for _ in range(5):
            goal = self.app.last + 100
            poll("commits", lambda: self.app.last > goal)
            # What is acknowledged before the question is in the answer; the thread goes on meanwhile.
            first, at = self.app.last, datetime.datetime.now(datetime.timezone.utc)
            line = [WALCAST, "position", "--server", f"http://{server.address}", "--db", "app.db"]
            position = subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()
            points.append((("--to-position", position), first, self.app.last + 1))
            # Its moment is that of its capture, which is a little later than that of the commit.
            points.append((("--to-time", at.isoformat()), first - 50, first + 1))
        last = self.app.stop()
        server.stop()
        url = f"{self.SCHEME}://bucket/backups/app?endpoint={self.door.url}{self.PATH}"
        for number, (to, low, high) in enumerate([*points, ((), last, last)]):
            with self.subTest(to=to):
                path = self.path(f"point-{number}.db")
                done = subprocess.run([WALCAST, "restore", *to, "-o", path, url], capture_output=True, text=True, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)
                with contextlib.closing(sqlite3.connect(path)) as back:
                    rows = [n for (n,) in back.execute("SELECT n FROM t ORDER BY n")]
                self.assertEqual(rows, list(range(1, len(rows) + 1)))
                self.assertTrue(low <= len(rows) <= high, f"{low} <= {len(rows)} <= {high}")

    def restore_through_cuts(self):
        """`walcast restore` from the bucket, whose connections end after each MiB."""
        app = sqlite3.connect(self.path("app.db"), timeout=60)
        app.execute("CREATE TABLE large (data BLOB)")
        app.execute("INSERT INTO large VALUES (randomblob(12 * 1024 * 1024))")
        app.commit()
        server = self.primary("primary")
        self.wait_state(server, "streaming")
        last = self.app.stop()
        server.stop()
        self.door.mode = "cut"
        url = f"{self.SCHEME}://bucket/backups/app?endpoint={self.door.url}{self.PATH}"
        done = subprocess.run([WALCAST, "restore", "-o", self.path("back.db"), url], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        # More than the client's own tries for one request.
        self.assertGreater(self.door.failed, 10)
        back = sqlite3.connect(self.path("back.db"))
        self.addCleanup(back.close)
        self.assertEqual(back.execute("PRAGMA integrity_check").fetchone(), ("ok",))
        self.assertEqual([n for (n,) in back.execute("SELECT n FROM t ORDER BY n")], list(range(1, last + 1)))
        self.assertEqual(back.execute("SELECT data FROM large").fetchall(), app.execute("SELECT data FROM large").fetchall())
        app.close()


class S3(ArchiveTest):
    def test_positions_and_times_are_restored(self):
        self.restore_to_points()

    def test_a_restore_goes_on_where_its_connection_broke(self):
        self.restore_through_cuts()

    def test_a_bucket_that_fails_in_each_way_is_caught_up_with(self):
        server = self.primary("primary")
        self.wait_state(server, "streaming")
        for mode in (500, 503, "hang", "refuse"):
            before, failed = self.app.last, self.door.failed
            self.door.mode = mode
            poll(f"failures by {mode}", lambda: self.door.failed > failed)
            # The application goes on meanwhile.
            poll("commits", lambda: self.app.last > before + 200)
            if mode != "hang":
                archive = self.wait_state(server, "disconnected")
                self.assertIn("tries again", archive["reason"])
            self.door.mode = "ok"
            self.wait_state(server, "streaming")
        last = self.app.stop()
        server.stop()
        self.assertEqual(server.process.returncode, 0, server.log())
        self.assertEqual(self.restore(), list(range(1, last + 1)))

    def test_it_goes_on_after_a_kill_and_old_snapshots_go(self):
        more = "        snapshot-interval: 500ms\n        retain-age: 0s\n        retain-count: 1\n"
        server = self.primary("first", more)
        self.wait_state(server, "streaming")
        (generation,) = {name.split("/")[3] for name in self.bucket.names("backups/app/generations/")}
        oldest = self.bucket.names(f"backups/app/generations/{generation}/snapshots/")[0]
        poll("the first snapshot to go", lambda: oldest not in self.bucket.names("backups/app/generations/"), 120)
        self.app.stop()
        server.process.kill()
        server.process.wait()
        again = self.primary("second")
        self.wait_state(again, "streaming")
        again.stop()
        self.assertEqual(self.restore(), list(range(1, self.app.last + 1)))


class Azure(ArchiveTest):
    SCHEME, PATH = "az", f"/{Container.ACCOUNT}"

    def make_bucket(self):
        require(os.access(AZURITE, os.X_OK), f"azurite is missing ({AZURITE})")
        return Container(self.directory, AZURITE)

    def test_positions_and_times_are_restored(self):
        self.restore_to_points()

    def test_a_restore_goes_on_where_its_connection_broke(self):
        self.restore_through_cuts()

    def test_a_container_is_written_failing_and_goes_on_after_a_kill(self):
        # Two stay, so there is log before the newest one: this emulator lists it even if asked only for what comes behind.
        more = "        snapshot-interval: 500ms\n        retain-age: 0s\n        retain-count: 2\n"
        server = self.primary("first", more)
        self.wait_state(server, "streaming")
        oldest = next(name for name in self.bucket.names("backups/app/generations/") if "/snapshots/" in name)
        poll("the first snapshot to go", lambda: oldest not in self.bucket.names("backups/app/generations/"), 120)
        self.door.mode = 503
        self.wait_state(server, "disconnected")
        self.door.mode = "ok"
        self.wait_state(server, "streaming")
        last = self.app.stop()
        server.process.kill()
        server.process.wait()
        again = self.primary("second")
        self.wait_state(again, "streaming")
        again.stop()
        self.assertEqual(self.restore(), list(range(1, last + 1)))


def unpack(files, to):
    with open(to, "wb") as out:
        for file in files:
            subprocess.run(["lz4", "-dcq", file], stdout=out, check=True)


if __name__ == "__main__":
    unittest.main()
