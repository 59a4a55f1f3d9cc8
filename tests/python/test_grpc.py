"""A client that knows walcast only by its reflection: grpcio, no generated code, and Python's SQLite as application and
reader."""

import os
import sqlite3
import struct
import subprocess
import threading
import time
import unittest

from servers import ServerTest, grpc, poll

POSITION = r"^[0-9a-f]{16}/[0-9a-f]{16}:[0-9a-f]{16}$"
REPLICATION = "walcast.v1.ReplicationService"
ADMIN = "walcast.v1.AdminService"
HEALTH = "grpc.health.v1.Health"


class Pair(ServerTest):
    """A primary and a replica of one database, and the application's connection."""

    def setUp(self):
        super().setUp()
        self.app = sqlite3.connect(self.path("app.db"), isolation_level=None)
        self.addCleanup(self.app.close)
        self.app.execute("PRAGMA journal_mode=WAL")
        self.app.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)")
        self.primary_server = self.start("primary", "primary", "--db", "app.db", "--listen", "127.0.0.1:0")
        self.upstream = f"http://{self.primary_server.address}"
        self.replica_server = self.start(
            "replica", "replica", "--upstream", self.upstream, "--db", "app.db=copy/app.db",
            "--listen", "127.0.0.1:0", "--name", "python",
        )
        self.primary = self.services(self.primary_server)
        self.replica = self.services(self.replica_server)
        poll("the primary to have a position", self.is_captured)

    def is_captured(self):
        try:
            return self.position()
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            return None

    def position(self):
        return self.primary.position("GetPosition", database="app.db").position

    def insert(self, text):
        self.app.execute("INSERT INTO t (text) VALUES (?)", (text,))

    def wait(self, position, **fields):
        return self.replica.position("WaitForPosition", database="app.db", position=position, **fields)

    def read(self, sql):
        """What a program sees that opens the replica now."""
        reader = sqlite3.connect(self.path("copy/app.db"), timeout=1)
        try:
            return reader.execute(sql).fetchall()
        finally:
            reader.close()

    def stream(self, services=None, **fields):
        request = {"database": "app.db", "replica_id": "test", "replica_name": "test", "protocol_min": 1, "protocol_max": 1}
        stream = (services or self.primary).call(REPLICATION, "Stream", **{**request, **fields})
        self.addCleanup(stream.cancel)
        return stream


class Reflection(Pair):
    def test_every_service_is_listed_with_its_methods(self):
        want = {
            REPLICATION: {"Stream", "ReportProgress", "ReadCopy"},
            "walcast.v1.PositionService": {"GetPosition", "WatchPosition", "WaitForPosition", "ListDatabases"},
            ADMIN: {"ListReplicas", "PauseDatabase", "ResumeDatabase", "DetachDatabase"},
            HEALTH: {"Check", "Watch"},
        }
        for services in (self.primary, self.replica):
            names = services.names()
            self.assertLessEqual(set(want), names)
            self.assertTrue(any(name.startswith("grpc.reflection.") for name in names), names)
            for service, methods in want.items():
                self.assertLessEqual(methods, services.methods(service))


