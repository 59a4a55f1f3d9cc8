"""A simple application through Python's sqlite3: one-row commits, a few large ones, checkpoints.
It continues a database that the Rust writer made, and keeps the same promises and history."""

import hashlib
import os
import random
import sqlite3
import time

import common


class Writer:
    def __init__(self, spec):
        self.random = random.Random(int(spec.get("seed", 1)))
        self.history = common.AppendLog(spec["history"])
        self.conn = common.connect(spec["db"], int(spec.get("busy_timeout", 1000)))
        self.conn.execute("PRAGMA synchronous = NORMAL")
        self.conn.execute(f"PRAGMA wal_autocheckpoint = {int(spec.get('autocheckpoint', 1000))}")
        self.counts = {}
        meta = self.conn.execute(common.SQL_META).fetchone()
        self.version, self.state, self.n_a, self.sum_a = meta[:4]
        self.history.line("start", self.version, self.state)

    def put(self, row):
        h = self.random.randrange(1 << 31)
        old = self.conn.execute("SELECT h FROM a WHERE id = ?", (row,)).fetchone()
        for table in ("a", "b"):
            self.conn.execute(
                f"INSERT OR REPLACE INTO {table} VALUES(?, ?, ?)", (row, h, f"{h:08x}" * (h % 12 + 1))
            )
        if old is None:
            self.n_a += 1
            self.sum_a += row * 31
        else:
            self.sum_a -= old[0]
        self.sum_a += h
        return f"{row}:{h};"

    def transaction(self, rows):
        before = (self.n_a, self.sum_a)
        intent = False
        try:
            self.conn.execute("BEGIN" if self.random.random() < 0.5 else "BEGIN IMMEDIATE")
            changes = "".join(self.put(self.random.randint(1, 4000)) for _ in range(rows))
            version = self.version + 1
            digest = hashlib.sha256(f"{self.state}{version}{changes}".encode())
            state = digest.hexdigest()[:16]
            mark = f"walcast-state:{version:016x}:{state};"
            self.conn.execute(
                "UPDATE meta SET version=?, state=?, n_a=?, sum_a=?, mark=? WHERE id=1",
                (version, state, self.n_a, self.sum_a, mark),
            )
            self.history.line("intent", version, state)
            intent = True
            self.conn.execute("COMMIT")
            self.history.line("done", version, state)
            self.version, self.state = version, state
            return True
        except sqlite3.OperationalError as error:
            if intent:
                self.history.line("abort", version, state)
            if self.conn.in_transaction:
                self.conn.execute("ROLLBACK")
            self.n_a, self.sum_a = before
            self.busy("transaction", error)
            return False

    def busy(self, op, error):
        """Counts BUSY and LOCKED; anything else ends the process."""
        if "locked" not in str(error) and "busy" not in str(error):
            raise error
        self.count(f"busy.{op}.{common.code_of(error)}")

    def count(self, key):
        self.counts[key] = self.counts.get(key, 0) + 1

    def step(self):
        choice = self.random.randrange(100)
        if choice < 3:
            mode = self.random.choice(["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
            try:
                busy = self.conn.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()[0]
                self.count(f"ckpt.{mode}.{'busy' if busy else 'ok'}")
            except sqlite3.OperationalError as error:
                self.busy(f"ckpt.{mode}", error)
        else:
            self.transaction(100 if choice < 10 else 1)


def main():
    spec = common.options()
    writer = Writer(spec)
    commits, rate = int(spec.get("commits", 0)), int(spec.get("rate", 0))
    begin, first = time.monotonic(), writer.version
    while not common.told_to_stop(spec["stop"]) and (
        commits == 0 or writer.version - first + 1 < commits
    ):
        writer.step()
        if rate:
            due = begin + (writer.version - first) / rate
            time.sleep(max(0.0, due - time.monotonic()))
    for _ in range(100):
        if writer.transaction(1):
            break
    else:
        raise SystemExit(f"the last commit stays busy: {writer.counts}")
    pairs = {"role": "writer", "version": writer.version, "state": writer.state}
    common.report(spec, pairs | writer.counts)
    writer.conn.close()


main()
