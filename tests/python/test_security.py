"""TLS, tokens and client certificates with grpcio, which brings a TLS of its own (BoringSSL)."""

import os
import shutil
import sqlite3
import subprocess
import unittest

from servers import ServerTest, grpc, poll, require

TOKEN = "a-token-of-the-python-tests-0123456789"
KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
# GetPosition { database: "app.db" }, by hand: reflection is guarded, too.
REQUEST = b"\x0a\x06app.db"


class Secure(ServerTest):
    def setUp(self):
        super().setUp()
        require(shutil.which("openssl"), "openssl is missing")
        self.openssl("req", "-x509", *KEY, "-days", "9", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
        self.sign("server", "DNS:localhost", "serverAuth")
        self.sign("client", "DNS:client.example", "clientAuth")
        with open(self.path("token"), "w", encoding="ascii") as token:
            token.write(TOKEN + "\n")
        app = sqlite3.connect(self.path("app.db"), isolation_level=None)
        self.addCleanup(app.close)
        app.execute("PRAGMA journal_mode=WAL")
        app.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")

    def openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)

    def sign(self, name, names, usage):
        self.openssl("req", "-new", *KEY, "-subj", "/CN=x", "-addext", f"subjectAltName={names}",
                     "-addext", f"extendedKeyUsage={usage}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                     "-days", "9", "-copy_extensions", "copy", "-out", f"{name}.pem")

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def start_primary(self, *security):
        server = self.start("primary", "primary", "--db", "app.db", "--listen", "127.0.0.1:0",
                            "--tls-cert", "server.pem", "--tls-key", "server.key", *security)
        return "localhost:" + server.address.rsplit(":", 1)[1]

    def call(self, address, method="/walcast.v1.PositionService/GetPosition", certificate=False, token=None):
        pair = {}
        if certificate:
            pair = {"private_key": self.read("client.key"), "certificate_chain": self.read("client.pem")}
        credentials = grpc.ssl_channel_credentials(root_certificates=self.read("ca.pem"), **pair)
        if token:
            credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(token))
        with grpc.secure_channel(address, credentials) as channel:
            return channel.unary_unary(method)(REQUEST, timeout=30)

    def position(self, address, **how):
        """Until the primary has one."""

        def ask():
            try:
                return self.call(address, **how)
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
                return None

        return poll("a position", ask)


class Tokens(Secure):
    def test_a_token_over_tls(self):
        address = self.start_primary("--access-token-file", "token")
        self.assertRegex(self.position(address, token=TOKEN), rb"[0-9a-f]{16}/[0-9a-f]{16}:[0-9a-f]{16}")
        self.assert_fails(grpc.StatusCode.UNAUTHENTICATED, lambda: self.call(address), "token")
        self.assert_fails(grpc.StatusCode.UNAUTHENTICATED, lambda: self.call(address, token="wrong"), "not known")
        reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        self.assert_fails(grpc.StatusCode.UNAUTHENTICATED, lambda: self.call(address, method=reflection))
        # Health is for everyone, and shows a change soon.
        health = "/grpc.health.v1.Health/Check"
        poll("SERVING", lambda: self.call(address, method=health) == b"\x08\x01")

    def test_plaintext_finds_nothing(self):
        address = self.start_primary()
        with grpc.insecure_channel(address) as channel:
            call = channel.unary_unary("/walcast.v1.PositionService/GetPosition")
            self.assert_fails(grpc.StatusCode.UNAVAILABLE, lambda: call(REQUEST, timeout=30))


class Certificates(Secure):
    def test_mutual_tls(self):
        address = self.start_primary("--tls-client-ca", "ca.pem")
        self.assertIn(b"/", self.position(address, certificate=True))
        self.assert_fails(grpc.StatusCode.UNAUTHENTICATED, lambda: self.call(address), "client certificate")
        # One of another authority does not get past the handshake.
        os.rename(self.path("ca.pem"), self.path("right.pem"))
        self.openssl("req", "-x509", *KEY, "-days", "9", "-subj", "/CN=other", "-keyout", "ca.key", "-out", "ca.pem")
        self.sign("client", "DNS:client.example", "clientAuth")
        os.replace(self.path("right.pem"), self.path("ca.pem"))
        self.assert_fails(grpc.StatusCode.UNAVAILABLE, lambda: self.call(address, certificate=True))


if __name__ == "__main__":
    unittest.main()
