"""deploy/kubernetes: every overlay renders, is valid, holds together; and its pods do what they should, as processes."""

import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import unittest
import urllib.parse
import urllib.request

from manifests import keys, needs_python_packages, rendered, secrets
from pods import Cluster, Pod
from servers import ROOT, WALCAST, require

OVERLAYS = ("tls", "monitoring", "example-app", "archive")
# Kinds of operators, for which there is no schema here.
FOREIGN = {"Certificate", "Issuer", "PodMonitor", "PrometheusRule"}
# Native sidecars began with 1.29.
OLDEST = (1, 29)


def containers(workload):
    spec = workload["spec"]["template"]["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


class Manifests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        needs_python_packages()
        cls.overlays = {overlay: rendered(overlay) for overlay in OVERLAYS}

    def each(self, *kinds):
        for overlay, objects in self.overlays.items():
            for each in objects:
                if each["kind"] in kinds:
                    with self.subTest(overlay=overlay, kind=each["kind"], name=each["metadata"]["name"]):
                        yield objects, each

    def test_they_are_valid_for_each_version_of_kubernetes(self):
        import kubernetes_validate
        from kubernetes_validate import validate

        schemas = os.listdir(os.path.join(os.path.dirname(kubernetes_validate.__file__), "kubernetes-json-schema"))
        versions = {tuple(int(part) for part in name[1:].split("-")[0].split(".")[:2]) for name in schemas}
        versions = sorted(each for each in versions if each >= OLDEST)
        self.assertGreaterEqual(len(versions), 3)
        checked = 0
        for objects in self.overlays.values():
            for each in objects:
                if each["kind"] in FOREIGN:
                    continue
                for major, minor in versions:
                    validate(each, f"{major}.{minor}", strict=True)
                    checked += 1
        self.assertGreater(checked, 100)
        # It does look.
        wrong = next(each for each in self.overlays["tls"] if each["kind"] == "Service")
        with self.assertRaises(Exception):
            validate({**wrong, "spec": {**wrong["spec"], "sellector": {}}}, "%d.%d" % versions[-1], strict=True)

    def test_what_is_named_is_there(self):
        made = {each["metadata"]["name"]: keys(each) for each in secrets()}
        for objects, workload in self.each("StatefulSet"):
            named = {kind: {o["metadata"]["name"]: o for o in objects if o["kind"] == kind} for kind in ("ConfigMap", "Service", "ServiceAccount")}
            spec = workload["spec"]["template"]["spec"]
            self.assertIn(spec["serviceAccountName"], named["ServiceAccount"])
            headless = named["Service"][workload["spec"]["serviceName"]]
            self.assertEqual(headless["spec"]["clusterIP"], "None")
            volumes = {each["name"]: each for each in spec["volumes"]}
            claims = {each["metadata"]["name"] for each in workload["spec"]["volumeClaimTemplates"]}
            used = set()
            for container in containers(workload):
                for mount in container["volumeMounts"]:
                    self.assertIn(mount["name"], volumes.keys() | claims)
                    used.add(mount["name"])
                    volume = volumes.get(mount["name"], {})
                    if "configMap" in volume:
                        self.assertIn(mount["subPath"], keys(named["ConfigMap"][volume["configMap"]["name"]]))
                    if "secret" in volume:
                        there = made[volume["secret"]["secretName"]]
                        self.assertLessEqual({item["key"] for item in volume["secret"].get("items", [])}, there)
                ports = {each["name"] for each in container.get("ports", [])}
                for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                    if probe in container:
                        self.assertIn(container[probe]["httpGet"]["port"], ports)
            self.assertEqual(used, volumes.keys() | claims, "a volume that nobody mounts")

    def test_selectors_select_and_ports_are_open(self):
        for objects, each in self.each("Service", "PodDisruptionBudget", "NetworkPolicy", "PodMonitor"):
            spec = each["spec"]
            selector = spec.get("podSelector", spec.get("selector"))
            if "matchLabels" in selector:
                selector = selector["matchLabels"]
            pods = [o for o in objects if o["kind"] == "StatefulSet" and selector.items() <= o["spec"]["template"]["metadata"]["labels"].items()]
            self.assertTrue(pods, "it selects nothing")
            for pod in pods:
                ports = [port for container in containers(pod) for port in container.get("ports", [])]
                numbers = {port["containerPort"] for port in ports}
                self.assertEqual(len(numbers), len(ports), "two containers of a pod cannot share a port")
                if each["kind"] == "Service":
                    self.assertLessEqual({port["targetPort"] for port in spec["ports"]}, numbers)
                if each["kind"] == "NetworkPolicy":
                    self.assertLessEqual({port["port"] for rule in spec["ingress"] for port in rule["ports"]}, numbers)
                if each["kind"] == "PodMonitor":
                    self.assertLessEqual({end["port"] for end in spec["podMetricsEndpoints"]}, {port["name"] for port in ports})

    def test_pods_are_restricted(self):
        """As Kubernetes' Pod Security Standard `restricted` has it, and a root that cannot be written."""
        for _, workload in self.each("StatefulSet"):
            spec = workload["spec"]["template"]["spec"]
            self.assertEqual(spec["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
            self.assertIs(spec["securityContext"]["runAsNonRoot"], True)
            self.assertIs(spec["automountServiceAccountToken"], False)
            for container in containers(workload):
                context = container["securityContext"]
                self.assertIs(context["allowPrivilegeEscalation"], False)
                self.assertIs(context["readOnlyRootFilesystem"], True)
                self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
            self.assertIn("/tmp", {mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]})
            data = {mount["mountPath"]: mount for mount in spec["containers"][0]["volumeMounts"]}["/data"]
            is_replica = workload["metadata"]["name"] == "walcast-replica"
            self.assertEqual(data.get("readOnly", False), is_replica, "replicas are read, not written")

    def test_a_pod_has_the_time_that_its_end_takes(self):
        import yaml

        for objects, workload in self.each("StatefulSet"):
            role = workload["metadata"]["name"]
            config = next(o for o in objects if o["kind"] == "ConfigMap" and o["metadata"]["name"].startswith(role))
            drain = yaml.safe_load(config["data"]["walcast.yml"])["drain-timeout"]
            self.assertLess(int(drain.removesuffix("s")), workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])

    def test_configurations_are_ones(self):
        require(os.access(WALCAST, os.X_OK), f"{WALCAST} is missing; build it, or set WALCAST_BIN")
        for _, config in self.each("ConfigMap"):
            with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
                file.write(config["data"]["walcast.yml"])
                file.flush()
                line = [WALCAST, "config", "check", "--config", file.name]
                done = subprocess.run(line, capture_output=True, text=True, check=False, env={**os.environ, "POD_NAME": "walcast-primary-0"})
                self.assertEqual(done.returncode, 0, done.stderr)

    def test_the_archive_changes_nothing_else(self):
        import yaml

        def config(overlay):
            maps = [o for o in self.overlays[overlay] if o["kind"] == "ConfigMap" and o["metadata"]["name"].startswith("walcast-primary")]
            self.assertEqual(len(maps), 1)
            return yaml.safe_load(maps[0]["data"]["walcast.yml"])

        archive = config("archive")
        self.assertTrue(archive["dbs"][0].pop("archives"))
        self.assertEqual(archive, config("tls"))

    def test_alert_rules_are_those_of_the_repository(self):
        import yaml

        rule = next(each for each in self.overlays["monitoring"] if each["kind"] == "PrometheusRule")
        with open(os.path.join(ROOT, "deploy", "monitoring", "alerts.yml"), encoding="utf-8") as file:
            self.assertEqual(rule["spec"], yaml.safe_load(file))


class Running(unittest.TestCase):
    """The example application's overlay, as processes."""

    def setUp(self):
        needs_python_packages()
        require(os.access(WALCAST, os.X_OK), f"{WALCAST} is missing; build it, or set WALCAST_BIN")
        self.directory = tempfile.mkdtemp(prefix="walcast-pods-")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        here = [f"127.88.0.{number}" for number in range(1, 5)]
        names = ",".join(f"IP:{address}" for address in here)
        addresses = {"walcast-primary": here[0], "guestbook-writer": here[0]}
        cluster = Cluster(rendered("example-app") + secrets(names), addresses)
        self.primary = Pod(cluster, "walcast-primary", 0, self.directory, here[0])
        self.replicas = [Pod(cluster, "walcast-replica", n, self.directory, here[n + 1]) for n in range(3)]
        for pod in (self.primary, *self.replicas):
            self.addCleanup(pod.stop)

    def sign(self, pod, words):
        """Signs as a browser does; the page that it is led to."""
        form = urllib.parse.urlencode({"words": words}).encode()
        with urllib.request.urlopen(f"http://{pod.address}:8080/sign", form, timeout=30) as answer:
            self.assertIn("position=", answer.url)
            return answer.read().decode()

    def operator(self, pod, command, *more):
        """A command of docs/kubernetes.md, run in the pod."""
        etc = os.path.join(pod.root, "walcast", "etc", "walcast")
        port = pod.spec["initContainers"][0]["ports"][0]["containerPort"]
        line = [WALCAST, command, "--server", f"https://{pod.address}:{port}", "--tls-ca", f"{etc}/tls/ca.crt"]
        line += ["--token-file", f"{etc}/tokens/operator", *more]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_everyone_sees_what_they_have_written_through_restarts_of_every_pod(self):
        pods = [self.primary, *self.replicas]
        for pod in pods:
            pod.start()
        for pod in pods:
            pod.wait_ready()
        written = []

        def sign_everywhere(when):
            for pod in self.replicas:
                words = f"{when} <{pod.name}>"
                written.append(words)
                page = self.sign(pod, words)
                self.assertIn(words.replace("<", "&lt;").replace(">", "&gt;"), page)
                self.assertIn("read on", page)

        sign_everywhere("first")
        status = self.operator(self.primary, "status")
        for pod in self.replicas:
            self.assertIn(pod.name, status)
        for pod in pods:
            pod.stop()
            pod.start()
            pod.wait_ready()
            sign_everywhere(f"after {pod.name}")
        # With its volume a replica goes on where it was: the only snapshot was its first.
        for pod in self.replicas:
            self.assertEqual(pod.log().count('"receiving snapshot"'), 1, pod.log())
            self.assertGreaterEqual(pod.log().count('"follows":"Resume"'), 2, pod.log())
        # The primary dies; readers go on, and its replicas stay ready.
        self.primary.stop(signal.SIGKILL)
        for pod in self.replicas:
            self.assertTrue(pod.is_ready())
            with urllib.request.urlopen(f"http://{pod.address}:8080/", timeout=30) as answer:
                self.assertIn(f"after {pods[-1].name}", answer.read().decode())
        self.primary.start()
        self.primary.wait_ready()
        # A replica that loses its volume comes back by itself.
        lost = self.replicas[2]
        lost.stop(signal.SIGKILL)
        shutil.rmtree(lost.data)
        lost.new_volume()
        lost.start()
        lost.wait_ready()
        sign_everywhere("at last")
        for pod in pods:
            with sqlite3.connect(f"file:{pod.root}/data/app.db?mode=ro", uri=True) as db:
                self.assertEqual([row[0] for row in db.execute("SELECT words FROM entries ORDER BY id")], written)


if __name__ == "__main__":
    unittest.main()
