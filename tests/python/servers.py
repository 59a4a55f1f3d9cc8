"""walcast processes and their gRPC services, for the tests in this directory.

Nothing here is generated: messages come from the server's own reflection, so what is tested is what any client sees.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WALCAST = os.path.abspath(os.environ.get("WALCAST_BIN") or os.path.join(ROOT, "target", "debug", "walcast"))
DEADLINE = 60.0


def require(found, what):
    """Skips loudly where `found` is false; where nothing may be skipped that is a failure."""
    if found:
        return
    if os.environ.get("WALCAST_REQUIRE_ALL") == "1":
        raise AssertionError(f"SKIP is a failure here (WALCAST_REQUIRE_ALL=1): {what}")
    print(f"\n##### SKIPPED: {what} #####\n", file=sys.stderr)
    raise unittest.SkipTest(what)


try:
    import grpc
    from google.protobuf import message_factory
    from google.protobuf.descriptor_pool import DescriptorPool
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
except ImportError:
    grpc = None


def poll(what, check, limit=DEADLINE):
    """Asks `check` until it answers with something true."""
    end = time.monotonic() + limit
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"gave up after {limit} s waiting for {what}")
        time.sleep(0.01)


class Walcast:
    """One `walcast` process. Its output is in a file, shown if a start fails."""

    def __init__(self, directory, name, *arguments):
        self.name = name
        self.log_path = os.path.join(directory, name + ".log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [WALCAST, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory
            )

    def wait_until_it_listens(self):
        self.address = poll(f"{self.name} to listen", self._listening)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def _listening(self):
        for line in self.log().splitlines(keepends=True):
            if "listening on " in line and line.endswith("\n"):
                return line.split("listening on ")[1].split()[0]
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.log()}")
        return None

    def stop(self):
        """SIGTERM, and SIGKILL if that does not help."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Services:
    """The services of one server, by reflection."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        self._reflection = ProtoReflectionDescriptorDatabase(self.channel)
        self._pool = DescriptorPool(self._reflection)
        # The pool asks the server for files that it lacks, and takes each only once.
        self._lookup = threading.Lock()

    def names(self):
        return set(self._reflection.get_services())

    def methods(self, service):
        return {method.name for method in self._pool.FindServiceByName(service).methods}

    def call(self, service, method, /, timeout=DEADLINE, **fields):
        """Makes a call; a message for a unary answer, an iterator for a stream."""
        with self._lookup:
            described = self._pool.FindServiceByName(service).FindMethodByName(method)
            request = message_factory.GetMessageClass(described.input_type)(**fields)
        kind = self.channel.unary_stream if described.server_streaming else self.channel.unary_unary
        stub = kind(
            f"/{service}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=message_factory.GetMessageClass(described.output_type).FromString,
        )
        return stub(request, timeout=timeout)

    def position(self, method, **fields):
        return self.call("walcast.v1.PositionService", method, **fields)


class ServerTest(unittest.TestCase):
    """A test with a directory of its own, whose processes end with it."""

    def setUp(self):
        require(grpc is not None, "Python's grpcio and grpcio-reflection are missing")
        require(os.access(WALCAST, os.X_OK), f"{WALCAST} is missing; build it, or set WALCAST_BIN")
        self.directory = tempfile.mkdtemp(prefix="walcast-python-")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.directory, name)

    def start(self, name, *arguments):
        server = Walcast(self.directory, name, *arguments)
        self.addCleanup(server.stop)
        server.wait_until_it_listens()
        return server

    def services(self, server):
        services = Services(server.address)
        self.addCleanup(services.channel.close)
        return services

    def assert_fails(self, code, call, *words):
        """The call ends with the code, and says these words."""
        with self.assertRaises(grpc.RpcError) as caught:
            answer = call()
            # A streaming call fails when it is read.
            for _ in answer if hasattr(answer, "__next__") else ():
                pass
        self.assertEqual(caught.exception.code(), code, caught.exception.details())
        for word in words:
            self.assertIn(word, caught.exception.details())
