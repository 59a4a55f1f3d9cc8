"""The reader of tests/e2e/support/reader.rs, through Python's sqlite3: same options, same log."""

import os
import random
import sqlite3
import time

import common
import crowd


class Broken(Exception):
    """A promise of the schema does not hold."""


class Reader:
    def __init__(self, spec):
        self.db = spec["db"]
        self.mode = spec.get("mode", "short")
        self.timeout = int(spec.get("busy_timeout", 1000))
        self.hold_ms = int(spec.get("hold_ms", 500))
        self.quick_every = int(spec.get("quick_every", 200))
        self.stop = spec["stop"]
        self.random = random.Random(int(spec.get("seed", 1)))
        self.log = common.AppendLog(spec["log"])
        self.waiting = spec.get("wait_first", "0") == "1"
        self.isolate = spec.get("isolate", "1") == "1"
        self.content = spec.get("content", "0") == "1"
        self.conn = None
        self.op = "none"
        self.opened = self.reads = self.errors = self.violations = self.last = 0
        self.seen = set()
        self.slowest = 0.0

    def one(self, op, sql, *args):
        self.op = op
        return self.conn.execute(sql, args).fetchone()

    def same(self, version, what, found, expected):
        if found != expected:
            raise Broken(f"at version {version}: {what} is {found!r}, not {expected!r}")

    def check_state(self, meta, thorough, blob):
        version, _, n_a, sum_a, n_blob, len_blob, tables = meta
        for what, sql, expected in (
            ("acct", common.SQL_ACCT, (common.ACCOUNTS, common.TOTAL)),
            ("a", common.SQL_A, (n_a, sum_a)),
            ("b", common.SQL_B, (n_a, sum_a)),
            ("blobs", common.SQL_BLOBS, (n_blob, len_blob)),
            ("tables", common.SQL_TABLES, (tables,)),
        ):
            self.same(version, what, self.one(what, sql), expected)
        if not thorough:
            return
        self.same(version, "mirror", self.one("mirror", common.SQL_MIRROR), (0,))
        self.same(version, "index", self.one("index", common.SQL_INDEX), (n_a,))
        self.op = "names"
        for (name,) in self.conn.execute(common.SQL_X_NAMES).fetchall():
            sql = f"SELECT count(*), coalesce(sum(v = {name[2:]}), 0) FROM {name}"
            self.same(version, name, self.one("x", sql), (common.X_ROWS, common.X_ROWS))
        good = self.one("blob", common.SQL_BLOB_AT, blob % max(n_blob, 1))
        self.same(version, "a blob's ends", good, (1,) if n_blob else None)

    def observe(self, thorough):
        """What is there, if it is what it has to be."""
        if not self.content:
            meta = self.one("meta", common.SQL_META)
            if meta is None:
                raise Broken("meta has no row")
            self.check_state(meta, thorough, self.random.randrange(1 << 12))
            return meta
        self.op = "content"
        seen = crowd.content(self.conn)
        if not crowd.is_marked(self.conn, *seen):
            raise Broken(f"at version {seen[0]} with the content {seen[1]}: the mark names another")
        return seen

    def hold(self, meta):
        """Stays in the transaction, and finds the same state again and again."""
        hold = self.random.randint(1, self.hold_ms) / 1000
        end = time.monotonic() + hold
        while time.monotonic() < end and not os.path.exists(self.stop):
            time.sleep(hold / 4)
            again = self.observe(True)
            if again != meta:
                raise Broken(f"a read transaction saw {meta[:2]!r}, then {again[:2]!r}")

    def read(self):
        self.op = "open"
        if self.conn is None:
            self.opened += 1
            self.conn = common.connect(self.db, self.timeout, self.mode == "readonly")
            if self.content:
                for pragma in crowd.Plan(self.random).pragmas("reader"):
                    self.conn.execute(pragma).fetchall()
        self.op = "begin"
        if self.isolate:
            self.conn.execute("BEGIN")
        meta = self.observe(self.reads % 4 == 0)
        if self.quick_every and self.reads % self.quick_every == self.quick_every - 1:
            check = "integrity_check" if self.content else "quick_check"
            if self.content:
                # In SQLite 3.54 the check of FTS5 alone takes no notice of others' commits, a query does.
                self.one("words", "SELECT count(*) FROM words WHERE words MATCH 'w1'")
            answer = self.one(check, f"PRAGMA {check}(1)")[0]
            self.same(meta[0], check, answer, "ok")
        if self.mode == "long":
            self.hold(meta)
        self.op = "commit"
        if self.isolate:
            self.conn.execute("COMMIT")
        return meta

    def broken(self, text):
        self.violations += 1
        self.log.line("v", self.opened, text)

    def failed(self, error):
        code = common.code_of(error)
        missing = code == 14 or "unable to open" in str(error) or "no such table: " in str(error)
        if self.waiting and missing:
            return
        self.errors += 1
        self.log.line("e", self.opened, code, self.op, error)

    def turn(self):
        began = time.monotonic()
        try:
            meta = self.read()
        except Broken as why:
            self.broken(str(why))
        except sqlite3.Error as error:
            self.failed(error)
        else:
            self.waiting = False
            self.reads += 1
            self.seen.add(meta[0])
            self.log.line("r", self.opened, meta[0], meta[1])
            if meta[0] < self.last:
                self.broken(f"version went back from {self.last} to {meta[0]}")
            self.last = meta[0]
        if self.mode != "long":
            self.slowest = max(self.slowest, time.monotonic() - began)
        if self.conn is not None and self.conn.in_transaction:
            try:
                self.op = "rollback"
                self.conn.execute("ROLLBACK")
            except sqlite3.Error as error:
                self.failed(error)
        if self.conn is not None and (self.mode == "reconnect" or self.waiting):
            self.conn.close()
            self.conn = None


def main():
    spec = common.options()
    reader = Reader(spec)
    goal = int(spec.get("reads", 0))
    pause = int(spec.get("pause_us", 1000)) / 1e6
    while not common.told_to_stop(reader.stop) and (goal == 0 or reader.reads < goal):
        reader.turn()
        time.sleep(reader.random.uniform(0, 2 * pause))
    common.report(
        spec,
        {
            "role": "reader",
            "sqlite": sqlite3.sqlite_version,
            "reads": reader.reads,
            "errors": reader.errors,
            "violations": reader.violations,
            "distinct": len(reader.seen),
            "opened": reader.opened,
            "last": reader.last,
            "slowest_us": int(reader.slowest * 1e6),
        },
    )


main()
