"""The example's manifests run for real: a primary pod and three replica pods of the built images, as podman containers in a
network of their own, with a small kubelet that asks the manifests' probes. What happens to pods happens to these.
"""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
import unittest

from containers import Containers, can_limit_memory, needs_images
from load import Readers, Writer
from manifests import needs_python_packages, rendered, secrets
from network import SEARCH, Network
from pods import Cluster, Pod
from servers import ROOT, poll, require

FULL = os.environ.get("WALCAST_FULL") == "1"
MIB = 1024 * 1024
DATABASE = "app.db"
POSITION = r"[0-9a-f]{16}/[0-9a-f]{16}:[0-9a-f]{16}"
GRPCURL = shutil.which("grpcurl") or os.path.join(ROOT, "target", "ci-venv", "bin", "grpcurl")


class Example:
    """The overlay `example-app`, with as many replicas; `change` has the objects before they are used."""

    def __init__(self, test, replicas, change=lambda objects: None):
        clean = test.addClassCleanup if isinstance(test, type) else test.addCleanup
        needs_python_packages()
        needs_images()
        directory = tempfile.mkdtemp(prefix="walcast-pods-")
        clean(shutil.rmtree, directory, ignore_errors=True)
        self.network = network = Network(test)
        addresses = [network.add() for _ in range(replicas + 1)]
        # A Service has one address for as long as it lives, and so have these.
        network.serve_names({"walcast-primary": addresses[0], "guestbook-writer": addresses[0]})
        objects = rendered("example-app") + secrets(",".join(f"IP:{each}" for each in addresses))
        change(objects)
        cluster = Cluster(objects, {})

        def pod(name, ordinal, address):
            made = Pod(cluster, name, ordinal, directory, address, lambda pod: Containers(pod, network))
            clean(made.stop)
            return made

        self.primary = pod("walcast-primary", 0, addresses[0])
        self.replicas = [pod("walcast-replica", number, each) for number, each in enumerate(addresses[1:])]
        self.pods = [self.primary, *self.replicas]


def operator(pod, command, *more):
    """A command of docs/kubernetes.md, as `kubectl exec` runs it."""
    port = port_of(pod)
    line = ["/walcast", command, "--server", f"https://localhost:{port}"]
    line += ["--tls-ca", "/etc/walcast/tls/ca.crt", "--token-file", "/etc/walcast/tokens/operator", *more]
    return pod.running["walcast"].exec(*line)


def port_of(pod):
    return next(each["containerPort"] for each in pod.container("walcast")["ports"] if each["name"] == "grpc")


def wait_level(primary, replicas):
    """Until the replicas have what the primary has now."""
    position = operator(primary, "position", "--db", DATABASE).strip()
    for pod in replicas:
        operator(pod, "wait", "--db", DATABASE, "--position", position, "--max-wait", "60s")


def snapshots(pod):
    return pod.log().count('"receiving snapshot"')


def disconnects(pod):
    return pod.log().count("disconnected: ")


def numbers(pod):
    """What was written under load, as it is in the pod's database."""
    with sqlite3.connect(f"file:{pod.data}/{DATABASE}?mode=ro", uri=True) as db:
        return [int(words) for (words,) in db.execute("SELECT words FROM entries ORDER BY id") if re.fullmatch(r"\d{7}", words)]


