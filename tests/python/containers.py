"""Containers of a pod as podman runs them, from the images that .ci/image builds, with everything that the manifest asks for:
users, groups, mounts, a root that cannot be written, capabilities, seccomp, memory limits, names by DNS.
"""

import os
import resource
import signal
import subprocess

from network import SEARCH
from servers import ROOT, require

# It knows where the images are.
PODMAN = os.environ.get("WALCAST_PODMAN", os.path.join(ROOT, "target", "ci-image", "podman"))
# No more than this process may have, or a container could not begin: podman's own are higher.
LIMITS = [
    f"--ulimit={name}={limit}:{limit}"
    for name, limit in (("nofile", resource.getrlimit(resource.RLIMIT_NOFILE)[1]), ("nproc", 4096))
]
MEMORY_1, MEMORY_2 = "/sys/fs/cgroup/memory", "/sys/fs/cgroup"


def needs_images():
    require(os.access(PODMAN, os.X_OK), f"{PODMAN} is missing: .ci/image builds the images")
    for image in ("localhost/walcast:0.1.0", "localhost/guestbook:0.1.0"):
        found = subprocess.run([PODMAN, "image", "exists", image], capture_output=True, check=False)
        require(found.returncode == 0, f"the image {image} is missing: .ci/image builds it")


def can_limit_memory():
    """Whether this machine has a memory controller that is ours to use."""
    if os.path.exists(os.path.join(MEMORY_2, "cgroup.controllers")):
        with open(os.path.join(MEMORY_2, "cgroup.controllers"), encoding="ascii") as file:
            return "memory" in file.read().split() and os.access(MEMORY_2, os.W_OK)
    return os.path.isdir(MEMORY_1) and os.access(MEMORY_1, os.W_OK)


def ask(*words):
    done = subprocess.run([PODMAN, *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"podman {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Container:
    """`podman run`, which lasts as long as what it runs and ends as that does."""

    def __init__(self, name, line, log):
        self.name = name
        self.process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def poll(self):
        return self.process.poll()

    def send_signal(self, how):
        words = ["kill", "--signal", str(int(how)), self.name]
        if subprocess.run([PODMAN, *words], capture_output=True, check=False).returncode != 0:
            # It has ended by itself, or has not begun.
            self.process.send_signal(signal.SIGTERM)

    def wait(self, limit):
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            subprocess.run([PODMAN, "rm", "--force", "--time", "0", self.name], capture_output=True, check=False)
            self.process.kill()
            self.process.wait()
            raise

    def exec(self, *command):
        return ask("exec", self.name, *command)

    def pid(self):
        return int(ask("inspect", "--format", "{{.State.Pid}}", self.name))

    def status(self):
        """What the kernel says of its first process."""
        with open(f"/proc/{self.pid()}/status", encoding="ascii", errors="replace") as file:
            return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)

    def memory(self):
        """Its limit, the most that it has used (with cached files), and how often something in it was killed for it."""
        with open(f"/proc/{self.pid()}/cgroup", encoding="ascii") as file:
            groups = {kind: path for _, kind, path in (line.rstrip("\n").split(":", 2) for line in file)}
        one = "memory" in groups
        directory = MEMORY_1 + groups["memory"] if one else MEMORY_2 + groups[""]

        def read(name):
            with open(os.path.join(directory, name), encoding="ascii") as file:
                return file.read()

        events = dict(line.split() for line in read("memory.oom_control" if one else "memory.events").splitlines())
        limit = read("memory.limit_in_bytes" if one else "memory.max")
        most = read("memory.max_usage_in_bytes" if one else "memory.peak")
        return int(limit), int(most), int(events["oom_kill"])


class Containers:
    """The way of a pod whose address is one of `network`."""

    def __init__(self, pod, network):
        self.pod = pod
        self.network = network
        self.count = 0

    def text(self, _container, text):
        return text

    def volume(self):
        self._own(self.pod.data, 0o2775)

    def file(self, volume, path):
        kind = volume.get("secret") or volume["configMap"]
        self._own(path, kind.get("defaultMode", 0o644))

    def _own(self, path, mode):
        """As the kubelet does it for fsGroup."""
        os.chown(path, 0, self.pod.spec["securityContext"]["fsGroup"])
        os.chmod(path, mode)

    def mounts(self, container):
        for mount in container["volumeMounts"]:
            volume = self.pod.volume(mount)
            read_only = mount.get("readOnly", False)
            if volume is None:
                source = self.pod.data
            elif "emptyDir" in volume:
                source = os.path.join(self.pod.root, "empty", volume["name"])
                os.makedirs(source, exist_ok=True)
                self._own(source, 0o2777)
            else:
                source, read_only = self.pod.path(container, mount["mountPath"]), True
            yield f"--volume={source}:{mount['mountPath']}:{'ro' if read_only else 'rw'}"

    def security(self, container):
        whole, own = self.pod.spec["securityContext"], container["securityContext"]
        both = {**whole, **own}
        assert both["runAsNonRoot"] and both["runAsUser"] != 0
        # Podman's default is what the manifest asks for, unless it is told otherwise.
        assert both["seccompProfile"] == {"type": "RuntimeDefault"}
        yield f"--user={both['runAsUser']}:{both['runAsGroup']}"
        yield f"--group-add={whole['fsGroup']}"
        for capability in own["capabilities"]["drop"]:
            yield f"--cap-drop={capability.lower()}"
        if own["readOnlyRootFilesystem"]:
            yield from ("--read-only", "--read-only-tmpfs=false")
        if not own["allowPrivilegeEscalation"]:
            yield "--security-opt=no-new-privileges"

    def resources(self, container):
        if can_limit_memory():
            yield f"--memory={container['resources']['limits']['memory'].replace('Mi', 'm').replace('Gi', 'g')}"
        else:
            print("\n##### this machine has no memory controller: limits are NOT enforced #####\n", flush=True)
            yield "--cgroups=disabled"

    def run(self, container, environment, log):
        self.count += 1
        name = f"{self.network.bridge}-{self.pod.name}-{container['name']}-{self.count}"
        network = self.network
        line = [PODMAN, "run", "--rm", "--pull=never", f"--name={name}", f"--hostname={self.pod.name}", "--log-driver=none"]
        line += [f"--network=ns:/run/netns/{network.namespace(self.pod.address)}", f"--dns={network.gateway}"]
        line += [*(f"--dns-search={each}" for each in SEARCH), "--dns-option=ndots:5"]
        # The kubelet does not look at an image's own health check.
        line += ["--no-healthcheck", *LIMITS, *self.security(container), *self.resources(container), *self.mounts(container)]
        line += [f"--env={key}={value}" for key, value in environment.items()]
        return Container(name, [*line, container["image"], *container["args"]], log)
