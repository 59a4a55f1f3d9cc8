"""Old, new and otherwise built SQLites at once: all write one database, all read it, and all read its replica.

What they do is drawn from tests/common/crowd.txt. Each numbers its commits under the write lock and notes them with the digest of
all content; whatever a reader of any kind sees must be one of these states, and never an older one than before.
"""

import collections
import os
import random
import shutil
import subprocess
import tempfile
import time
import unittest

import crowd
import sqlites
from servers import DEADLINE, WALCAST, Walcast, poll, require

FULL = os.environ.get("WALCAST_FULL") == "1"
ROUNDS = 60 if FULL else 2
COMMITS, READS = (400, 400) if FULL else (10, 20)
# A process with all others beside it on a busy machine.
LIMIT = 1200.0 if FULL else 240.0


class Process:
    """One program of one kind, with a log of what it saw or a history of what it committed."""

    def __init__(self, test, kind, role, place, pairs):
        self.kind, self.role = kind, role
        self.name = f"{role}-{place}-{kind.name}"
        self.path = lambda suffix: test.path(f"{self.name}.{suffix}")
        pairs |= {"stop": self.path("stop"), "report": self.path("report")}
        command, environment = kind.command(role, pairs)
        with open(self.path("out"), "wb") as out:
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        test.addCleanup(self.kill)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def said(self):
        with open(self.path("out"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def assert_running(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.said()}")

    def wait(self):
        """Its report, at its end."""
        self.process.wait(LIMIT)
        if self.process.returncode != 0 or not os.path.exists(self.path("report")):
            raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.said()}")
        with open(self.path("report"), encoding="utf-8") as file:
            return dict(line.rstrip("\n").split("=", 1) for line in file)

    def stop(self):
        with open(self.path("stop"), "wb"):
            pass

    def committed(self, history):
        """How often, all threads together."""
        return sum(lines(os.path.join(history, name), "done") for name in os.listdir(history) if name.startswith(self.kind.name))


def words(path):
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [line.split() for line in file.read().split("\n")[:-1]]


def lines(path, kind):
    return sum(line[0] == kind for line in words(path))


def until(expected, ask, limit=DEADLINE):
    """Waits until `ask` answers as expected."""
    answers = []

    def right():
        answers[:] = [ask()]
        return answers == [expected]

    try:
        poll(expected, right, limit)
    except AssertionError as error:
        raise AssertionError(f"{error}: {answers}") from None


class History:
    """What all writers have committed: each version once, none missing."""

    def __init__(self, directory):
        self.states, self.by, self.wrong = {}, collections.Counter(), []
        for name in sorted(os.listdir(directory)):
            for kind, version, state in words(os.path.join(directory, name)):
                if kind != "done":
                    continue
                other = self.states.setdefault(int(version), state)
                if self.by[int(version)]:
                    self.wrong.append(f"version {version} twice: {other} and {state}")
                self.by[int(version)] += 1
        self.last = max(self.states, default=0)
        self.wrong += [f"nobody has committed {version}" for version in range(1, self.last) if version not in self.states]

    def judge(self, name, log):
        """All that is wrong in a reader's log, and how much it saw."""
        wrong, last, seen = [], 0, collections.Counter()
        for line in words(log):
            if line[0] != "r":
                wrong.append(f"{name}: {' '.join(line)}")
                continue
            version, state = int(line[2]), line[3]
            if self.states.get(version) != state:
                wrong.append(f"{name}: version {version} state {state} was never committed")
            if version < last:
                wrong.append(f"{name}: version {version} after {last}")
            last = version
            seen[version] += 1
        return wrong, seen


class Sqlites(unittest.TestCase):
    def setUp(self):
        require(os.access(WALCAST, os.X_OK), f"{WALCAST} is missing; build it, or set WALCAST_BIN")
        self.directory = tempfile.mkdtemp(prefix="walcast-sqlites-")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.directory, name)

    def start(self, name, *arguments):
        server = Walcast(self.directory, name, *arguments, "--listen", "127.0.0.1:0")
        self.servers.append(server)
        self.addCleanup(server.stop)
        server.wait_until_it_listens()
        return server

    def test_all_kinds_at_once_on_one_database(self):
        seed = int(os.environ.get("WALCAST_SEED", 711))
        print(f"WALCAST_SEED={seed}")
        kinds = sqlites.kinds()
        rng = random.Random(seed)
        plan = crowd.Plan(rng)
        for number in range(ROUNDS):
            with self.subTest(round=number):
                settings = [pragma.removeprefix("PRAGMA ") for pragma in plan.pragmas("database")]
                self.servers = []
                try:
                    self.round(f"round{number}", kinds, settings, rng)
                except AssertionError:
                    for server in self.servers:
                        print(f"--- {server.name}\n{server.log()[-4000:]}")
                    raise

    def round(self, name, kinds, settings, rng):
        print(name, settings)
        for side in ("primary", "replica", "history"):
            os.makedirs(self.path(f"{name}/{side}"))
        primary, replica = self.path(f"{name}/primary/app.db"), self.path(f"{name}/replica/app.db")
        history = self.path(f"{name}/history")

        def start(kind, role, place, **pairs):
            pairs["seed"] = rng.randrange(1 << 31)
            return Process(self, kind, role, f"{name}-{place}", pairs)

        creator = rng.choice([kind for kind in kinds if kind.program[-1].endswith("python3")])
        start(creator, "crowd", "creation", db=primary, history=f"{history}/creation", create=";".join(settings)).wait()
        writers = [start(kind, "crowd", "primary", db=primary, history=f"{history}/{kind.name}") for kind in kinds]
        upstream = self.start(f"{name}-primary", "primary", "--db", f"app={primary}")
        follower = self.start(
            f"{name}-replica", "replica", "--upstream", f"http://{upstream.address}", "--db", f"app={replica}"
        )
        poll("the replica's database", lambda: os.path.exists(replica))
        modes = ["short", "long", "reconnect", "readonly"]
        readers = []
        for place, db in (("primary", primary), ("replica", replica)):
            for kind in kinds:
                log = self.path(f"{name}-{place}-{kind.name}.seen")
                options = {"content": 1, "pause_us": 20000, "quick_every": 30, "busy_timeout": 10000, "mode": rng.choice(modes)}
                readers.append((start(kind, "reader", place, db=db, log=log, **options), log))
        everybody = writers + [reader for reader, _ in readers]

        def missing():
            # Reading all logs again and again would measure the machine's two cores.
            time.sleep(0.25)
            for process in everybody:
                process.assert_running()
            counts = {writer.name: COMMITS - writer.committed(history) for writer in writers}
            counts |= {reader.name: READS - lines(log, "r") for reader, log in readers}
            return {who: count for who, count in counts.items() if count > 0}

        until({}, missing, LIMIT)
        for writer in writers:
            writer.stop()
        reports = {writer.name: writer.wait() for writer in writers}
        self.level(upstream, follower, primary, replica)
        for reader, _ in readers:
            reader.stop()
        reports |= {reader.name: reader.wait() for reader, _ in readers}
        for who, report in reports.items():
            print(who, " ".join(f"{key}={value}" for key, value in report.items() if key != "role"))
        told = History(history)
        wrong = told.wrong
        for reader, log in readers:
            found, seen = told.judge(reader.name, log)
            wrong += found
            if len(seen) < 5:
                wrong.append(f"{reader.name}: only {len(seen)} versions seen")
        self.assertEqual(wrong[:20], [], f"{len(wrong)} in all; history of {told.last} versions")
        follower.stop()
        upstream.stop()

    def level(self, upstream, follower, primary, replica):
        """The replica has everything, and is equal page by page and row by row."""
        def state(db):
            conn = crowd.common.connect(db, 10_000)
            try:
                conn.execute("BEGIN")
                return crowd.content(conn), conn.execute("PRAGMA integrity_check(3)").fetchall()
            finally:
                conn.close()

        expected = state(primary)
        self.assertEqual(expected[1], [("ok",)])
        until(expected, lambda: state(replica))
        done = subprocess.run(
            [WALCAST, "verify", "--primary", f"http://{upstream.address}", "--replica", f"http://{follower.address}",
             "--db", "app", "--quiet"],
            capture_output=True, text=True, check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
