"""The real server is killed again and again, and loses no acknowledged write.

It is killed at random times under load, at every point that `src/crash.rs` marks, and while it recovers from a kill.
`TEST_LONG=1` kills it a thousand times under load, and at every start point after each call point;
`TEST_SEED=<number>` repeats the random choices of a failed run, though not its timing.
"""

import contextlib
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import grpc

from .crash import BASE, Http, Script, Writer, base
from .reflection import Reflection
from .server import Server, binary, environment
from .test_grpc import SERVICE

IS_LONG = bool(os.environ.get("TEST_LONG"))
WRITERS = 8
KILLS = 1_000 if IS_LONG else 200
# How long the server runs before it is killed.
LOAD_SECONDS = (0.02, 0.5)
# From the start of the process to its ready line, on a machine with other load.
START_SECONDS = 5
COMMAND_SECONDS = 120
# From the deletion of everything until all its space is free.
FREE_SECONDS = 60
RECOVERED = "cleared away what an earlier run left unfinished"

MARKS = Path(__file__).parents[2] / "src" / "crash.rs"
POINTS = re.findall(r'Self::\w+ => "(\w+)",', MARKS.read_text())
# The points that a start passes before it listens. The others are passed by calls and by background work.
START_POINTS = ["sweep", "swept", "recover", "recovered", "settle", "settled"]
CALL_POINTS = [point for point in POINTS if point not in START_POINTS]
# How often the very first start is killed at a random time.
FIRST_STARTS = 40 if IS_LONG else 10
# The names of staged files that a kill during a put leaves.
STAGED = [f"{n:02x}/{n:02x}{'0' * 62}-{'0' * 32}#{n}" for n in range(3)]


class CrashCase(unittest.TestCase):
    """A test that kills its server."""

    def setUp(self) -> None:
        seed = int(os.environ.get("TEST_SEED") or random.SystemRandom().randrange(2**32))
        print(f"crash: TEST_SEED={seed}", flush=True)
        self._chance = random.Random(seed)
        folder = tempfile.TemporaryDirectory(prefix="imagestore-")
        self.addCleanup(folder.cleanup)
        self._data = Path(folder.name) / "data"
        # The duration of the last start on this machine.
        self._start_seconds = 0.1

    def _serve(self, grace: str) -> Server:
        """Starts a server with the files that the writers copy from."""
        server = Server(self._data, "--reclaim-grace", grace)
        self.addCleanup(server.kill)
        http = Http(server.endpoint)
        for path, data in base().items():
            self.assertEqual(http.call("PUT", path, data), (200, b""))
        http.close()
        return server

    def _start(self, server: Server) -> None:
        """Starts a server that was killed, and asserts that it recovers in time."""
        started = time.monotonic()
        server.start()
        self._start_seconds = time.monotonic() - started
        self.assertLess(self._start_seconds, START_SECONDS, server.log)
        self.assertLessEqual(len(server.log), 2, "it says what it did in one line")

    def _kill_a_start(self, server: Server) -> None:
        """Starts a server and kills it at a random time, most likely before it listens."""
        server.launch()
        seconds = self._chance.uniform(0, 1.2 * self._start_seconds)
        timer = threading.Timer(seconds, server.send, [signal.SIGKILL])
        timer.start()
        timer.join()
        server.kill()
        self._see_no_panic(server)

    def _see_no_panic(self, server: Server) -> None:
        self.assertFalse([line for line in server.log if "panicked" in line])

    def _check(self, *where: str) -> None:
        """Asserts that a deep check finds no damage."""
        done = self._command("check", "--deep", *where)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("clean: ", done.stdout)

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

    def _empty(self, server: Server, writers: Iterable[Writer]) -> None:
        """Deletes everything, and asserts that all its space is freed."""
        http = Http(server.endpoint)
        for path in [BASE, *(writer.root for writer in writers)]:
            self.assertEqual(http.call("DELETE", path), (200, b""))
        for writer in writers:
            writer.forget_session(http)
        http.close()
        self._wait_until_freed(server)
        server.stop()
        self._check("--data", str(self._data))
        # The kills left objects of puts whose row was not committed. The sweep deletes those of earlier runs, at
        # first some minutes after a start; a repair deletes them when they are an hour old.
        self._make_objects_old()
        done = self._command("check", "--repair", "--data", str(self._data))
        kinds = {line.partition(": ")[0] for line in done.stdout.splitlines()[:-1]}
        self.assertLessEqual(kinds, {"object_unknown"}, done.stdout)
        self.assertEqual(self._objects(), [])
        self._check("--data", str(self._data))

    def _wait_until_freed(self, server: Server) -> None:
        """Waits until the garbage is empty."""
        reflection = Reflection(server.address)
        try:
            store = reflection.service(SERVICE)
            until = time.monotonic() + FREE_SECONDS
            while (left := store.call("GetStoreInfo").garbage.file_count) > 0:
                self.assertLess(time.monotonic(), until, f"{left} things wait to be freed")
        finally:
            reflection.close()

    def _make_objects_old(self) -> None:
        """Makes the objects so old that a check reports those without a row."""
        old = time.time() - 2 * 3600
        for path in self._objects():
            # The server may be deleting the object.
            with contextlib.suppress(FileNotFoundError):
                os.utime(path, (old, old))

    def _objects(self) -> list[Path]:
        return [path for path in (self._data / "blobs").rglob("*-*") if path.is_file()]


