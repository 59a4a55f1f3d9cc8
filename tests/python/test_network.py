"""What a killed test leaves of its network is taken away by the next one, and nothing else is."""

import os
import subprocess
import sys
import unittest

from network import ip, needs_network, owner, remove_left


def dead_pid():
    """Of a process that has just ended: nobody has it again so soon."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


class Left(unittest.TestCase):
    def network(self, name):
        """A bridge and a namespace on it, as `Network` makes them."""
        ip("link", "add", name, "type", "bridge")
        self.addCleanup(subprocess.run, ["ip", "link", "delete", name], capture_output=True, check=False)
        ip("netns", "add", f"{name}-2")
        self.addCleanup(subprocess.run, ["ip", "netns", "delete", f"{name}-2"], capture_output=True, check=False)
        ip("link", "add", f"{name}-1", "type", "veth", "peer", "name", "eth0", "netns", f"{name}-2")
        ip("link", "set", f"{name}-1", "master", name, "up")

    def there(self, name):
        links = ip("-oneline", "link", "show", "type", "bridge")
        return f" {name}:" in links, f"{name}-2" in ip("netns", "list").split()

    def test_what_a_killed_test_left_is_taken_away(self):
        needs_network()
        gone, here, other = f"wc{dead_pid()}", f"wc{os.getpid()}", "wcx1"
        for name in (gone, here, other):
            self.network(name)
            self.assertEqual(self.there(name), (True, True), name)
        remove_left()
        self.assertEqual(self.there(gone), (False, False))
        self.assertEqual(self.there(here), (True, True), "its test runs")
        self.assertEqual(self.there(other), (True, True), "nobody's here")

    def test_only_names_of_this_suite_have_an_owner(self):
        self.assertEqual(owner("wc123"), 123)
        self.assertEqual(owner("wc123-4"), 123)
        for name in ("", "wc", "wc12x", "docker0", "wc1-2-3", "xwc1"):
            self.assertIsNone(owner(name), name)


if __name__ == "__main__":
    unittest.main()
