"""A standby of PostgreSQL: it is refused as a database, and serves the store once it is the primary one."""

import subprocess
import tempfile
import unittest
from pathlib import Path

from .cluster import Postgres, Standby
from .rest import Rest
from .server import Server, binary, environment

SECONDS = 60


class Standbys(unittest.TestCase):
    """A store whose database has a standby."""

    def test_a_standby_is_refused_until_it_is_promoted(self) -> None:
        """The start says so in one line and leaves nothing. After the failover the store is there."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="imagestore-")))
        folder.chmod(0o755)
        primary = Postgres(folder / "primary")
        self.addCleanup(primary.stop)
        data = folder / "data"
        server = Server(data, "--database", primary.url)
        self.addCleanup(server.kill)
        rest = Rest(server.url)
        rest.put("a/f", b"f")
        rest.close()
        server.stop()
        standby = Standby(folder / "standby", primary)
        self.addCleanup(standby.stop)

        done = subprocess.run(
            [binary(), "serve", "--listen", "127.0.0.1:0", "--data", str(folder / "new"), "--database", standby.url],
            env=environment(), capture_output=True, encoding="utf-8", check=False, timeout=SECONDS,
        )
        self.assertEqual(done.returncode, 1, done.stderr)
        (line,) = (line for line in done.stderr.splitlines() if line.startswith("imagestore: "))
        self.assertIn("the database is a standby, or recovers, and takes no writes; name the primary one", line)
        self.assertFalse((folder / "new").exists())

        standby.promote()
        again = Server(data, "--database", standby.url)
        self.addCleanup(again.kill)
        rest = Rest(again.url)
        self.addCleanup(rest.close)
        self.assertEqual(rest.content("a/f"), b"f")
        again.stop()