class Positions(Pair):
    def test_a_reader_finds_what_a_writer_handed_on(self):
        for number in range(1, 101):
            self.insert(f"row {number}")
            position = self.position()
            self.assertRegex(position, POSITION)
            answer = self.wait(position)
            self.assertTrue(answer.reached)
            self.assertGreaterEqual(answer.position, position)
            self.assertEqual(self.read("SELECT count(*) FROM t"), [(number,)])

    def test_both_servers_tell_the_same_of_a_database_at_rest(self):
        self.insert("x" * 100_000)
        self.wait(self.position())
        of_primary = self.primary.position("GetPosition", database="app.db")
        of_replica = self.replica.position("GetPosition", database="app.db")
        self.assertEqual(of_primary.SerializeToString(), of_replica.SerializeToString())
        self.assertEqual(of_primary.page_size, 4096)
        self.assertGreater(of_primary.page_count, 20)
        self.assertNotEqual(of_primary.database_checksum, 0)

    def test_a_watch_begins_at_once_and_never_goes_back(self):
        self.wait(self.position())
        watch = self.replica.position("WatchPosition", database="app.db")
        self.addCleanup(watch.cancel)
        seen = [next(watch).position]
        for number in range(20):
            self.insert(str(number))
            position = self.position()
            while seen[-1] < position:
                seen.append(next(watch).position)
        self.assertEqual(seen, sorted(set(seen)))
        self.assertGreater(len(seen), 20)

    def test_waiting_ends_in_time(self):
        position = self.position()
        self.wait(position)
        generation, rest = position.split("/")
        index, offset = rest.split(":")
        later = f"{generation}/{int(index, 16) + 1:016x}:{offset}"
        began = time.monotonic()
        answer = self.wait(later, max_wait={"nanos": 300_000_000})
        self.assertFalse(answer.reached)
        self.assertEqual(answer.position, position)
        self.assertGreaterEqual(time.monotonic() - began, 0.3)
        other = f"{int(generation, 16) ^ 1:016x}/{rest}"
        self.assert_fails(grpc.StatusCode.FAILED_PRECONDITION, lambda: self.wait(other))
        for malformed in ("", "1", position + "0", position.replace(":", "/"), " " + position[1:]):
            self.assert_fails(grpc.StatusCode.INVALID_ARGUMENT, lambda text=malformed: self.wait(text))

    def test_many_clients_wait_for_the_same_position(self):
        generation, rest = self.position().split("/")
        index, offset = rest.split(":")
        target = f"{generation}/{index}:{int(offset, 16) + 1:016x}"
        reached = []
        clients = [
            threading.Thread(target=lambda: reached.append(self.wait(target, max_wait={"seconds": 30}).reached))
            for _ in range(20)
        ]
        for client in clients:
            client.start()
        self.insert("what all wait for")
        for client in clients:
            client.join(60)
        self.assertEqual(reached, [True] * 20)

    def test_an_unknown_database_is_answered_with_those_that_exist(self):
        for method in ("GetPosition", "WatchPosition"):
            call = lambda method=method: self.replica.position(method, database="no.db")  # noqa: E731
            self.assert_fails(grpc.StatusCode.NOT_FOUND, call, "app.db")


class Lists(Pair):
    def test_databases_and_replicas_are_shown_as_they_are(self):
        self.insert("one")
        position = self.position()
        self.wait(position)

        def level():
            replicas = self.primary.call(ADMIN, "ListReplicas").replicas
            return [r for r in replicas if r.applied == position and r.durable == position]

        (replica,) = poll("the replica to report", level)
        self.assertEqual((replica.name, replica.state, replica.lag_bytes), ("python", "streaming", 0))
        self.assertEqual((replica.sent, replica.received), (position, position))
        # The durable position is what the file says.
        with open(self.path("copy/app.db-walcast/position"), encoding="ascii") as file:
            self.assertEqual(file.read(), position + "\n")

        (of_primary,) = self.primary.position("ListDatabases").databases
        (of_replica,) = self.replica.position("ListDatabases").databases
        self.assertEqual((of_primary.name, of_primary.role, of_primary.state), ("app.db", 1, "streaming"))
        self.assertEqual((of_replica.name, of_replica.role, of_replica.state), ("app.db", 2, "streaming"))
        self.assertEqual((of_primary.position, of_replica.position), (position, position))
        self.assertEqual(of_primary.database_checksum, of_replica.database_checksum)
        self.assertTrue(of_replica.path.endswith("copy/app.db"))
        self.assertEqual(of_replica.upstream, self.upstream)
        self.assertEqual(of_replica.durable_position, position)


class Health(Pair):
    def test_a_replica_serves_once_it_was_level(self):
        self.wait(self.position())
        for services in (self.primary, self.replica):
            for name in ("", "app.db"):
                poll(f"'{name}' to serve", lambda: services.call(HEALTH, "Check", service=name).status == 1)
            self.assert_fails(grpc.StatusCode.NOT_FOUND, lambda: services.call(HEALTH, "Check", service="no.db"))


class Copy:
    """A replica in forty lines: applies a stream to pages in memory. It trusts the primary; walcast's own does not."""

    def __init__(self, hello):
        self.page_size = hello.page_size
        self.page_count = 0
        self.pages = {}

    def apply(self, message):
        """Returns the position that is complete with this message, if one is."""
        kind = message.WhichOneof("body")
        if kind == "snapshot_pages":
            first = message.snapshot_pages.first_page
            for number, page in enumerate(self.split(unpacked(message.snapshot_pages), 0), first):
                self.pages[number] = page
        elif kind == "wal_chunk":
            return self.apply_chunk(message.wal_chunk)
        elif kind == "snapshot_end":
            self.page_count = message.snapshot_end.page_count
            return message.snapshot_end.position
        return None

    def apply_chunk(self, chunk):
        log, offset = chunk.start.rsplit(":", 1)
        data = unpacked(chunk)
        commit = 0
        for frame in self.split(data, 32 if int(offset, 16) == 0 else 0, header=24):
            number, commit = struct.unpack(">II", frame[:8])
            self.pages[number] = frame[24:]
            self.page_count = commit or self.page_count
        if not chunk.HasField("commit"):
            return None
        assert commit == chunk.commit.page_count, (commit, chunk.commit)
        return f"{log}:{chunk.end_offset:016x}"

    def split(self, data, start, header=0):
        step = header + self.page_size
        assert (len(data) - start) % step == 0, len(data)
        return [data[at:at + step] for at in range(start, len(data), step)]

    def write(self, path):
        zeros = bytes(self.page_size)
        with open(path, "wb") as file:
            for number in range(1, self.page_count + 1):
                page = self.pages.get(number, zeros)
                # A file without a log beside it, to be looked at on its own.
                file.write(page[:18] + b"\x01\x01" + page[20:] if number == 1 else page)


