#!/usr/bin/env python3
"""A guestbook: it writes beside the primary, reads beside replicas, and shows everyone what they have just written.

Beside the primary (`--db FILE --walcast URL`) it takes entries. Beside a replica (`--writer URL` as well) it hands entries on
to there, gets back the position of the commit, and waits until its own copy has reached that before it shows the page. All
with Python's standard library and the `walcast` program.
"""

import argparse
import html
import http.server
import json
import os
import signal
import sqlite3
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request

LONGEST = 2000
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Guestbook</title>
<style>body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto; padding: 0 1rem }}
li {{ margin: .5rem 0 }} small {{ color: #555 }}</style>
<h1>Guestbook</h1>
<form method="post" action="/sign"><label>Your words <input name="words" maxlength="{longest}" required autofocus></label>
<button>Sign</button></form>
<p><small>{note}</small></p>
<ol reversed>{entries}</ol></html>
"""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--db", required=True, help="the database's file")
    parser.add_argument("--walcast", required=True, metavar="URL", help="the walcast beside this, such as https://localhost:4040")
    parser.add_argument("--name", default="app.db", help="the database's name there (default: %(default)s)")
    parser.add_argument("--writer", metavar="URL", help="the guestbook beside the primary; without it, this is that one")
    parser.add_argument("--token-file", help="our token for walcast")
    parser.add_argument("--tls-ca", help="who signed walcast's certificate, PEM")
    parser.add_argument("--listen", default="127.0.0.1:8080", metavar="ADDRESS:PORT", help="(default: %(default)s)")
    return parser.parse_args()


class Book:
    """The database, and the walcast that knows its position."""

    def __init__(self, args):
        self.args = args
        self.here = os.uname().nodename
        if not args.writer:
            with self.open() as db:
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("CREATE TABLE IF NOT EXISTS entries(id INTEGER PRIMARY KEY, words TEXT NOT NULL)")

    def open(self):
        mode = "ro" if self.args.writer else "rwc"
        return sqlite3.connect(f"file:{urllib.parse.quote(self.args.db)}?mode={mode}", uri=True, timeout=5)

    def entries(self):
        db = self.open()
        try:
            return [row[0] for row in db.execute("SELECT words FROM entries ORDER BY id DESC LIMIT 100")]
        finally:
            db.close()

    def sign(self, words):
        """Commits, and gives the position that a reader has to reach to see it, or None."""
        if self.args.writer:
            form = urllib.parse.urlencode({"words": words}).encode()
            request = urllib.request.Request(self.args.writer + "/sign", form, {"Accept": "application/json"})
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)["position"]
        db = self.open()
        try:
            with db:
                db.execute("INSERT INTO entries(words) VALUES (?)", (words,))
        finally:
            db.close()
        return self.walcast("position")

    def wait(self, position):
        return self.walcast("wait", "--position", position, "--max-wait", "2s") is not None

    def walcast(self, command, *more):
        """What it prints; None if it fails."""
        line = ["walcast", command, "--server", self.args.walcast, "--db", self.args.name, *more]
        for option in ("token_file", "tls_ca"):
            if value := getattr(self.args, option):
                line += ["--" + option.replace("_", "-"), value]
        done = subprocess.run(line, capture_output=True, text=True, timeout=10)
        if done.returncode != 0:
            print(done.stderr, end="", flush=True)
            return None
        return done.stdout.strip()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def answer(self, status, text, kind="text/html; charset=utf-8", **headers):
        body = text.encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        book = self.server.book
        url = urllib.parse.urlsplit(self.path)
        try:
            if url.path == "/healthz":
                book.entries()
                return self.answer(200, "ok\n", "text/plain")
            if url.path != "/":
                return self.answer(404, "there is only /\n", "text/plain")
            position = urllib.parse.parse_qs(url.query).get("position", [None])[0]
            note = f"read on {html.escape(book.here)}"
            if position and book.args.writer and not book.wait(position):
                note += ", which has not reached your entry yet: it appears soon"
            entries = "".join(f"<li>{html.escape(words)}</li>" for words in book.entries())
            self.answer(200, PAGE.format(note=note, entries=entries, longest=LONGEST))
        except sqlite3.OperationalError as error:
            # The copy is still being made.
            self.answer(503, f"{error}\n", "text/plain", **{"Retry-After": "1"})

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        if self.path != "/sign" or not 0 < length <= 4 * LONGEST:
            self.close_connection = True
            return self.answer(400, "send an entry to /sign\n", "text/plain")
        words = urllib.parse.parse_qs(self.rfile.read(length).decode(errors="replace")).get("words", [""])[0][:LONGEST]
        if not words.strip():
            return self.answer(400, "an entry needs words\n", "text/plain")
        try:
            position = self.server.book.sign(words)
        except (sqlite3.OperationalError, urllib.error.URLError, TimeoutError) as error:
            return self.answer(503, f"not written: {error}\n", "text/plain", **{"Retry-After": "1"})
        if "application/json" in self.headers.get("Accept", ""):
            return self.answer(200, json.dumps({"position": position}), "application/json")
        query = "?" + urllib.parse.urlencode({"position": position}) if position else ""
        self.answer(303, "", Location="/" + query)


def main():
    args = arguments()
    address, port = args.listen.rsplit(":", 1)
    server = http.server.ThreadingHTTPServer((address, int(port)), Handler)
    server.book = Book(args)
    # As the first process of a container it would not be ended by a signal that nobody handles.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"guestbook on http://{address}:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
