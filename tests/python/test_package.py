"""The Debian package: built from Cargo.toml's metadata, installed by dpkg into a directory, and used from there."""

import os
import json
import shutil
import subprocess
import tempfile
import unittest

from servers import ROOT, WALCAST, require


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


class Package(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="walcast-package-")
        self.addCleanup(directory.cleanup)
        self.path = lambda name: os.path.join(directory.name, name)
        for tool in ("dpkg", "dpkg-deb", "cargo"):
            require(shutil.which(tool), f"{tool} is missing")
        self.root = self.path("root")
        for name in ("info", "updates", "triggers"):
            os.makedirs(os.path.join(self.root, "var/lib/dpkg", name))
        open(os.path.join(self.root, "var/lib/dpkg/status"), "w", encoding="utf-8").close()

    def dpkg(self, *arguments):
        # The libraries that it depends on are those of the machine, not of the directory.
        return run("dpkg", f"--root={self.root}", "--force-not-root", "--force-depends", *arguments)

    def installed(self, path):
        return os.path.join(self.root, path)

    def test_it_is_installed_works_and_is_removed(self):
        package = run(os.path.join(ROOT, "deploy/package/deb.py"), env=dict(os.environ, WALCAST_BIN=WALCAST), cwd=ROOT).strip()
        self.dpkg("--install", os.path.join(ROOT, package))
        program = self.installed("usr/bin/walcast")
        version = run(program, "--version").split()[1]
        status = run("dpkg-query", f"--admindir={self.root}/var/lib/dpkg", "--show", "walcast")
        self.assertEqual(status.split(), ["walcast", version])

        pages = os.listdir(self.installed("usr/share/man/man1"))
        self.assertIn("walcast-verify.1.gz", pages)
        self.assertIn("walcast.1.gz", pages)
        script = self.installed("usr/share/bash-completion/completions/walcast")
        words = "COMP_WORDS=(walcast ver); COMP_CWORD=1; _walcast walcast ver walcast; echo ${COMPREPLY[@]}"
        self.assertEqual(run("bash", "-c", f"source {script}; {words}").strip(), "verify")
        with open(self.installed("usr/share/doc/walcast/sbom.cdx.json"), encoding="utf-8") as file:
            sbom = json.load(file)
        self.assertEqual(sbom["metadata"]["component"]["version"], version)
        names = {component["name"] for component in sbom["components"]}
        self.assertTrue({"tonic", "rusqlite", "rustls"} <= names)
        self.assertFalse({"proptest", "criterion", "tempfile"} & names, "test crates are no part of the program")
        with open(self.installed("usr/share/doc/walcast/THIRD-PARTY-NOTICES"), encoding="utf-8") as file:
            notices = file.read()
        for component in sbom["components"]:
            named = f"{component['name']} {component['version']} ("
            # Not assertIn: it would print all licences.
            self.assertTrue(named in notices, named)

        if shutil.which("systemd-analyze"):
            unit = self.installed("usr/lib/systemd/system/walcast.service")
            with open(unit, encoding="utf-8") as file:
                text = file.read().replace("/usr/bin/walcast", program)
            with open(self.path("walcast.service"), "w", encoding="utf-8") as file:
                file.write(text)
            run("systemd-analyze", "verify", "--man=no", self.path("walcast.service"))
        self.dpkg("--purge", "walcast")
        self.assertFalse(os.path.exists(program))


class Install(unittest.TestCase):
    def test_cargo_install_gives_a_program_that_works(self):
        require(shutil.which("cargo"), "cargo is missing")
        # With a profile that is compiled already: that of the program under test, or the tests' own.
        profile = [] if os.sep + "release" + os.sep in WALCAST else ["--debug"]
        with tempfile.TemporaryDirectory(prefix="walcast-install-") as root:
            run("cargo", "install", "--path", ".", "--locked", "--root", root, *profile, cwd=ROOT)
            program = os.path.join(root, "bin/walcast")
            self.assertEqual(os.listdir(os.path.join(root, "bin")), ["walcast"])
            self.assertEqual(run(program, "--version"), run(WALCAST, "--version"))
            path = os.path.join(root, "a.yml")
            with open(path, "w", encoding="utf-8") as file:
                file.write("dbs: [{path: app.db}]\n")
            run(program, "config", "check", "--config", path)


if __name__ == "__main__":
    unittest.main()