class Pods(unittest.TestCase):
    """One set of pods for all of these; each leaves them ready for the next."""

    @classmethod
    def setUpClass(cls):
        cls.example = example = Example(cls, 3)
        cls.primary, cls.replicas, cls.pods = example.primary, example.replicas, example.pods
        for pod in cls.pods:
            pod.start()
        for pod in cls.pods:
            pod.wait_ready()

    def assert_nothing_is_lost(self, *writers):
        """Every copy is the primary's, in its order, and has all that was acknowledged."""
        wait_level(self.primary, self.replicas)
        there = numbers(self.primary)
        self.assertEqual(there, sorted(set(there)))
        for writer in writers:
            self.assertLessEqual(set(writer.written), set(there))
            self.assertGreater(len(writer.written), 0)
        for pod in self.replicas:
            self.assertEqual(numbers(pod), there, pod.name)

    def assert_undisturbed(self, readers, writer):
        self.assertEqual(readers.wrong(), [])
        self.assert_nothing_is_lost(writer)

    def grpcurl(self, pod, *words, data=None, fails=False):
        container = pod.container("walcast")
        with open(pod.path(container, "/etc/walcast/tokens/operator"), encoding="ascii") as file:
            token = file.read().strip()
        line = [GRPCURL, "-cacert", pod.path(container, "/etc/walcast/tls/ca.crt"), "-H", f"authorization: Bearer {token}"]
        line += ["-d", json.dumps(data)] if data is not None else []
        done = subprocess.run([*line, f"{pod.address}:{port_of(pod)}", *words], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode != 0, fails, done.stdout + done.stderr)
        return done.stderr if fails else done.stdout

    def position(self, pod):
        return json.loads(self.grpcurl(pod, "walcast.v1.PositionService/GetPosition", data={"database": DATABASE}))["position"]

    def test_containers_are_confined(self):
        for pod in self.pods:
            for container in pod.containers():
                with self.subTest(pod=pod.name, container=container["name"]):
                    running = pod.running[container["name"]]
                    status = running.status()
                    user = {**pod.spec["securityContext"], **container["securityContext"]}["runAsUser"]
                    self.assertEqual(set(status["Uid"].split()), {str(user)})
                    self.assertEqual(set(status["Gid"].split()), {"10001"})
                    for kind in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
                        self.assertEqual(int(status[kind], 16), 0, kind)
                    self.assertEqual(status["NoNewPrivs"], "1")
                    self.assertEqual(status["Seccomp"], "2")
                    with open(f"/proc/{running.pid()}/mountinfo", encoding="utf-8") as file:
                        mounts = {line.split()[4]: line.split()[5].split(",")[0] for line in file}
                    self.assertEqual(mounts["/"], "ro")
                    for mount in container["volumeMounts"]:
                        written = not mount.get("readOnly", False)
                        self.assertEqual(mounts[mount["mountPath"]], "rw" if written else "ro", mount)
        python = "import sys; open(sys.argv[1], 'w')"
        for path in ("/data/mine", "/mine"):
            with self.assertRaisesRegex(AssertionError, "Read-only file system"):
                self.replicas[0].running["app"].exec("python3", "-c", python, path)
        self.replicas[0].running["app"].exec("python3", "-c", python, "/tmp/mine")

    def test_memory_is_limited(self):
        require(can_limit_memory(), "this machine has no memory controller")
        for pod in self.pods:
            for container in pod.containers():
                limit, _, killed = pod.running[container["name"]].memory()
                self.assertEqual((limit, killed), (256 * MIB, 0))

    def test_names_are_looked_up(self):
        """By a static program, through the resolv.conf that a pod has."""
        for pod in self.replicas:
            self.assertIn((pod.address, f"walcast-primary.{SEARCH[0]}"), self.example.network.names.asked)
        status = operator(self.primary, "status")
        for pod in self.replicas:
            self.assertIn(pod.name, status)

    def test_an_operator_looks_with_grpcurl(self):
        require(os.access(GRPCURL, os.X_OK), "grpcurl is missing")
        for pod in self.pods:
            with self.subTest(pod=pod.name):
                services = self.grpcurl(pod, "list").split()
                self.assertIn("walcast.v1.PositionService", services)
                self.assertIn("grpc.health.v1.Health", services)
                self.assertIn("rpc GetPosition", self.grpcurl(pod, "describe", "walcast.v1.PositionService"))
                self.assertRegex(self.grpcurl(pod, "describe", "walcast.v1.GetPositionRequest"), r"string database = \d+;")
                before = self.position(pod)
                self.assertRegex(before, POSITION)
                with Writer(self.primary):
                    poll(f"the position of {pod.name} to move", lambda: self.position(pod) > before)
                unknown = self.grpcurl(pod, "walcast.v1.PositionService/GetPosition", data={"database": "no.db"}, fails=True)
                self.assertIn("Code: NotFound", unknown)
                self.assertIn("no.db", unknown)
                self.assertIn(DATABASE, unknown)
        self.assert_nothing_is_lost()

    def test_a_replica_comes_back_with_and_without_its_volume(self):
        pod = self.replicas[2]
        others = [each for each in self.replicas if each is not pod]
        with Writer(self.primary) as writer, Readers(others) as readers:
            before = snapshots(pod)
            resumed = pod.log().count('"follows":"Resume"')
            pod.stop()
            writer.wait_for_more()
            pod.start()
            pod.wait_ready()
            self.assertEqual(snapshots(pod), before, pod.log())
            self.assertEqual(pod.log().count('"follows":"Resume"'), resumed + 1, pod.log())
            # And now its node is gone.
            pod.stop(signal.SIGKILL)
            shutil.rmtree(pod.data)
            pod.new_volume()
            writer.wait_for_more()
            pod.start()
            pod.wait_ready()
            self.assertEqual(snapshots(pod), before + 1, pod.log())
            readers.wait_for_more()
        self.assert_undisturbed(readers, writer)

    def test_the_primary_restarts(self):
        before = [snapshots(pod) for pod in self.replicas]
        with Writer(self.primary) as writer, Readers(self.replicas) as readers:
            for how in (signal.SIGTERM, signal.SIGKILL):
                self.primary.stop(how)
                readers.wait_for_more()
                self.primary.start()
                self.primary.wait_ready()
                writer.wait_for_more()
        self.assert_undisturbed(readers, writer)
        self.assertEqual([snapshots(pod) for pod in self.replicas], before)

    def test_the_primary_is_away_for_long(self):
        away = 600 if FULL else 5
        before = [snapshots(pod) for pod in self.replicas]
        noticed = [disconnects(pod) for pod in self.replicas]
        with Readers(self.replicas) as readers:
            self.primary.stop(signal.SIGKILL)
            for pod, old in zip(self.replicas, noticed):
                poll(f"{pod.name} to notice", lambda: disconnects(pod) > old)
            # For so long the kubelet goes on to ask.
            end = time.monotonic() + away
            while time.monotonic() < end:
                for pod in self.replicas:
                    self.assertTrue(pod.is_ready(), pod.name)
                    self.assertTrue(pod.is_alive(), pod.name)
                readers.wait_for_more(1)
            self.primary.start()
            self.primary.wait_ready()
            with Writer(self.primary) as writer:
                writer.wait_for_more()
        self.assert_undisturbed(readers, writer)
        self.assertEqual([snapshots(pod) for pod in self.replicas], before)

    def test_an_update_of_all_pods_under_load(self):
        """Replicas first, the last of them first, as docs/kubernetes.md and the StatefulSet have it; then the primary."""
        before = [snapshots(pod) for pod in self.replicas]
        with Writer(self.primary) as writer, Readers(self.replicas) as readers:
            for pod in reversed(self.replicas):
                with readers.without(pod):
                    pod.stop()
                    pod.start()
                    pod.wait_ready()
                readers.wait_for_more()
                writer.wait_for_more()
            self.primary.stop()
            self.primary.start()
            self.primary.wait_ready()
            writer.wait_for_more()
        self.assert_undisturbed(readers, writer)
        self.assertEqual([snapshots(pod) for pod in self.replicas], before)

    def test_a_partition_heals(self):
        cut, *others = self.replicas
        network, before, noticed = self.example.network, snapshots(cut), disconnects(cut)
        with Writer(self.primary) as writer, Readers(self.replicas) as readers:
            network.cut(cut.address, self.primary.address)
            try:
                poll(f"{cut.name} to notice", lambda: disconnects(cut) > noticed)
                writer.wait_for_more()
                wait_level(self.primary, others)
                self.assertTrue(cut.is_ready())
                old = set(numbers(cut))
                self.assertFalse(set(writer.written) <= old, "it was not cut off")
            finally:
                network.mend(cut.address, self.primary.address)
            wait_level(self.primary, [cut])
            readers.wait_for_more()
        self.assert_undisturbed(readers, writer)
        self.assertEqual(snapshots(cut), before, cut.log())


