"""tests/e2e/support/plan.rs, content.rs and crowd.rs through Python's sqlite3: one connection of an application, which does what
tests/common/crowd.txt has, and notes each commit with the digest of all content. As a program it takes the same options."""

import hashlib
import os
import random
import re
import sqlite3
import struct

import common

PLAN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "common", "crowd.txt")
TABLES = """SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 AND name <> 'mark' ORDER BY name"""


class Plan:
    def __init__(self, rng):
        self.random = rng
        self.sections = {}
        with open(PLAN, encoding="utf-8") as file:
            for line in file.read().splitlines():
                if line.startswith("["):
                    lines = self.sections.setdefault(line.strip("[]"), [])
                elif line and not line.startswith("#"):
                    lines.append(line)

    def fill(self, script, page_size):
        """The script with numbers in place of the words in braces."""
        kept = {"db": "main", "page": page_size}

        def word(match):
            name, _, below = match[1].partition(":")
            if below:
                kept[name] = self.random.randrange(int(below))
            if name in kept:
                return str(kept[name])
            return str(self.random.randrange(1 << 31 if name == "r" else int(name)))

        return re.sub(r"\{(.*?)\}", word, script)

    def schema(self, page_size):
        return [self.fill(line, page_size) for line in self.sections["schema"]]

    def script(self, section, page_size):
        pairs = [line.split(" ", 1) for line in self.sections[section]]
        (script,) = self.random.choices([p[1] for p in pairs], [int(p[0]) for p in pairs])
        return self.fill(script, page_size)

    def pragmas(self, section):
        lines = (line.split(" = ") for line in self.sections[section])
        return [f"PRAGMA {name} = {self.random.choice(values.split(' | '))}" for name, values in lines]


def run(conn, script):
    """All statements of a script, each to its end. (`executescript` would commit first.)"""
    statement = ""
    for piece in script.split(";"):
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            conn.execute(statement).fetchall()
            statement = ""


def item(value):
    if value is None:
        return b"n;"
    if isinstance(value, int):
        return b"i%d;" % value
    if isinstance(value, float):
        return b"r" + struct.pack(">d", value)
    kind, value = (b"t", value.encode()) if isinstance(value, str) else (b"b", value)
    return b"%s%d;%s" % (kind, len(value), value)


def content(conn):
    """The version, and the digest of everything but `mark`."""
    (version,) = conn.execute("SELECT n FROM version").fetchone()
    total = hashlib.sha256()
    statements = ["PRAGMA user_version", "PRAGMA application_id"]
    statements.append("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name")
    names = conn.execute(TABLES).fetchall()
    statements += [f'SELECT * FROM "{name}" NOT INDEXED' for (name,) in names]
    for statement in statements:
        for row in conn.execute(statement):
            total.update(b"".join(map(item, row)) + b"|")
        total.update(b"#")
    return version, total.hexdigest()[:16]


def mark(version, state):
    return f"walcast-state:{version:016x}:{state};".encode()


def is_marked(conn, version, state):
    return conn.execute("SELECT text FROM mark").fetchone() == (mark(version, state),)


class Application:
    def __init__(self, spec):
        self.random = random.Random(int(spec.get("seed", 1)))
        self.path = spec["db"]
        self.plan = Plan(self.random)
        self.history = common.AppendLog(spec["history"])
        self.counts = {}
        self.open()
        (self.page_size,) = self.conn.execute("PRAGMA page_size").fetchone()

    def open(self):
        self.conn = common.connect(self.path, 60_000)
        for pragma in self.plan.pragmas("connection"):
            self.conn.execute(pragma).fetchall()

    def create(self, settings):
        """Makes the database, with its first state."""
        for setting in settings:
            self.conn.execute(f"PRAGMA {setting}").fetchall()
        (self.page_size,) = self.conn.execute("PRAGMA page_size").fetchone()
        run(self.conn, "PRAGMA journal_mode = WAL; BEGIN IMMEDIATE")
        for script in self.plan.schema(self.page_size):
            run(self.conn, script)
        self.finish()

    def part(self):
        """A part of a commit: what SQLite refuses as such is undone alone."""
        run(self.conn, "SAVEPOINT part")
        try:
            run(self.conn, self.plan.script("change", self.page_size))
        except sqlite3.Error as error:
            # SQLITE_ERROR and SQLITE_CONSTRAINT.
            if common.code_of(error) & 0xFF not in (1, 19) or not self.conn.in_transaction:
                raise
            run(self.conn, "ROLLBACK TO part")
        run(self.conn, "RELEASE part")

    def commit(self):
        how = self.random.choice(["IMMEDIATE", "EXCLUSIVE", "DEFERRED"])
        run(self.conn, f"BEGIN {how}")
        self.conn.execute("SELECT n FROM version").fetchone()
        run(self.conn, "UPDATE version SET n = n + 1")
        for _ in range(self.random.randint(1, 4)):
            self.part()
        self.finish()

    def finish(self):
        # FTS5 writes what it has gathered at a savepoint, or else at the commit.
        run(self.conn, "UPDATE version SET n = max(n, 1); SAVEPOINT all_written; RELEASE all_written")
        version, state = content(self.conn)
        self.conn.execute("UPDATE mark SET text = ?", (mark(version, state),))
        self.history.line("intent", version, state)
        try:
            run(self.conn, "COMMIT")
        except sqlite3.Error:
            self.history.line("abort", version, state)
            raise
        self.history.line("done", version, state)

    def step(self):
        choice = self.random.randrange(100)
        name = "commit" if choice < 78 else "idle" if choice < 96 else "reopen"
        try:
            if name == "commit":
                self.commit()
            elif name == "idle":
                run(self.conn, self.plan.script("idle", self.page_size))
            else:
                self.conn.close()
                self.open()
        except sqlite3.OperationalError as error:
            # SQLITE_BUSY and SQLITE_LOCKED.
            if common.code_of(error) & 0xFF not in (5, 6):
                raise
            name = f"busy.{name}"
        if self.conn.in_transaction:
            run(self.conn, "ROLLBACK")
        self.counts[name] = self.counts.get(name, 0) + 1


def main():
    spec = common.options()
    if "create" in spec:
        with open(spec["db"], "xb"):
            pass
    application = Application(spec)
    if "create" in spec:
        application.create(spec["create"].split(";"))
    else:
        while not common.told_to_stop(spec["stop"]):
            application.step()
    common.report(spec, {"role": "crowd", "sqlite": sqlite3.sqlite_version} | application.counts)


if __name__ == "__main__":
    main()
