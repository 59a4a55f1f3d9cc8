"""The image of deploy/Dockerfile: small, static, nothing in it but the program, and a program that works there."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
import uuid

from containers import LIMITS, PODMAN, ask, needs_images
from servers import poll, require

IMAGE = "localhost/walcast:0.1.0"
LARGEST = 20_000_000
# What a careful runtime gives, as the manifests ask for it.
CONFINED = ("--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges", *LIMITS)


class Image(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        needs_images()
        cls.directory = tempfile.mkdtemp(prefix="walcast-image-")
        cls.addClassCleanup(shutil.rmtree, cls.directory)
        (cls.image,) = json.loads(ask("image", "inspect", IMAGE))
        archive = os.path.join(cls.directory, "image.tar")
        ask("save", "--quiet", "--format=docker-archive", "--output", archive, IMAGE)
        cls.files = []
        subprocess.run(["tar", "-xf", archive, "-C", cls.directory], check=True)
        with open(os.path.join(cls.directory, "manifest.json"), encoding="utf-8") as file:
            layers = json.load(file)[0]["Layers"]
        for layer in layers:
            layer = os.path.join(cls.directory, layer)
            names = subprocess.run(["tar", "-tf", layer], capture_output=True, text=True, check=True).stdout.split()
            cls.files += [name for name in names if not name.endswith("/")]
            if "walcast" in names:
                subprocess.run(["tar", "-xf", layer, "-C", cls.directory, "walcast"], check=True)
        cls.program = os.path.join(cls.directory, "walcast")

    def run_it(self, *more, options=()):
        line = [PODMAN, "run", "--rm", "--pull=never", "--network=none", *CONFINED, *options, IMAGE, *more]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    def test_it_is_small(self):
        print(f"image: {self.image['Size']} bytes, the program {os.path.getsize(self.program)}", flush=True)
        self.assertLessEqual(self.image["Size"], LARGEST)

    def test_the_program_is_all_that_is_in_it(self):
        self.assertEqual(self.files, ["walcast"])

    def test_the_program_is_static(self):
        require(shutil.which("readelf"), "readelf (binutils) is missing")
        shown = subprocess.run(["readelf", "--wide", "--program-headers", "--dynamic", self.program], capture_output=True, text=True, check=True).stdout
        self.assertIn("LOAD", shown)
        self.assertNotIn("INTERP", shown)
        self.assertNotIn("NEEDED", shown)

    def test_it_runs_as_nobody_in_particular(self):
        config = self.image["Config"]
        self.assertEqual(config["User"], "65532:65532")
        self.assertEqual(config["Entrypoint"], ["/walcast"])
        self.assertEqual(set(config["ExposedPorts"]), {"4040/tcp", "4041/tcp"})
        self.assertEqual(self.image["Healthcheck"]["Test"], ["CMD", "/walcast", "health"])

    def test_it_says_its_version(self):
        done = self.run_it("--version", options=["--no-healthcheck"])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"^walcast 0\.1\.0")

    def test_its_health_check_and_a_name_in_etc_hosts(self):
        """No database is needed for that: the primary waits for one."""
        data = os.path.join(self.directory, "data")
        os.makedirs(data, exist_ok=True)
        os.chown(data, 65532, 65532)
        name = f"walcast-image-{uuid.uuid4().hex[:8]}"
        subprocess.run(["sqlite3", f"{data}/app.db", "PRAGMA journal_mode=WAL; CREATE TABLE t(a)"], check=True, capture_output=True)
        for each in os.listdir(data):
            os.chown(os.path.join(data, each), 65532, 65532)
        # Podman asks by systemd's timers, which are not everywhere: here it is asked by hand.
        options = ["--detach", "--health-interval=disable", f"--name={name}", f"--volume={data}:/data", "--add-host=here.example:127.0.0.1"]
        done = self.run_it("primary", "--db", "/data/app.db", options=options)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.addCleanup(subprocess.run, [PODMAN, "rm", "--force", "--ignore", "--time", "10", name], capture_output=True, check=False)
        healthy = [PODMAN, "healthcheck", "run", name]
        poll("its health check to succeed", lambda: subprocess.run(healthy, capture_output=True, check=False).returncode == 0)
        # By a name, which the static program has to look up by itself.
        ask("exec", name, "/walcast", "health", "--server", "http://here.example:4040")
        with self.assertRaisesRegex(AssertionError, re.compile(r"nowhere\.example|lookup|name", re.IGNORECASE)):
            ask("exec", name, "/walcast", "health", "--server", "http://nowhere.example:4040")


if __name__ == "__main__":
    unittest.main()
