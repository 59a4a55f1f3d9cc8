#!/usr/bin/env python3
"""Builds the Debian package from `[package.metadata.deb]` of Cargo.toml and prints its path.

`cargo deb` reads the same metadata, and needs what this makes in target/package; this needs no more than dpkg-deb and Python, so that it works on a machine that gets no
programs from crates.io. What is not in the source (manual pages, completions, the SBOM) is made by the program itself first.

    WALCAST_BIN=PATH   package this program instead of building a release
"""

import glob
import gzip
import os
import pathlib
import shutil
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
MADE = ROOT / "target/package"
OUT = ROOT / "target/debian"
RELEASE = ROOT / "target/release/walcast"


def run(*command, **options):
    return subprocess.run(command, cwd=ROOT, check=True, **options)


def program():
    """The program that is packaged."""
    given = os.environ.get("WALCAST_BIN")
    if given:
        return pathlib.Path(given).resolve()
    run("cargo", "build", "--release", "--locked", stdout=sys.stderr)
    return RELEASE


def make(walcast):
    """Writes what the assets name beside sources."""
    shutil.rmtree(MADE, ignore_errors=True)
    (MADE / "man").mkdir(parents=True)
    run(walcast, "man", "--out", MADE / "man")
    for page in list((MADE / "man").iterdir()):
        # Without a time, so that the same sources give the same package.
        page.with_name(page.name + ".gz").write_bytes(gzip.compress(page.read_bytes(), mtime=0))
        page.unlink()
    for shell, name in [("bash", "walcast.bash"), ("zsh", "_walcast"), ("fish", "walcast.fish")]:
        with open(MADE / name, "wb") as script:
            run(walcast, "completions", shell, stdout=script)
    with open(MADE / "sbom.cdx.json", "wb") as sbom:
        run(ROOT / "deploy/package/dependencies.py", "sbom", stdout=sbom)


def lay(assets, walcast, tree):
    """Copies the assets into the package's tree."""
    for source, destination, mode in assets:
        sources = [str(walcast)] if source == "target/release/walcast" else sorted(glob.glob(str(ROOT / source)))
        if not sources:
            sys.exit(f"{source}: nothing is there to be packaged")
        for path in sources:
            name = pathlib.Path(source).name if path == str(walcast) else pathlib.Path(path).name
            to = tree / destination / name if destination.endswith("/") else tree / destination
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)
            to.chmod(int(mode, 8))


def depends(walcast):
    """The libraries that the program is linked with, by package: `$auto` of cargo-deb."""
    (OUT / "debian").mkdir(parents=True, exist_ok=True)
    (OUT / "debian/control").write_text("Source: walcast\n\nPackage: walcast\nArchitecture: any\n")
    if not shutil.which("dpkg-shlibdeps"):
        version = os.confstr("CS_GNU_LIBC_VERSION").split()[1]
        return f"libc6 (>= {version}), libgcc-s1"
    done = subprocess.run(
        ["dpkg-shlibdeps", "-O", str(walcast)], cwd=OUT, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    return done.stdout.strip().removeprefix("shlibs:Depends=")


def main():
    with open(ROOT / "Cargo.toml", "rb") as file:
        package = tomllib.load(file)["package"]
    deb = package["metadata"]["deb"]
    walcast = program()
    make(walcast)
    tree = OUT / "tree"
    shutil.rmtree(OUT, ignore_errors=True)
    lay(deb["assets"], walcast, tree)
    size = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())
    arch = run("dpkg", "--print-architecture", stdout=subprocess.PIPE, text=True).stdout.strip()
    control = {
        "Package": package["name"],
        "Version": package["version"],
        "Architecture": arch,
        "Maintainer": deb["maintainer"],
        "Section": deb["section"],
        "Priority": deb["priority"],
        "Depends": depends(walcast),
        "Installed-Size": str(-(-size // 1024)),
        "Description": f"{package['description']}\n {deb['extended-description']}",
    }
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in control.items()))
    result = OUT / f"walcast_{package['version']}_{arch}.deb"
    run("dpkg-deb", "--root-owner-group", "--build", tree, result, stdout=sys.stderr)
    print(result.relative_to(ROOT))


if __name__ == "__main__":
    main()
