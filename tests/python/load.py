"""People at the guestbook, while something happens to its pods: some write, some read, and everything is noted."""

import http.client
import itertools
import json
import re
import threading
import urllib.error
import urllib.parse
import urllib.request

from servers import poll

PORT = 8080
_numbers = itertools.count(1)


class Writer(threading.Thread):
    """Writes numbers beside the primary, each once; `written` are those that were acknowledged, `tried` all."""

    def __init__(self, pod):
        super().__init__(daemon=True)
        self.url = f"http://{pod.address}:{PORT}/sign"
        self.tried, self.written = [], []
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.is_set():
            number = next(_numbers)
            self.tried.append(number)
            form = urllib.parse.urlencode({"words": f"{number:07}"}).encode()
            try:
                with urllib.request.urlopen(urllib.request.Request(self.url, form, {"Accept": "application/json"}), timeout=10) as answer:
                    json.load(answer)
                self.written.append(number)
            except (OSError, http.client.HTTPException, ValueError):
                # Nobody is there to write to, and nothing was promised.
                self.stopping.wait(0.05)

    def __enter__(self):
        self.start()
        self.wait_for_more(1)
        return self

    def wait_for_more(self, many=20):
        """Until so many more are acknowledged."""
        enough = len(self.written) + many
        poll(f"{many} more entries to be written", lambda: len(self.written) >= enough)

    def __exit__(self, *_):
        self.stopping.set()
        self.join()


class Reader(threading.Thread):
    """Reads one pod's guestbook all the time: each answer is a page, and none is older than the one before."""

    def __init__(self, pod):
        super().__init__(daemon=True)
        self.pod = pod
        self.pages, self.newest, self.wrong = 0, 0, []
        self.stopping = threading.Event()
        # Held while asking, and by whoever takes the pod out of its Service.
        self.asking = threading.Lock()

    def run(self):
        while not self.stopping.wait(0.01):
            with self.asking:
                try:
                    with urllib.request.urlopen(f"http://{self.pod.address}:{PORT}/", timeout=10) as answer:
                        self.look(answer.read().decode())
                except urllib.error.HTTPError as error:
                    self.wrong.append(f"{self.pod.name}: {error.code} {error.read().decode()}")
                except (OSError, http.client.HTTPException) as error:
                    self.wrong.append(f"{self.pod.name}: {error}")

    def look(self, page):
        numbers = [int(each) for each in re.findall(r"<li>(\d{7})</li>", page)]
        self.pages += 1
        if any(newer <= older for newer, older in zip(numbers, numbers[1:])):
            self.wrong.append(f"{self.pod.name}: out of order: {numbers}")
        newest = max(numbers, default=0)
        if newest < self.newest:
            self.wrong.append(f"{self.pod.name}: {newest} after {self.newest}")
        self.newest = newest


class Readers:
    """One for each pod."""

    def __init__(self, pods):
        self.all = {pod.name: Reader(pod) for pod in pods}

    def __enter__(self):
        for reader in self.all.values():
            reader.start()
        self.wait_for_more()
        return self

    def wait_for_more(self, many=3):
        for name, reader in self.all.items():
            enough = reader.pages + many
            poll(f"{many} more pages of {name}", lambda: reader.pages >= enough or reader.wrong)

    def without(self, pod):
        """Nobody is sent to the pod in the meantime, as a Service does it: `with` this."""
        return self.all[pod.name].asking

    def __exit__(self, *_):
        for reader in self.all.values():
            reader.stopping.set()
        for reader in self.all.values():
            reader.join()

    def wrong(self):
        return [each for reader in self.all.values() for each in reader.wrong]
