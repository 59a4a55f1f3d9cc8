"""deploy/compose.yml and deploy/systemd: what CI can say of them without Docker and without an init."""

import os
import re
import shutil
import subprocess
import unittest
import urllib.error
import urllib.parse
import urllib.request

from pods import GUESTBOOK
from servers import ROOT, WALCAST, ServerTest, poll, require

try:
    import yaml
except ImportError:
    yaml = None


class Compose(ServerTest):
    """Its services as processes, with the file's arguments, each at an address of its own."""

    def setUp(self):
        super().setUp()
        require(yaml, "Python's PyYAML is missing")
        with open(os.path.join(ROOT, "deploy", "compose.yml"), encoding="utf-8") as file:
            self.file = yaml.safe_load(file)
        self.services = {name: each for name, each in self.file["services"].items() if name != "owner"}
        self.addresses = {name: f"127.89.0.{number}" for number, name in enumerate(self.services, 1)}

    def run_service(self, name):
        service = self.services[name]
        volume, target = service["volumes"][0].split(":")[:2]
        data = self.path(volume)
        os.makedirs(data, exist_ok=True)
        words = [re.sub(rf"(^|=){target}/", rf"\g<1>{data}/", word) for word in service["command"]]
        words = [word.replace("0.0.0.0", self.addresses[name]) for word in words]
        for host, address in self.addresses.items():
            words = [word.replace(f"//{host}:", f"//{address}:") for word in words]
        program = [WALCAST] if service.get("image") == "walcast" else GUESTBOOK
        path = os.path.dirname(WALCAST) + os.pathsep + os.environ["PATH"]
        with open(self.path(name + ".log"), "wb") as log:
            process = subprocess.Popen([*program, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "PATH": path})
        self.addCleanup(process.wait, 60)
        self.addCleanup(process.terminate)

    def get(self, url, form=None):
        try:
            with urllib.request.urlopen(url, form, timeout=30) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, OSError):
            return None

    def test_what_is_written_on_one_replica_shows_on_both(self):
        for name in self.services:
            self.run_service(name)
        readers = [f"http://{self.addresses[name]}:8080" for name, each in self.services.items() if "ports" in each]
        self.assertEqual(len(readers), 2)
        for url in readers:
            poll(url, lambda: self.get(url + "/healthz"))
        form = urllib.parse.urlencode({"words": "hello"}).encode()
        self.assertIn("<li>hello</li>", self.get(readers[0] + "/sign", form) or "nothing")
        poll("the other", lambda: "<li>hello</li>" in (self.get(readers[1]) or ""))

    def test_volumes_are_there_and_given_to_the_user(self):
        owner = self.file["services"]["owner"]
        given = {volume.split(":")[0] for volume in owner["volumes"]}
        used = {volume.split(":")[0] for each in self.services.values() for volume in each["volumes"]}
        self.assertEqual((given, used), (set(self.file["volumes"]), set(self.file["volumes"])))
        self.assertEqual({word for word in owner["entrypoint"] if word.startswith("/")}, {v.split(":")[1] for v in owner["volumes"]})
        for name, each in self.services.items():
            self.assertEqual(each["user"], owner["entrypoint"][1], name)
            self.assertIs(each["read_only"], True, name)
            self.assertLessEqual(set(each["depends_on"]), set(self.file["services"]), name)


class Systemd(ServerTest):
    def test_units_are_valid_and_may_do_little(self):
        require(shutil.which("systemd-analyze"), "systemd-analyze is missing")
        for name, instance in (("walcast-replica.service",) * 2, ("walcast-primary@.service", "walcast-primary@shop.service")):
            with open(os.path.join(ROOT, "deploy", "systemd", name), encoding="utf-8") as file:
                text = file.read()
            unit = self.path(instance)
            with open(unit, "w", encoding="utf-8") as file:
                file.write(text.replace("/usr/bin/walcast", WALCAST))
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""), name)
            done = subprocess.run(["systemd-analyze", "security", "--offline=yes", unit], capture_output=True, text=True, check=False)
            exposure = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
            self.assertTrue(exposure, done.stdout + done.stderr)
            self.assertLessEqual(float(exposure.group(1)), 2.0, name)
            # The command is one.
            line = next(line for line in text.splitlines() if line.startswith("ExecStart=")).split("=", 1)[1]
            words = [re.sub(r"\$\{WALCAST_UPSTREAM\}", "http://127.0.0.1:1", word).replace("%i", "shop") for word in line.split()[1:]]
            done = subprocess.run([WALCAST, *words, "--nonsense"], capture_output=True, text=True, check=False)
            self.assertIn("--nonsense", done.stderr)
            self.assertNotIn("required", done.stderr)


if __name__ == "__main__":
    unittest.main()
