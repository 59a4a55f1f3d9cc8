"""An application whose checkpoints walcast must not hold up, slowed down where the two could miss each other."""

import shutil
import sqlite3
import subprocess
import sys
import unittest

from servers import ServerTest, grpc, poll, require

APPLICATION = """
import sqlite3
app = sqlite3.connect('app.db', isolation_level=None, timeout=1)
app.execute('PRAGMA wal_autocheckpoint=0')
for kind in ('TRUNCATE', 'RESTART') * 3:
    app.execute('INSERT INTO t VALUES (1)')
    app.execute('PRAGMA wal_checkpoint(PASSIVE)').fetchall()
    print(kind, *app.execute(f'PRAGMA wal_checkpoint({kind})').fetchone())
"""


class Checkpoints(ServerTest):
    def test_a_restart_succeeds_after_a_checkpoint_that_lets_go_late(self):
        require(shutil.which("strace") is not None, "strace is missing")
        app = sqlite3.connect(self.path("app.db"), isolation_level=None)
        self.addCleanup(app.close)
        app.execute("PRAGMA journal_mode=WAL")
        app.execute("CREATE TABLE t (x)")
        services = self.services(self.start("primary", "primary", "--db", "app.db", "--listen", "127.0.0.1:0"))

        def is_captured():
            try:
                return services.position("GetPosition", database="app.db").position
            except grpc.RpcError:
                return None

        poll("the primary to capture", is_captured)
        # Each lock is given back 5 ms late: so walcast looks while a checkpoint has said that it has copied everything,
        # and still holds the lock under which it did.
        slow = ["strace", "-f", "-o", self.path("strace"), "-e", "trace=fcntl", "-e", "inject=fcntl:delay_enter=5000"]
        done = subprocess.run(
            [*slow, sys.executable, "-c", APPLICATION], cwd=self.directory, capture_output=True, text=True,
            timeout=120, check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        answers = done.stdout.splitlines()
        self.assertEqual(len(answers), 6)
        for answer in answers:
            self.assertEqual(answer.split()[1], "0", f"busy for a second: {answers}")


if __name__ == "__main__":
    unittest.main()
