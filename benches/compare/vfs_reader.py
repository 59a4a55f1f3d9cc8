"""A reader of Litestream's replica by its VFS: the roles of the comparison's helpers, with the same words and files.

LITESTREAM_REPLICA_URL=file:///STORE vfs_reader.py prober --times FILE | wait --newest N | digest | hold
"""

import argparse
import array
import ctypes
import select
import sqlite3
import sys
import time

LOOK_EVERY = 100e-6
PR_SET_TIMERSLACK = 29


def connect():
    import litestream_vfs

    # Attached, for after the extension is loaded each connect() fails: https://github.com/benbjohnson/litestream/pull/1506
    connection = sqlite3.connect("file::memory:", uri=True, isolation_level=None)
    litestream_vfs.load(connection)
    connection.execute("ATTACH 'file:app.db?vfs=litestream' AS replica")
    return connection


def newest(connection):
    return connection.execute("SELECT ifnull(max(id), 0) FROM t").fetchone()[0]


def told():
    """What the parent wants to have been seen when it has told us to end, else None."""
    if not select.select([sys.stdin], [], [], 0)[0]:
        return None
    return int(sys.stdin.read().strip() or 0)


def prober(connection, args):
    newest(connection)
    seen = array.array("Q")
    goal = until = None
    print("ready", flush=True)
    while True:
        if goal is None:
            goal = told()
            until = goal is not None and time.monotonic() + args.patience
        count = newest(connection)
        if count > len(seen):
            seen.extend([time.monotonic_ns()] * (count - len(seen)))
        if goal is not None and (len(seen) >= goal or time.monotonic() > until):
            break
        time.sleep(LOOK_EVERY)
    print("end_ns", time.monotonic_ns())
    print("server_cpu_s", 0)
    with open(args.times, "wb") as file:
        seen.tofile(file)


def wait(connection, args):
    print("ready", flush=True)
    until = time.monotonic() + args.patience
    while newest(connection) < args.newest:
        if time.monotonic() > until:
            sys.exit(f"{newest(connection)} rows of {args.newest} were there after {args.patience} s")
        time.sleep(1e-3)
    print("at_ns", time.monotonic_ns())


def digest(connection, args):
    sql = "SELECT count(*), ifnull(sum(seq), 0), ifnull(sum(length(body)), 0) FROM t"
    print("ready", flush=True)
    for name, value in zip(("rows", "sequence", "bytes"), connection.execute(sql).fetchone()):
        print(name, value)


def hold(connection, args):
    print("ready", flush=True)
    while told() is None:
        newest(connection)
        time.sleep(1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=("prober", "wait", "digest", "hold"))
    parser.add_argument("--times")
    parser.add_argument("--newest", type=int)
    parser.add_argument("--patience", type=int, default=60)
    args = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    globals()[args.role](connect(), args)


main()
