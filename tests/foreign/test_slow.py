"""A disk that blocks writes to the file of the database, but not to its log.

The log stays within its bound, writes that do not fit are refused as busy, and all calls work again when the disk does.
"""

import fcntl
import os
import random
import subprocess
import tempfile
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from .rest import Rest
from .server import Server

MIB = 1 << 20
# The log at its bound, and the growth by one batch of the writer.
LOG_BYTES_MAX = 24 * MIB
CLIENTS = 8
# Small enough to be stored in the database.
FILE_BYTES = 16 << 10
# More files than the log has space for.
FILES_MAX = 4 * LOG_BYTES_MAX // FILE_BYTES // CLIENTS
MOVED_SECONDS = 60
SHIM = Path(__file__).with_name("slow_disk.c")


class SlowDiskTest(unittest.TestCase):
    """A server whose disk is as slow as the test sets it."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="imagestore-")
        self.addCleanup(folder.cleanup)
        self._data = Path(folder.name) / "data"
        shim, gate = Path(folder.name) / "slow_disk.so", Path(folder.name) / "gate"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, SHIM], check=True)
        self._gate = os.open(gate, os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, self._gate)
        self._server = Server(self._data, under=("env", f"LD_PRELOAD={shim}", f"GATE={gate}"))
        self.addCleanup(self._server.kill)

    def test_the_log_is_bounded(self) -> None:
        """Writes that do not fit into the log are refused as busy, and no data is lost."""
        self._server.expect(
            "the database does not answer; calls are refused",
            "the write-ahead log is at its bound",
        )
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        with ThreadPoolExecutor(CLIENTS) as clients:
            stored = list(clients.map(self._fill, range(CLIENTS)))
        self.assertLessEqual(self._log_bytes(), LOG_BYTES_MAX)
        self.assertGreater(sum(stored), 0)
        # Reads are not blocked, and acknowledged writes are in the log.
        self._compare(stored)
        fcntl.flock(self._gate, fcntl.LOCK_UN)
        rest = Rest(self._server.url)
        self.addCleanup(rest.close)
        # Writes are refused until the log is moved into the database; each refusal says when to retry.
        until = time.monotonic() + MOVED_SECONDS
        while (answer := rest.call("PUT", "after", bytes(FILE_BYTES))).status_code != 200:
            self._assert_busy(answer)
            self.assertLess(time.monotonic(), until, "the log is not moved")
        rest.call("DELETE", "after").raise_for_status()
        self.assertLessEqual(self._log_bytes(), LOG_BYTES_MAX)
        self._compare(stored)
        self._server.stop()

    def _fill(self, client: int) -> int:
        """Stores files in the folder of a client until one is refused. Returns the number of stored files."""
        rest, chance = Rest(self._server.url), random.Random(client)
        try:
            for number in range(FILES_MAX):
                answer = rest.call("PUT", f"{client}/{number}", chance.randbytes(FILE_BYTES))
                if answer.status_code != 200:
                    self._assert_busy(answer)
                    return number
        finally:
            rest.close()
        self.fail(f"the log has {self._log_bytes()} bytes, and nothing is refused")

    def _assert_busy(self, answer: requests.Response) -> None:
        self.assertEqual(answer.status_code, 503, answer.text)
        self.assertIn("the disk is too slow", answer.json()["Error"]["Message"])
        self.assertIn("Retry-After", answer.headers)

    def _log_bytes(self) -> int:
        return (self._data / "namespace.sqlite-wal").stat().st_size

    def _compare(self, stored: list[int]) -> None:
        """Asserts that each client has the files that it stored, and the right bytes in the last one."""
        rest = Rest(self._server.url)
        try:
            listed = rest.listing().folders
            self.assertEqual(listed, {str(client): files for client, files in enumerate(stored) if files})
            for client, files in enumerate(stored):
                chance = random.Random(client)
                written = [chance.randbytes(FILE_BYTES) for _ in range(files)]
                for number, data in [*enumerate(written)][-1:]:
                    self.assertEqual(rest.content(f"{client}/{number}"), data)
        finally:
            rest.close()
