"""A network of pods: a namespace for each, on a bridge that this process is on as well, and a name server as a cluster has it.

There is no way out of it, so that a pod which asks for anything else is seen to.
"""

import json
import os
import re
import shutil
import socket
import struct
import subprocess
import threading

from servers import require

# As the kubelet writes them into a pod's resolv.conf.
SEARCH = ("default.svc.cluster.local", "svc.cluster.local", "cluster.local")
A, AAAA = 1, 28
NAME_ERROR = 3


def needs_network():
    have = os.geteuid() == 0 and shutil.which("ip") and shutil.which("iptables")
    require(have, "network namespaces need root, and Debian's iproute2 and iptables")


def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"ip {' '.join(words)}: {done.stderr}")
    return done.stdout


def remove_left():
    """Takes away what tests have left that were killed: namespaces and bridges with the pid of a process that is gone."""
    listed = json.loads(ip("-json", "netns", "list") or "[]")
    for name in [each["name"] for each in listed]:
        if owner(name) is not None and not is_alive(owner(name)):
            # With it goes its end of the link, and with that the other.
            ip("netns", "delete", name)
    for link in json.loads(ip("-json", "link", "show", "type", "bridge") or "[]"):
        # A list of another type holds an empty object for each.
        name = link.get("ifname", "")
        if owner(name) is not None and not is_alive(owner(name)):
            ip("link", "delete", name)


def owner(name):
    """The pid in a name that `Network` gives; None for any other name."""
    found = re.fullmatch(r"wc(\d+)(-\d+)?", name)
    return int(found[1]) if found else None


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OverflowError:
        return False
    except PermissionError:
        pass
    return True


class NameServer(threading.Thread):
    """Answers for Services of the namespace `default` over UDP; remembers who has asked for what."""

    def __init__(self, address, names):
        super().__init__(daemon=True)
        self.names = {f"{name}.{SEARCH[0]}": each for name, each in names.items()}
        self.asked = set()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 53))
        self.start()

    def run(self):
        while True:
            try:
                question, sender = self.socket.recvfrom(4096)
            except OSError:
                return
            if len(question) > 12:
                self.socket.sendto(self.answer(question, sender[0]), sender)

    def answer(self, question, sender):
        """RFC 1035, 4.1: the header, the question as it came, and at most one address."""
        at, labels = 12, []
        while question[at]:
            labels.append(question[at + 1 : at + 1 + question[at]].decode("ascii", "replace"))
            at += 1 + question[at]
        name = ".".join(labels).lower()
        (kind,) = struct.unpack("!H", question[at + 1 : at + 3])
        self.asked.add((sender, name))
        found = self.names.get(name)
        answers = [found] if found and kind == A else []
        # It is an answer, by who is responsible, to a question that may be asked on.
        flags = 0x8580 | (0 if found else NAME_ERROR)
        text = question[:2] + struct.pack("!HHHHH", flags, 1, len(answers), 0, 0) + question[12 : at + 5]
        for address in answers:
            text += struct.pack("!HHHIH", 0xC00C, A, 1, 5, 4) + socket.inet_aton(address)
        return text

    def close(self):
        # Closing alone would leave it waiting.
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()


class Network:
    def __init__(self, test):
        """`test` ends it: a test case, or its class."""
        needs_network()
        clean = getattr(test, "addClassCleanup", None) if isinstance(test, type) else test.addCleanup
        self.clean = clean
        remove_left()
        number = os.getpid() % 250
        self.bridge = f"wc{os.getpid()}"
        self.prefix = f"10.213.{number}."
        self.gateway = self.prefix + "1"
        self.count = 0
        ip("link", "add", self.bridge, "type", "bridge")
        clean(ip, "link", "delete", self.bridge)
        ip("address", "add", self.gateway + "/24", "dev", self.bridge)
        ip("link", "set", self.bridge, "up")

    def serve_names(self, names):
        self.names = NameServer(self.gateway, names)
        self.clean(self.names.close)

    def add(self):
        """A namespace with an address; the address."""
        self.count += 1
        address = f"{self.prefix}{self.count + 1}"
        namespace, link = self.namespace(address), f"{self.bridge}-{self.count}"
        ip("netns", "add", namespace)
        # With the namespace its link goes.
        self.clean(ip, "netns", "delete", namespace)
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        ip("link", "set", link, "master", self.bridge, "up")
        ip("-n", namespace, "link", "set", "lo", "up")
        ip("-n", namespace, "address", "add", address + "/24", "dev", "eth0")
        ip("-n", namespace, "link", "set", "eth0", "up")
        return address

    def namespace(self, address):
        return f"{self.bridge}-{address.rsplit('.')[-1]}"

    def _rules(self, action, address, other):
        for chain, side in (("INPUT", "--source"), ("OUTPUT", "--destination")):
            rule = ["iptables", "-w", action, chain, side, other, "--jump", "DROP"]
            ip("netns", "exec", self.namespace(address), *rule)

    def cut(self, address, other):
        """From now on nothing passes between the two, and neither is told."""
        self._rules("-A", address, other)

    def mend(self, address, other):
        self._rules("-D", address, other)
