"""The real server is killed under load, again and again, and nothing that it promised is lost.

`TEST_LONG=1` kills it a thousand times; `TEST_SEED=<number>` repeats the choices of a failed run, though
not its timing.
"""

import json
import os
import random
import subprocess
import tempfile
import threading
import time
import unittest
from collections.abc import Callable
from functools import partial
from pathlib import Path

from .crash import BASE, Http, Writer, base
from .server import Server, binary, environment

WRITERS = 8
KILLS = 200
KILLS_LONG = 1_000
# How long it runs before it is killed.
LOAD_SECONDS = (0.02, 0.5)
# From the start of the process to its ready line, on a machine that has other things to do.
START_SECONDS = 5
COMMAND_SECONDS = 120
# The time from the delete of everything until nothing of it is on the disk.
FREE_SECONDS = 60
RECOVERED = "cleared away what an earlier run left unfinished"


class CrashTest(unittest.TestCase):
    """A server that is killed."""

    def setUp(self) -> None:
        seed = int(os.environ.get("TEST_SEED") or random.SystemRandom().randrange(2**32))
        print(f"crash: TEST_SEED={seed}", flush=True)
        self._chance = random.Random(seed)
        folder = tempfile.TemporaryDirectory(prefix="imagestore-")
        self.addCleanup(folder.cleanup)
        self._data = Path(folder.name) / "data"

    def test_what_was_promised_survives_every_kill(self) -> None:
        """Kills the server at any moment, starts it again, and compares."""
        server = Server(self._data, "--reclaim-grace", "200ms")
        self.addCleanup(server.kill)
        files = base()
        http = Http(server.endpoint)
        for path, data in files.items():
            self.assertEqual(http.call("PUT", path, data), (200, b""))
        http.close()
        writers = [
            Writer(number, files, random.Random(self._chance.random())) for number in range(WRITERS)
        ]
        recovered = 0
        for kill in range(KILLS_LONG if os.environ.get("TEST_LONG") else KILLS):
            self._load_and_kill(server, writers)
            # Whichever starts first after the kill has to recover.
            if kill % 3 == 0:
                self._check("--data", str(self._data))
            started = time.monotonic()
            server.start()
            self.assertLess(time.monotonic() - started, START_SECONDS, server.log)
            recovered += any(RECOVERED in line for line in server.log)
            in_threads([partial(writer.verify, server.endpoint) for writer in writers])
            if kill % 3 == 1:
                self._check("--server", server.url)
        self.assertGreater(recovered, 0, "no start said that it cleared anything away")
        self.assertGreater(sum(writer.calls for writer in writers), 0)
        self._empty(server, writers)

    def _load_and_kill(self, server: Server, writers: list[Writer]) -> None:
        timer = threading.Timer(self._chance.uniform(*LOAD_SECONDS), server.kill)
        timer.start()
        try:
            in_threads([partial(writer.run, server.endpoint) for writer in writers])
        finally:
            timer.join()
            server.kill()
        self.assertFalse([line for line in server.log if "panicked" in line])

    def _command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [binary(), *arguments],
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def _check(self, *where: str) -> None:
        """Sees that a deep check finds nothing."""
        done = self._command("check", "--deep", *where)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("clean: ", done.stdout)

    def _empty(self, server: Server, writers: list[Writer]) -> None:
        """Deletes everything, and sees that nothing of it stays."""
        http = Http(server.endpoint)
        for path in [BASE, *(writer.root for writer in writers)]:
            self.assertEqual(http.call("DELETE", path), (200, b""))
        for writer in writers:
            writer.forget_session(http)
        http.close()
        until = time.monotonic() + FREE_SECONDS
        while (left := self._left(server)) > 0:
            self.assertLess(time.monotonic(), until, f"{left} parts or objects are left")
        server.stop()
        self._check("--data", str(self._data))
        # What the kills left of puts whose row was not written yet: the sweep takes it an hour later,
        # and a repair as well.
        old = time.time() - 2 * 3600
        for path in self._objects():
            os.utime(path, (old, old))
        done = self._command("check", "--repair", "--data", str(self._data))
        kinds = {line.partition(": ")[0] for line in done.stdout.splitlines()[:-1]}
        self.assertLessEqual(kinds, {"object_unknown"}, done.stdout)
        self.assertEqual(self._objects(), [])
        self._check("--data", str(self._data))

    def _left(self, server: Server) -> int:
        """Counts the parts that are there, and what waits to be freed."""
        done = self._command("info", "--json", "--server", server.url)
        info = json.loads(done.stdout)
        return int(info["unique"]["file_count"]) + int(info["garbage"]["file_count"])

    def _objects(self) -> list[Path]:
        return [path for path in (self._data / "blobs").rglob("*") if path.is_file()]


def in_threads(jobs: list[Callable[[], None]]) -> None:
    """Runs jobs at once, and raises what the first of them raised."""
    errors: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=[job]) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
