"""The SQLites of test_sqlites.py, each as the command that runs one of the two programs (crowd: writes, reader: reads) with it."""

import concurrent.futures
import glob
import json
import os
import pathlib
import shutil
import subprocess
import sys

from servers import ROOT, require

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.environ.get("CARGO_TARGET_DIR") or os.path.join(ROOT, "target")
NODE_MODULES = os.environ.get("WALCAST_NODE_MODULES", os.path.join(TARGET, "ci-node", "node_modules"))

# The newest source that crates.io has, as libsqlite3-sys carries it, built as a distribution or an application may build it.
BUILDS = {
    "mapped": [
        "-DSQLITE_DEFAULT_MMAP_SIZE=268435456", "-DSQLITE_DIRECT_OVERFLOW_READ=1", "-DSQLITE_THREADSAFE=2",
        "-DSQLITE_DEFAULT_PAGE_SIZE=8192", "-DSQLITE_DEFAULT_CACHE_SIZE=20", "-DSQLITE_BYTEORDER=0",
    ],
    "single": [
        "-DSQLITE_THREADSAFE=0", "-DSQLITE_MAX_MMAP_SIZE=0", "-DSQLITE_SECURE_DELETE", "-DSQLITE_DEFAULT_WAL_SYNCHRONOUS=1",
        "-DSQLITE_DIRECT_OVERFLOW_READ=0", "-DSQLITE_DEFAULT_AUTOVACUUM=1", "-DSQLITE_DEFAULT_WAL_AUTOCHECKPOINT=1",
        "-DSQLITE_OMIT_DEPRECATED",
    ],
    "waiting": [
        "-DSQLITE_ENABLE_SETLK_TIMEOUT=1", "-DSQLITE_POWERSAFE_OVERWRITE=0", "-DSQLITE_DEFAULT_SYNCHRONOUS=3",
        "-DSQLITE_ENABLE_STAT4", "-DSQLITE_TEMP_STORE=3", "-DSQLITE_ENABLE_NULL_TRIM",
        "-DSQLITE_ENABLE_SORTER_REFERENCES", "-DSQLITE_DEFAULT_JOURNAL_SIZE_LIMIT=0",
    ],
}


def tell(*command, **more):
    return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, **more).stdout


def source():
    """The directory of SQLite's amalgamation in cargo's registry."""
    metadata = json.loads(tell("cargo", "metadata", "--locked", "--format-version", "1"))
    (package,) = (package for package in metadata["packages"] if package["name"] == "libsqlite3-sys")
    return os.path.join(os.path.dirname(package["manifest_path"]), "sqlite3"), package["version"]


def build(name, options):
    """A library that Python's sqlite3 takes in place of the system's; built once for these options."""
    directory, version = source()
    place = os.path.join(TARGET, "ci-sqlite", name)
    library, stamp = os.path.join(place, "libsqlite3.so.0"), os.path.join(place, "stamp")
    described = " ".join([version, *options])
    if not os.path.exists(stamp) or pathlib.Path(stamp).read_text(encoding="utf-8") != described:
        os.makedirs(place, exist_ok=True)
        tell(
            "cc", "-shared", "-fPIC", "-O1", "-w", "-DSQLITE_ENABLE_FTS5", "-DHAVE_USLEEP=1", *options,
            "-Wl,-soname,libsqlite3.so.0", "-o", library, os.path.join(directory, "sqlite3.c"), "-lm",
        )
        pathlib.Path(stamp).write_text(described, encoding="utf-8")
    return place


class Kind:
    """One SQLite: `command(role, pairs)` runs the application or a reader with it."""

    def __init__(self, name, program, **environment):
        self.name, self.program = name, program
        self.environment = os.environ | environment

    def command(self, role, pairs):
        words = [f"{key}={value}" for key, value in pairs.items()]
        if self.program[-1] == "crowd.js":
            return [*self.program[:-1], os.path.join(HERE, "crowd.js"), *words], self.environment
        return [*self.program, "-B", os.path.join(HERE, f"{role}.py"), *words], self.environment


class Rust(Kind):
    """The test kit's own application and reader: threads, and rusqlite as walcast has it."""

    def __init__(self):
        lines = tell("cargo", "test", "--locked", "--test", "e2e", "--no-run", "--message-format=json").splitlines()
        told = map(json.loads, lines)
        # The program itself is told of, too, in no order that cargo promises.
        found = [artifact["executable"] for artifact in told if artifact.get("target", {}).get("name") == "e2e"]
        super().__init__("rusqlite", found)

    def command(self, role, pairs):
        pairs = {"role": role, **pairs}
        if role == "crowd":
            history = pairs.pop("history")
            pairs |= {"db.main": pairs.pop("db"), "history.main": os.path.dirname(history), "who": os.path.basename(history)}
        spec = "".join(f"{key}={value}\n" for key, value in pairs.items())
        arguments = ["--exact", "support::child::child_main", "--nocapture", "--test-threads=1"]
        return [*self.program, *arguments], self.environment | {"WALCAST_E2E_CHILD": spec}


def kinds():
    """All of them. What is missing is skipped loudly, or fails."""
    require(shutil.which("cargo") and shutil.which("cc"), "cargo or a C compiler is missing")
    better = glob.glob(os.path.join(NODE_MODULES, "better-sqlite3", "build", "Release", "*.node"))
    require(shutil.which("node") and better, "Node.js or better-sqlite3 is missing (.ci/tools builds it)")
    debian = "/usr/bin/python3"
    require(os.access(debian, os.X_OK), f"{debian} is missing")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        built = list(pool.map(build, BUILDS, BUILDS.values()))
    return [
        Kind("python", [sys.executable]),
        Kind("debian", [debian]),
        Kind("better-sqlite3", ["node", "crowd.js"], NODE_PATH=NODE_MODULES),
        Rust(),
        *(Kind(name, [debian], LD_LIBRARY_PATH=place) for name, place in zip(BUILDS, built)),
    ]
