"""What writer.py and reader.py share: the statements of tests/e2e/support/schema.rs (change both),
and the key=value options and reports of tests/e2e/support/child.rs. Standard library only."""

import os
import sqlite3
import sys

ACCOUNTS = 64
TOTAL = ACCOUNTS * 1000
X_ROWS = 20

SQL_META = """SELECT version, state, n_a, sum_a, n_blob, len_blob,
  (SELECT tables FROM ddl WHERE id = 1) FROM meta WHERE id = 1"""
SQL_ACCT = "SELECT count(*), coalesce(sum(bal), 0) FROM acct"
SQL_A = "SELECT count(*), coalesce(sum(id * 31 + h), 0) FROM a"
SQL_B = "SELECT count(*), coalesce(sum(id * 31 + h), 0) FROM b"
SQL_MIRROR = """SELECT count(*) FROM a LEFT JOIN b ON a.id = b.id
  WHERE b.id IS NULL OR a.h <> b.h OR a.t <> b.t"""
SQL_INDEX = "SELECT count(h) FROM a INDEXED BY a_h WHERE h >= 0"
SQL_BLOBS = "SELECT count(*), coalesce(sum(length(data)), 0) FROM blobs"
SQL_BLOB_AT = """SELECT CAST(substr(data, 1, 16) AS TEXT) = h
  AND CAST(substr(data, -16) AS TEXT) = h AND length(data) = n
  FROM blobs ORDER BY id LIMIT 1 OFFSET ?"""
SQL_TABLES = """SELECT coalesce(group_concat(sql, ';'), '') FROM
  (SELECT sql FROM sqlite_schema WHERE name GLOB 'x_*' AND sql IS NOT NULL ORDER BY name)"""
SQL_X_NAMES = (
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'x_*' ORDER BY name"
)

PARENT = os.getppid()


def told_to_stop(path):
    """The stop file is there, or the test was killed: nothing outlives its test."""
    return os.path.exists(path) or os.getppid() != PARENT


# Python 3.11 and newer name the code; older ones leave only the message.
UNKNOWN_CODE = -2


def options():
    """The key=value arguments."""
    return dict(arg.split("=", 1) for arg in sys.argv[1:])


def report(spec, pairs):
    """Writes the report whole or not at all: its existence proves that the role ran."""
    partial = spec["report"] + "-partial"
    with open(partial, "w", encoding="utf-8") as out:
        for key, value in pairs.items():
            out.write(f"{key}={value}\n")
    os.replace(partial, spec["report"])


def code_of(error):
    return getattr(error, "sqlite_errorcode", UNKNOWN_CODE)


class AppendLog:
    """One write(2) a line, so that a kill leaves a whole line or none."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def line(self, *words):
        text = " ".join(str(word) for word in words).replace("\n", " ")
        os.write(self.fd, (text + "\n").encode())


def connect(path, timeout_ms, readonly=False):
    mode = "ro" if readonly else "rw"
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    conn = sqlite3.connect(
        f"file:{quoted}?mode={mode}", uri=True, isolation_level=None, timeout=timeout_ms / 1000
    )
    return conn
