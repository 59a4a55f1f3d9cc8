"""A bucket behind moto's S3 server, and a door before it that can fail in each way that a bucket does."""

import base64
import email.utils
import hashlib
import hmac
import http.client
import os
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.parse
import xml.etree.ElementTree
from http.server import BaseHTTPRequestHandler

from servers import poll

NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Door(socketserver.ThreadingTCPServer):
    """Passes requests on to a port while `mode` is "ok"; else 500, 503, "hang", "refuse", or "cut": of each object no more
    than a MiB comes before the connection ends.
    """

    CUT = 1 << 20

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port):
        super().__init__(("127.0.0.1", 0), Handler)
        self.port = port
        self.mode = "ok"
        self.failed = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """Whoever hangs up meanwhile is no mistake."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one_request(self):
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        mode = self.server.mode
        if mode not in ("ok", "cut"):
            self.server.failed += 1
        if mode == "hang":
            while self.server.mode == "hang":
                time.sleep(0.05)
            self.close_connection = True
        elif mode == "refuse":
            self.close_connection = True
        elif mode in ("ok", "cut"):
            self.pass_on(body, mode == "cut" and self.command == "GET")
        else:
            self.answer(mode, [], b"<Error><Code>SlowDown</Code></Error>")

    def pass_on(self, body, is_cut=False):
        backend = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        headers = dict(self.headers.items())
        backend.request(self.command, self.path, body, headers)
        answer = backend.getresponse()
        content = answer.read()
        if is_cut and len(content) > self.server.CUT:
            self.server.failed += 1
            self.answer(answer.status, answer.getheaders(), content, self.server.CUT)
            self.close_connection = True
        else:
            self.answer(answer.status, answer.getheaders(), content)
        backend.close()

    def answer(self, status, headers, content, end=None):
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        length = dict((n.lower(), v) for n, v in headers).get("content-length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:end])

    def log_message(self, *_):
        pass


class Bucket:
    """moto in a process of its own, with one bucket named `bucket`."""

    def __init__(self, directory):
        self.port = free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        with open(os.path.join(directory, "moto.log"), "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        poll("moto to answer", lambda: self._try("PUT", "/bucket"))

    def _try(self, method, path):
        try:
            return self.call(method, path)[0] == 200
        except OSError:
            return False

    def call(self, method, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, headers={"Authorization": "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request"})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content

    def names(self, prefix):
        """All objects below a prefix."""
        found, token = [], None
        while True:
            query = {"list-type": "2", "prefix": prefix} | ({"continuation-token": token} if token else {})
            _, content = self.call("GET", "/bucket?" + urllib.parse.urlencode(query))
            tree = xml.etree.ElementTree.fromstring(content)
            found += [key.text for key in tree.iter(NAMESPACE + "Key")]
            token = tree.findtext(NAMESPACE + "NextContinuationToken")
            if not token:
                return sorted(found)

    def download(self, prefix, directory):
        """Copies the objects to files."""
        for name in self.names(prefix):
            status, content = self.call("GET", "/bucket/" + urllib.parse.quote(name))
            assert status == 200, (name, status)
            path = os.path.join(directory, name[len(prefix):])
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(content)

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Container:
    """azurite in a process of its own, with one container named `bucket` that everyone may read."""

    ACCOUNT = "devstoreaccount1"
    # The one that all emulators of Azure's storage have, by its documentation.
    KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

    def __init__(self, directory, program):
        self.port = free_port()
        command = [
            program, "--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--silent", "--skipApiVersionCheck",
            "--inMemoryPersistence",
        ]
        with open(os.path.join(directory, "azurite.log"), "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        poll("azurite to answer", self._create)

    def _create(self):
        """Makes the container; the only request here that has to be signed."""
        date = email.utils.formatdate(usegmt=True)
        headers = {"x-ms-blob-public-access": "container", "x-ms-date": date, "x-ms-version": "2021-08-06"}
        lines = ["PUT", *[""] * 11, *[f"{name}:{value}" for name, value in headers.items()]]
        text = "\n".join([*lines, f"/{self.ACCOUNT}/{self.ACCOUNT}/bucket", "restype:container"])
        digest = hmac.new(base64.b64decode(self.KEY), text.encode(), hashlib.sha256).digest()
        headers["Authorization"] = f"SharedKey {self.ACCOUNT}:{base64.b64encode(digest).decode()}"
        try:
            status, content = self.call("PUT", "/bucket?restype=container", headers)
        except OSError:
            return False
        assert status == 201, content
        return True

    def call(self, method, path, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, f"/{self.ACCOUNT}{path}", headers={"Content-Length": "0"} | (headers or {}))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content

    def names(self, prefix):
        found, marker = [], ""
        while True:
            query = {"restype": "container", "comp": "list", "prefix": prefix, "marker": marker}
            status, content = self.call("GET", "/bucket?" + urllib.parse.urlencode(query), {"x-ms-version": "2021-08-06"})
            assert status == 200, content
            tree = xml.etree.ElementTree.fromstring(content)
            found += [name.text for name in tree.iter("Name")]
            marker = tree.findtext("NextMarker")
            if not marker:
                return sorted(found)

    download = Bucket.download
    stop = Bucket.stop