def unpacked(body):
    """The bytes of a message, by the `lz4` tool where they are packed."""
    data = body.data
    if body.codec == 2:
        data = subprocess.run(["lz4", "-d", "-c"], input=data, capture_output=True, check=True).stdout
    assert len(data) == body.size, (len(data), body.size)
    return data


class Stream(Pair):
    def check(self, copy, name):
        copy.write(self.path(name))
        database = sqlite3.connect(self.path(name))
        self.assertEqual(database.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
        rows = database.execute("SELECT * FROM t ORDER BY id").fetchall()
        database.close()
        self.assertEqual(rows, self.app.execute("SELECT * FROM t ORDER BY id").fetchall())

    def follow(self, **fields):
        # Larger than a message, so that it comes in many; a stock client takes 4 MiB at most.
        self.app.execute("BEGIN")
        rows = [(os.urandom(3000).hex(),) for _ in range(1500)]
        self.app.executemany("INSERT INTO t (text) VALUES (?)", rows)
        self.app.execute("COMMIT")
        position = self.position()
        stream = self.stream(**fields)
        hello = next(stream).hello
        self.assertEqual((hello.protocol, hello.follows, hello.checksum_algorithm), (1, 2, 1))
        copy = Copy(hello)
        at = ""
        for message in stream:
            self.assertLess(message.ByteSize(), 4 << 20)
            at = copy.apply(message) or at
            if message.WhichOneof("body") == "snapshot_end":
                break
        self.assertGreaterEqual(at, position)
        self.check(copy, "snapshot.db")
        # And now live: a small commit, one larger than a message, a deletion, a shrink.
        self.insert("live")
        self.app.execute("UPDATE t SET text = hex(randomblob(3000))")
        self.app.execute("DELETE FROM t WHERE id % 3 = 0")
        self.app.execute("VACUUM")
        position = self.position()
        while at < position:
            at = copy.apply(next(stream)) or at
        self.assertEqual(at, position)
        self.check(copy, "live.db")

    def test_a_stock_client_can_follow_from_a_snapshot_on(self):
        self.follow(codecs=[2])

    def test_a_client_without_lz4_gets_the_bytes_as_they_are(self):
        self.follow()

    def test_an_idle_primary_sends_heartbeats(self):
        beats = 0
        for message in self.stream():
            if message.WhichOneof("body") == "heartbeat":
                self.assertRegex(message.heartbeat.position, POSITION)
                beats += 1
            if beats == 3:
                break

    def test_requests_that_cannot_be_served_are_refused(self):
        fails = self.assert_fails
        fails(grpc.StatusCode.NOT_FOUND, lambda: self.stream(database="no.db"), "app.db")
        fails(grpc.StatusCode.FAILED_PRECONDITION, lambda: self.stream(protocol_min=2, protocol_max=9))
        fails(grpc.StatusCode.INVALID_ARGUMENT, lambda: self.stream(position="nonsense"))
        fails(grpc.StatusCode.FAILED_PRECONDITION, lambda: self.stream(self.replica))


class Details(Pair):
    def test_grpcurl_prints_the_details_of_an_error(self):
        done = subprocess.run(
            ["grpcurl", "-plaintext", "-d", '{"database":"no.db"}', self.replica_server.address,
             "walcast.v1.PositionService/GetPosition"],
            capture_output=True, text=True, timeout=60, check=False,
        )
        self.assertNotEqual(done.returncode, 0)
        for words in ("NotFound", "app.db", "google.rpc.ErrorInfo", "DATABASE_UNKNOWN", "google.rpc.ResourceInfo"):
            self.assertIn(words, done.stderr)
        self.assertNotIn("not recognized", done.stderr)


if __name__ == "__main__":
    unittest.main()
