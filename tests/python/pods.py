"""Pods of a manifest on this machine, with the manifest's own arguments, files, environment, ports and probes.

How a container runs is the pod's `way`: as a process at a loopback address of its own (here), where users, limits and
read-only mounts are not enforced; or as a real container (containers.py), where they are.
"""

import os
import re
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request

from manifests import keys, values
from servers import ROOT, WALCAST, poll

GUESTBOOK = [sys.executable, "-u", os.path.join(ROOT, "deploy", "example-app", "guestbook.py")]
# What an image's entry point is here.
IMAGES = {"walcast": [WALCAST], "guestbook": GUESTBOOK}


class Processes:
    """Containers as processes: paths and addresses of the manifest become those of this machine."""

    def __init__(self, pod):
        self.pod = pod

    def text(self, container, text):
        for name, address in self.pod.cluster.addresses.items():
            text = re.sub(rf"//{name}:", f"//{address}:", text)
        text = text.replace("0.0.0.0", self.pod.address).replace("//localhost:", f"//{self.pod.address}:")
        # All containers share /data; the rest is each one's own.
        text = re.sub(r"(?<![\w/])/data/", self.pod.data + "/", text)
        return re.sub(r"(?<![\w/])/etc/", self.pod.path(container, "/etc") + "/", text)

    def volume(self):
        """Makes the pod's volume its own."""

    def file(self, volume, path):
        """Makes a file of a Secret or a ConfigMap the pod's own."""
        os.chmod(path, 0o640)

    def run(self, container, environment, log):
        """Something with `poll`, `send_signal` and `wait`."""
        image = container["image"].rsplit("/")[-1].split(":")[0]
        command = IMAGES[image] + [self.text(container, each) for each in container["args"]]
        path = os.path.dirname(WALCAST) + os.pathsep + os.environ["PATH"]
        environment = {**os.environ, "PATH": path, **environment}
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.pod.root, env=environment)


class Pod:
    """Number `ordinal` of a StatefulSet."""

    def __init__(self, cluster, name, ordinal, root, address, way=Processes):
        self.cluster = cluster
        workload = cluster.find("StatefulSet", name)
        self.name = f"{name}-{ordinal}"
        self.spec = workload["spec"]["template"]["spec"]
        self.root = os.path.join(root, self.name)
        self.data = os.path.join(self.root, "data")
        self.address = address
        self.running = {}
        self.way = way(self)
        self.new_volume()
        for container in self.containers():
            for mount in container["volumeMounts"]:
                self.fill(container, mount)

    def containers(self):
        return [*self.spec["initContainers"], *self.spec["containers"]]

    def container(self, name):
        return next(each for each in self.containers() if each["name"] == name)

    def path(self, container, path):
        """Where a container's own path is on this machine."""
        return os.path.join(self.root, container["name"], path.lstrip("/"))

    def volume(self, mount):
        """The pod's volume of a mount; None if it is a claim's."""
        return next((each for each in self.spec["volumes"] if each["name"] == mount["name"]), None)

    def new_volume(self):
        """An empty volume, as a new claim has it."""
        os.makedirs(self.data)
        self.way.volume()

    def fill(self, container, mount):
        """The files of a Secret or a ConfigMap."""
        volume = self.volume(mount) or {}
        target = self.path(container, mount["mountPath"])
        if "secret" in volume:
            secret = self.cluster.find("Secret", volume["secret"]["secretName"])
            items = volume["secret"].get("items") or [{"key": key, "path": key} for key in keys(secret)]
            files = {os.path.join(target, item["path"]): values(secret, item["key"]) for item in items}
        elif "configMap" in volume:
            text = values(self.cluster.find("ConfigMap", volume["configMap"]["name"]), mount["subPath"]).decode()
            files = {target: self.way.text(container, text).encode()}
        else:
            return
        for path, content in files.items():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
            self.way.file(volume, path)

    def start(self):
        """As the kubelet: each sidecar, until its startup probe says yes, then the application."""
        for container in self.containers():
            self.run(container)
            if "startupProbe" in container:
                poll(f"{self.name}/{container['name']} to start", lambda: self.probe(container, "startupProbe"))

    def run(self, container):
        fields = {"metadata.name": self.name}
        environment = {e["name"]: fields[e["valueFrom"]["fieldRef"]["fieldPath"]] for e in container.get("env", [])}
        with open(os.path.join(self.root, container["name"] + ".log"), "ab") as log:
            self.running[container["name"]] = self.way.run(container, environment, log)

    def log(self, container="walcast"):
        with open(os.path.join(self.root, container + ".log"), encoding="utf-8", errors="replace") as log:
            return log.read()

    def probe(self, container, kind):
        """Asks as the kubelet does: it does not look at certificates."""
        ended = self.running[container["name"]].poll()
        assert ended is None, f"{self.name}/{container['name']} ended with {ended}:\n{self.log(container['name'])}"
        get = container[kind]["httpGet"]
        port = next(each["containerPort"] for each in container["ports"] if each["name"] == get["port"])
        scheme = get.get("scheme", "HTTP").lower()
        trusting = ssl._create_unverified_context() if scheme == "https" else None
        try:
            with urllib.request.urlopen(f"{scheme}://{self.address}:{port}{get['path']}", timeout=5, context=trusting) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def is_ready(self):
        return all(self.probe(each, "readinessProbe") for each in self.containers())

    def is_alive(self):
        return all(self.probe(each, "livenessProbe") for each in self.containers() if "livenessProbe" in each)

    def wait_ready(self, **limit):
        poll(f"{self.name} to be ready", self.is_ready, **limit)

    def stop(self, how=signal.SIGTERM):
        """The application first, then its sidecar."""
        for name in reversed(list(self.running)):
            container = self.running.pop(name)
            if container.poll() is None:
                container.send_signal(how)
            container.wait(90)


class Cluster:
    """Objects, and where the hosts of their Services are."""

    def __init__(self, objects, addresses):
        self.objects = objects
        self.addresses = addresses

    def find(self, kind, name):
        return next(each for each in self.objects if (each["kind"], each["metadata"]["name"]) == (kind, name))
