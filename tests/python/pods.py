"""Pods of a manifest as processes of this machine: each at a loopback address of its own, with the manifest's arguments,
files, environment, ports and probes. Users, limits and read-only mounts are not enforced here.
"""

import base64
import os
import re
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request

from servers import ROOT, WALCAST, poll

GUESTBOOK = [sys.executable, "-u", os.path.join(ROOT, "deploy", "example-app", "guestbook.py")]
# What an image's entry point is here.
IMAGES = {"walcast": [WALCAST], "guestbook": GUESTBOOK}


def values(of, key):
    """The bytes of a Secret's or ConfigMap's key."""
    if key in of.get("stringData", {}):
        return of["stringData"][key].encode()
    value = of["data"][key]
    return base64.b64decode(value) if of["kind"] == "Secret" else value.encode()


def keys(of):
    return set(of.get("data", {})) | set(of.get("stringData", {}))


class Pod:
    """Number `ordinal` of a StatefulSet. `named` maps the hosts of Services to addresses."""

    def __init__(self, cluster, name, ordinal, root, address):
        self.cluster = cluster
        workload = cluster.find("StatefulSet", name)
        self.name = f"{name}-{ordinal}"
        self.spec = workload["spec"]["template"]["spec"]
        self.root = os.path.join(root, self.name)
        self.address = address
        self.processes = {}
        os.makedirs(os.path.join(self.root, "data"), exist_ok=True)
        for container in self.containers():
            for mount in container["volumeMounts"]:
                self.mount(container, mount)

    def containers(self):
        return [*self.spec["initContainers"], *self.spec["containers"]]

    def here(self, container, text):
        """A text of the manifest, with this machine's paths and addresses."""
        for name, address in self.cluster.addresses.items():
            text = re.sub(rf"//{name}:", f"//{address}:", text)
        text = text.replace("0.0.0.0", self.address).replace("//localhost:", f"//{self.address}:")
        # All containers share /data; the rest is each one's own.
        text = re.sub(r"(?<![\w/])/data/", os.path.join(self.root, "data") + "/", text)
        return re.sub(r"(?<![\w/])/etc/", os.path.join(self.root, container["name"], "etc") + "/", text)

    def mount(self, container, mount):
        volume = next((each for each in self.spec["volumes"] if each["name"] == mount["name"]), {})
        target = os.path.join(self.root, container["name"], mount["mountPath"].lstrip("/"))
        if "secret" in volume:
            secret = self.cluster.find("Secret", volume["secret"]["secretName"])
            items = volume["secret"].get("items") or [{"key": key, "path": key} for key in keys(secret)]
            files = {os.path.join(target, item["path"]): values(secret, item["key"]) for item in items}
        elif "configMap" in volume:
            text = values(self.cluster.find("ConfigMap", volume["configMap"]["name"]), mount["subPath"]).decode()
            files = {target: self.here(container, text).encode()}
        else:
            return
        for path, content in files.items():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o640), "wb") as file:
                file.write(content)

    def start(self):
        """As the kubelet: each sidecar, until its startup probe says yes, then the application."""
        for container in self.containers():
            self.run(container)
            if "startupProbe" in container:
                poll(f"{self.name}/{container['name']} to start", lambda: self.probe(container, "startupProbe"))

    def run(self, container):
        image = container["image"].rsplit("/")[-1].split(":")[0]
        command = IMAGES[image] + [self.here(container, each) for each in container["args"]]
        fields = {"metadata.name": self.name}
        more = {e["name"]: fields[e["valueFrom"]["fieldRef"]["fieldPath"]] for e in container.get("env", [])}
        path = os.path.dirname(WALCAST) + os.pathsep + os.environ["PATH"]
        log = open(os.path.join(self.root, container["name"] + ".log"), "ab")
        self.processes[container["name"]] = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.root, env={**os.environ, "PATH": path, **more}
        )
        log.close()

    def log(self, container="walcast"):
        with open(os.path.join(self.root, container + ".log"), encoding="utf-8", errors="replace") as log:
            return log.read()

    def probe(self, container, kind):
        """Asks as the kubelet does: it does not look at certificates."""
        process = self.processes[container["name"]]
        assert process.poll() is None, f"{self.name}/{container['name']} ended:\n{self.log(container['name'])}"
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

    def wait_ready(self):
        poll(f"{self.name} to be ready", self.is_ready)

    def stop(self, how=signal.SIGTERM):
        """The application first, then its sidecar."""
        for name in reversed(list(self.processes)):
            process = self.processes.pop(name)
            if process.poll() is None:
                process.send_signal(how)
            process.wait(90)


class Cluster:
    """Objects, and where the hosts of their Services are."""

    def __init__(self, objects, addresses):
        self.objects = objects
        self.addresses = addresses

    def find(self, kind, name):
        return next(each for each in self.objects if (each["kind"], each["metadata"]["name"]) == (kind, name))