class SmallPods(unittest.TestCase):
    """64 MiB for walcast, on either side of a snapshot that is much larger."""

    LIMIT = 64 * MIB
    SIZE = 1024 if FULL else 128
    # Its application makes it, beside the walcast that captures it.
    FILL = """import sqlite3
db = sqlite3.connect("/data/app.db", timeout=60)
db.execute("CREATE TABLE ballast(data BLOB)")
for _ in range(%d):
    with db:
        db.execute("INSERT INTO ballast VALUES (randomblob(1048576))")
"""

    def test_a_large_snapshot_needs_little_memory(self):
        require(can_limit_memory(), "this machine has no memory controller")

        def less(objects):
            for each in objects:
                if each["kind"] == "StatefulSet":
                    each["spec"]["template"]["spec"]["initContainers"][0]["resources"]["limits"]["memory"] = "64Mi"

        example = Example(self, 1, less)
        primary, (replica,) = example.primary, example.replicas
        primary.start()
        primary.wait_ready()
        primary.running["app"].exec("python3", "-c", self.FILL % self.SIZE)
        replica.start()
        replica.wait_ready(limit=1200)
        wait_level(primary, [replica])
        self.assertEqual(snapshots(replica), 1)
        sums = []
        for pod in (primary, replica):
            running = pod.running["walcast"]
            limit, most, killed = running.memory()
            own = running.status()["VmHWM"].strip()
            print(f"{pod.name}: {self.SIZE} MiB of data, {most / MIB:.0f} MiB with cached files, the program {own}", flush=True)
            self.assertEqual((limit, killed), (self.LIMIT, 0))
            with sqlite3.connect(f"file:{pod.data}/{DATABASE}?mode=ro", uri=True) as db:
                sums.append(db.execute("SELECT count(*), total(length(data)), min(data), max(data) FROM ballast").fetchone())
        self.assertEqual(sums[0], sums[1])
        self.assertEqual(sums[0][0], self.SIZE)


if __name__ == "__main__":
    unittest.main()