class AtAnyMoment(CrashCase):
    """Kills under load, and during the recovery from a kill."""

    def test_what_was_promised_survives_every_kill(self) -> None:
        """Kills the server at a random time, starts it again, and compares its files with the acknowledged writes."""
        server = self._serve(grace="200ms")
        writers = [
            Writer(number, base(), random.Random(self._chance.random())) for number in range(WRITERS)
        ]
        recovered = 0
        for kill in range(KILLS):
            self._load_and_kill(server, writers)
            while self._chance.random() < 0.3:
                self._kill_a_start(server)
            # The first start after the kill recovers: that of a server or of an offline command.
            if kill % 3 == 0:
                self._check("--data", str(self._data))
            self._start(server)
            recovered += any(RECOVERED in line for line in server.log)
            in_threads([partial(writer.verify, server.endpoint) for writer in writers])
            if kill % 3 == 1:
                self._check("--server", server.url)
        self.assertGreater(recovered, 0, "no start said that it cleared anything away")
        self.assertGreater(sum(writer.calls for writer in writers), 0)
        self._empty(server, writers)

    def _load_and_kill(self, server: Server, writers: list[Writer]) -> None:
        timer = threading.Timer(
            self._chance.uniform(*LOAD_SECONDS), server.send, [signal.SIGKILL]
        )
        timer.start()
        try:
            in_threads([partial(writer.run, server.endpoint) for writer in writers])
        finally:
            timer.join()
            server.kill()
        self._see_no_panic(server)


class AtEveryPoint(CrashCase):
    """Kills before and after each durable step."""

    def test_what_was_promised_survives_every_marked_point(self) -> None:
        """Ends the server at each point that calls pass, then at the points of the start that follows."""
        server = self._serve(grace="0")
        server.stop()
        new = self._data.rename(self._data.with_name("new"))
        reached = dict.fromkeys(POINTS, 0)
        start_points = itertools.cycle(START_POINTS)
        for point in CALL_POINTS:
            for hit in range(1, 1_000):
                shutil.rmtree(self._data, ignore_errors=True)
                shutil.copytree(new, self._data)
                server.start(IMAGESTORE_CRASH_AT=f"{point}:{hit}")
                script = Script(base())
                if self._is_done(server, script):
                    server.kill()
                    break
                self._see_the_end(server)
                reached[point] += 1
                for name in STAGED:
                    (self._data / "blobs" / name).write_bytes(b"half of a part")
                for start_point in START_POINTS if IS_LONG else [next(start_points)]:
                    # The sweep passes its points for each staged file: end it in the middle. Others are passed once.
                    hit = 2 if start_point in {"sweep", "swept"} else 1
                    server.launch(IMAGESTORE_CRASH_AT=f"{start_point}:{hit}")
                    self._see_the_end(server)
                    reached[start_point] += 1
                self._kill_a_start(server)
                self._start(server)
                # Only an upload may leave an object without a row, which the sweep deletes.
                if not script.doing.startswith(("put ", "chunk ")):
                    self._make_objects_old()
                script.verify(server.endpoint)
                self._check("--server", server.url)
                self.assertFalse([path for path in self._objects() if "#" in path.name])
                server.kill()
        print(f"crash: {reached}", flush=True)
        self.assertEqual([point for point, times in reached.items() if times == 0], [])

    def test_a_start_that_makes_a_store_can_be_killed(self) -> None:
        """Ends the very first start at each point and at random times; the next start creates the store."""
        server = Server(self._data)
        self.addCleanup(server.kill)
        for point in [*START_POINTS[2:], *[None] * FIRST_STARTS]:
            server.kill()
            shutil.rmtree(self._data)
            if point is None:
                self._kill_a_start(server)
            else:
                server.launch(IMAGESTORE_CRASH_AT=f"{point}:1")
                self._see_the_end(server)
            self._start(server)
            http = Http(server.endpoint)
            self.assertEqual(http.call("PUT", "a/f", b"1"), (200, b""))
            self.assertEqual(http.tree(""), {"a/f": b"1"})
            http.close()
            self._check("--server", server.url)

    def _is_done(self, server: Server, script: Script) -> bool:
        """Runs the script and waits until its garbage is reclaimed. Returns whether the server survived."""
        script.run(server.endpoint)
        if script.doing:
            return False
        try:
            self._wait_until_freed(server)
        except grpc.RpcError:
            return False
        return True

    def _see_the_end(self, server: Server) -> None:
        """Asserts that the server has killed itself without a panic."""
        self.assertEqual(server.ended(), -signal.SIGKILL, server.log)
        self._see_no_panic(server)


def in_threads(jobs: list[Callable[[], None]]) -> None:
    """Runs jobs in parallel, and raises the first exception of a job."""
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
