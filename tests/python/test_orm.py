"""What docs/orm.md says of applications on a primary and on a replica, by those applications.

One database is made by Django's migrations; Django, SQLAlchemy, better-sqlite3 and ActiveRecord then write it where the
primary is and read it where the replica is, with the same settings.
"""

import importlib.util
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import unittest

from servers import ROOT, WALCAST, Walcast, poll, require

HERE = os.path.dirname(os.path.abspath(__file__))
NODE_MODULES = os.environ.get("WALCAST_NODE_MODULES", os.path.join(ROOT, "target", "ci-node", "node_modules"))
READ_ONLY = "attempt to write a readonly database"


def have(module):
    return importlib.util.find_spec(module) is not None


class Orm(unittest.TestCase):
    def setUp(self):
        require(os.access(WALCAST, os.X_OK), f"{WALCAST} is missing; build it, or set WALCAST_BIN")
        require(have("django") and have("sqlalchemy"), "Django or SQLAlchemy is missing")
        self.directory = tempfile.mkdtemp(prefix="walcast-orm-")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.app = os.path.join(self.directory, "app.db")
        self.copy = os.path.join(self.directory, "replica", "app.db")
        self.tell("django", self.app, "migrate")
        self.primary = self.start("primary", "primary", "--db", self.app)
        self.replica = self.start(
            "replica", "replica", "--upstream", f"http://{self.primary.address}", "--db", self.copy
        )
        self.level()

    def start(self, name, *arguments):
        server = Walcast(self.directory, name, *arguments, "--listen", "127.0.0.1:0")
        self.addCleanup(server.stop)
        server.wait_until_it_listens()
        return server

    def walcast(self, *arguments):
        done = subprocess.run([WALCAST, *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    def level(self):
        """Read your own writes: what was committed before is on the replica after this."""
        at = poll("a position", lambda: self.walcast("position", "--server", f"http://{self.primary.address}", "--db", "app.db"))
        wait = ("wait", "--server", f"http://{self.replica.address}", "--db", "app.db", "--position", at)
        poll("the replica", lambda: self.walcast(*wait))

    def command(self, orm, file, command):
        script = {"django": "django_app.py", "sqlalchemy": "sqlalchemy_app.py", "better": "better.js", "rails": "rails.rb"}
        program = {"better": "node", "rails": "ruby"}.get(orm, sys.executable)
        environment = dict(os.environ, NODE_PATH=NODE_MODULES)
        return [program, os.path.join(HERE, "orm", script[orm]), file, command], environment

    def tell(self, orm, file, command):
        arguments, environment = self.command(orm, file, command)
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False, timeout=120)
        self.assertEqual(done.returncode, 0, f"{arguments}\n{done.stdout}\n{done.stderr}")
        return json.loads(done.stdout.splitlines()[-1])

    def check(self, orm):
        """A write where the primary is, a read and a refused write where the replica is."""
        before = self.tell(orm, self.app, "read")["answer"]
        self.assertEqual(self.tell(orm, self.app, "write")["answer"], before + 1)
        self.level()
        # Its settings ask for WAL and for BEGIN IMMEDIATE, which are both answered as on the primary.
        read = self.tell(orm, self.copy, "read")
        self.assertEqual(read["answer"], before + 1)
        self.assertEqual(read.get("mode", "wal"), "wal")
        self.assertEqual(self.tell(orm, self.copy, "write")["error"], READ_ONLY)
        self.assertEqual(self.tell(orm, self.copy, "read")["answer"], before + 1)

    def test_django(self):
        self.check("django")
        # A migration with nothing to do is a read; one that changes something is refused.
        self.assertIn("shop_item", self.tell("django", self.copy, "migrate")["answer"])
        with sqlite3.connect(self.app) as connection:
            connection.execute("DELETE FROM django_migrations WHERE app = 'shop'")
            connection.execute("DROP TABLE shop_item")
        self.level()
        self.assertEqual(self.tell("django", self.copy, "migrate")["error"], READ_ONLY)

    def test_sqlalchemy(self):
        self.check("sqlalchemy")

    def test_better_sqlite3(self):
        found = os.path.isdir(os.path.join(NODE_MODULES, "better-sqlite3", "build", "Release"))
        require(shutil.which("node") and found, "Node.js or better-sqlite3 is missing (.ci/tools builds it)")
        self.check("better")

    def test_active_record(self):
        ruby = shutil.which("ruby")
        found = ruby and subprocess.run([ruby, "-e", "require 'active_record'; require 'sqlite3'"], check=False, capture_output=True)
        require(found and found.returncode == 0, "Ruby, ActiveRecord or its sqlite3 is missing (.ci/tools installs them)")
        self.check("rails")

    def test_a_migration_on_the_primary_reaches_pooled_connections_of_a_reader(self):
        arguments, environment = self.command("sqlalchemy", self.copy, "follow")
        reader = subprocess.Popen(
            arguments, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(reader.stdout.close)
        self.addCleanup(reader.wait)
        self.addCleanup(reader.stdin.close)

        def look():
            reader.stdin.write("look\n")
            reader.stdin.flush()
            return json.loads(reader.stdout.readline())

        self.assertEqual(json.loads(reader.stdout.readline()), "ready")
        self.assertEqual(look(), [[0, ["id", "name"]]] * 2)
        with sqlite3.connect(self.app) as connection:
            connection.execute("ALTER TABLE shop_item ADD COLUMN price INTEGER NOT NULL DEFAULT 0")
            connection.execute("INSERT INTO shop_item(name, price) VALUES ('dear', 100)")
        self.level()
        self.assertEqual(look(), [[1, ["id", "name", "price"]]] * 2)

    def test_what_a_replica_answers(self):
        """The table of docs/orm.md, line by line: each on a connection of its own, whose first statements they are."""
        with open(os.path.join(ROOT, "docs", "orm.md"), encoding="utf-8") as file:
            rows = [line.split("|")[1:3] for line in file if line.startswith("| `")]
        self.assertGreater(len(rows), 12, "the table was not found whole")
        for statement, expected in ((a.strip().strip("`"), b.strip()) for a, b in rows):
            connection = sqlite3.connect(self.copy, isolation_level=None, timeout=0.2)
            try:
                for one in statement.split("; "):
                    rows_of_it = connection.execute(one).fetchall()
                answer = ", ".join(str(value) for row in rows_of_it for value in row)
                answer = f"`{answer}`" if answer else "done"
            except sqlite3.OperationalError as error:
                answer = f"error: {error}"
            finally:
                connection.close()
            # Which of two reasons SQLite meets first depends on the moment.
            first, *other = expected.split(", or: ")
            self.assertIn(answer, [first, *(f"error: {words}" for words in other)], statement)


if __name__ == "__main__":
    unittest.main()
