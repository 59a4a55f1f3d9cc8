#!/usr/bin/env python3
"""What walcast's program is made of, from `cargo metadata`: the crates that are linked into it on Linux, no tools and no
test crates.

    dependencies.py notices           THIRD-PARTY-NOTICES, to stdout
    dependencies.py sbom              a CycloneDX 1.5 document, to stdout
    dependencies.py check             fails where THIRD-PARTY-NOTICES is not what `notices` prints, or where a dependency needs
                                      a newer Rust than Cargo.toml says (our own use of it is for clippy's incompatible_msrv)
"""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTICES = ROOT / "THIRD-PARTY-NOTICES"
TARGET = "x86_64-unknown-linux-gnu"
# A crate's own statement of its licence, by the names that crates use.
LICENCE_FILE = re.compile(r"(licen[cs]e|copying|copyright|notice|unlicense)", re.IGNORECASE)

HEAD = """walcast contains the following software. Each part is under its own licence, whose text follows the parts that it is of.

SQLite (compiled in by libsqlite3-sys) is in the public domain: https://www.sqlite.org/copyright.html
"""


def metadata():
    command = ["cargo", "metadata", "--format-version=1", "--locked", f"--filter-platform={TARGET}"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def without_tests():
    """Names and versions of what the program and its build need. `cargo metadata` has the features that tests turn on, too."""
    command = ["cargo", "tree", "--locked", "--edges=normal", f"--target={TARGET}", "--prefix=none", "--format={p}"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    words = [line.split() for line in done.stdout.splitlines()]
    return {(line[0], line[1].removeprefix("v")) for line in words if line}


def linked(data):
    """The packages reached from walcast by dependencies that are neither for tests nor for building, by name."""
    needed = without_tests()
    packages = {package["id"]: package for package in data["packages"]}
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    root = data["resolve"]["root"]
    reached, todo = set(), [root]
    while todo:
        for dependency in nodes[todo.pop()]["deps"]:
            normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if not normal or dependency["pkg"] in reached:
                continue
            # A procedural macro is run by the compiler; what it writes is ours.
            kinds = {kind for target in packages[dependency["pkg"]]["targets"] for kind in target["kind"]}
            if "proc-macro" not in kinds:
                reached.add(dependency["pkg"])
                todo.append(dependency["pkg"])
    reached = [packages[id] for id in reached]
    found = sorted((p for p in reached if (p["name"], p["version"]) in needed), key=lambda p: (p["name"], p["version"]))
    return packages[root], found, nodes


def licence_texts(package):
    directory = pathlib.Path(package["manifest_path"]).parent
    for path in sorted(directory.iterdir()):
        if path.is_file() and LICENCE_FILE.match(path.name) and path.suffix in ("", ".md", ".txt", ".MIT", ".APACHE"):
            text = path.read_text(encoding="utf-8", errors="replace")
            yield "\n".join(line.rstrip() for line in text.strip().splitlines())


def notices():
    _, packages, _ = linked(metadata())
    by_text, without = {}, []
    for package in packages:
        name = f"{package['name']} {package['version']} ({package['license']})"
        texts = list(licence_texts(package))
        if not texts:
            without.append(f"{name}: {package['repository'] or 'https://crates.io/crates/' + package['name']}")
        for text in texts:
            # Texts differ in how lines are broken; the words are what counts.
            by_text.setdefault(" ".join(text.split()), (text, []))[1].append(name)
    rule = "-" * 80
    parts = [HEAD]
    if without:
        parts.append("Crates that name their licence and bring no text of it:\n\n" + "\n".join(without) + "\n")
    for text, names in sorted(by_text.values(), key=lambda entry: (-len(entry[1]), entry[1])):
        parts.append("\n".join([rule, *names, rule, "", text, ""]))
    return "\n".join(parts)


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, kind):
    licence = package["license"]
    found = {
        "type": kind,
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "purl": purl(package),
    }
    if licence:
        found["licenses"] = [{"expression": re.sub(r"\s*/\s*", " OR ", licence)}]
    if package["repository"]:
        found["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return found


def checksums():
    """Of each crate's archive, by name and version, as Cargo.lock has it."""
    found, entry = {}, {}
    for line in (ROOT / "Cargo.lock").read_text().splitlines() + ["[[package]]"]:
        if line == "[[package]]":
            found[entry.get("name"), entry.get("version")] = entry.get("checksum")
            entry = {}
        elif " = \"" in line:
            key, value = line.split(" = ", 1)
            entry[key] = value.strip('"')
    return found


def sbom():
    root, packages, nodes = linked(metadata())
    known = {package["id"] for package in packages}
    refs = {package["id"]: purl(package) for package in [root, *packages]}
    sums = checksums()
    components = []
    for package in packages:
        entry = component(package, "library")
        checksum = sums.get((package["name"], package["version"]))
        if checksum:
            entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        components.append(entry)
    dependencies = [
        {
            "ref": refs[package["id"]],
            "dependsOn": sorted({refs[d["pkg"]] for d in nodes[package["id"]]["deps"] if d["pkg"] in known}),
        }
        for package in [root, *packages]
    ]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(root, "application")},
        "components": components,
        "dependencies": dependencies,
    }
    return json.dumps(document, indent=2) + "\n"


def too_new(data):
    """Packages of all kinds that need a newer Rust than walcast says it does."""
    def version(package):
        return [int(number) for number in (package["rust_version"] or "0").split(".")]

    packages = {package["id"]: package for package in data["packages"]}
    ours = version(packages[data["resolve"]["root"]])
    return [f"{p['name']} {p['version']} needs {p['rust_version']}" for p in packages.values() if version(p)[:2] > ours]


def main():
    what = sys.argv[1] if len(sys.argv) == 2 else ""
    if what == "notices":
        sys.stdout.write(notices())
    elif what == "sbom":
        sys.stdout.write(sbom())
    elif what == "check":
        if not NOTICES.exists() or NOTICES.read_text() != notices():
            sys.exit("THIRD-PARTY-NOTICES is not current: deploy/package/dependencies.py notices > THIRD-PARTY-NOTICES")
        wrong = too_new(metadata())
        if wrong:
            sys.exit("rust-version in Cargo.toml is too low: " + ", ".join(wrong))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
