"""Three servers on one store, while each of their parts is killed, stopped, cut off, put back or misled.

Writers put files into a new folder each time, and then copy that folder to one place. Readers download that place as a
package, which is one snapshot. So a package has the files of one copy; not of one before the last that was acknowledged
when the download began; and of none that has not begun. A call that is not answered is sent again to any server, under the
same operation id, until it is.
"""

import io
import json
import os
import random
import signal
import subprocess
import tempfile
import threading
import time
import unittest
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path

import requests

from .cluster import LEASE_SECONDS, Cluster
from .server import binary, environment

ROUNDS = int(os.environ.get("TEST_ROUNDS") or (3_000 if os.environ.get("TEST_LONG") else 300))
WRITERS = 4
READERS = 4
FILES = 3
# Longer than a call takes while nothing is wrong for longer than a few seconds.
CALL_SECONDS = 20
# Within this time every call is answered by some server, whatever happens meanwhile.
ANSWER_SECONDS = 90


class Judge:
    """What each writer was told, and whether what readers see agrees with it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        # The last sequence number that has begun, and the last one that was acknowledged, of each writer.
        self.begun = [0] * WRITERS
        self.acknowledged = [0] * WRITERS
        # The same when the database was copied that may be put back.
        self.kept: list[int] | None = None
        # Rises when a failover that loses commits begins and when it is over: what overlaps one is not judged.
        self.failovers = 0
        self.versions: dict[int, tuple[int, int]] = {}
        self.faults: list[str] = []
        self.reads = 0

    def fault(self, message: str) -> None:
        """Notes what must not happen."""
        with self.lock:
            self.faults.append(message)

    def acknowledge(self, writer: int, number: int, failovers: int) -> bool:
        """Notes an acknowledged copy. Whether it counts: else it may be lost, and is made again."""
        with self.lock:
            if failovers != self.failovers:
                return False
            self.acknowledged[writer] = number
            return True

    def keep(self) -> None:
        """Notes that the database is copied now; nobody writes meanwhile."""
        with self.lock:
            self.kept = list(self.acknowledged)

    def lose(self) -> None:
        """Notes that a failover begins."""
        with self.lock:
            assert self.kept is not None
            self.failovers += 1
            self.acknowledged = self.kept

    def lost(self) -> None:
        """Notes that the failover is over."""
        with self.lock:
            self.failovers += 1

    def before(self, writer: int) -> tuple[int, int]:
        """What a reader needs when it begins."""
        with self.lock:
            return self.acknowledged[writer], self.failovers

    def seen(self, writer: int, began: tuple[int, int], numbers: set[int]) -> None:
        """Judges a package."""
        least, failovers = began
        with self.lock:
            if failovers != self.failovers:
                return
            self.reads += 1
            if len(numbers) != 1:
                self.faults.append(f"writer {writer}: a package has files of {numbers}")
            elif not least <= min(numbers) <= self.begun[writer]:
                message = f"writer {writer}: {numbers} seen, {least} acknowledged, {self.begun[writer]} begun"
                self.faults.append(message)


class Client(threading.Thread):
    """A thread that calls the servers by turns at random."""

    def __init__(self, cluster: Cluster, judge: Judge, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.cluster, self.judge, self.stop = cluster, judge, stop

    def call(self, method: str, path: str, **arguments: object) -> requests.Response:
        """Sends a request until a server answers it."""
        end = time.monotonic() + ANSWER_SECONDS
        last: object = None
        while time.monotonic() < end:
            address = random.choice(self.cluster.addresses)
            try:
                answer = requests.request(method, f"http://{address}{path}", timeout=CALL_SECONDS, **arguments)
            except requests.RequestException as error:
                last = error
            else:
                if answer.status_code not in (429, 503, 504):
                    return answer
                last = answer.text
            self.stop.wait(0.02)
        self.judge.fault(f"{method} {path} was not answered: {last}")
        raise AssertionError(last)

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                self.turn()
            except Exception as error:
                self.judge.fault(repr(error))
                return

    def turn(self) -> None:
        """Makes one step."""
        raise NotImplementedError


class Writer(Client):
    """Puts a folder and copies it, again and again."""

    def __init__(self, number: int, cluster: Cluster, judge: Judge, stop: threading.Event) -> None:
        super().__init__(cluster, judge, stop)
        self.number = number

    def turn(self) -> None:
        with self.judge.lock:
            self.judge.begun[self.number] += 1
            sequence = self.judge.begun[self.number]
        while not self.attempt(sequence):
            pass

    def attempt(self, sequence: int) -> bool:
        """Writes the files of a sequence number. Whether that was acknowledged and counts."""
        source = f"from/{self.number}-{sequence}-{uuid.uuid4().hex}"
        _, failovers = self.judge.before(self.number)
        text = f"{self.number} {sequence}\n".encode()
        for file in range(FILES):
            # One of the files is an object in the bucket.
            data = text + random.randbytes(20_000 if file == 0 else 10)
            answer = self.call("PUT", f"/ImageStore/{source}/{file}?api-version=6.0", data=data)
            if answer.status_code != 200:
                raise AssertionError(answer.text)
        body = {"RemoteSource": source, "RemoteDestination": f"to/{self.number}", "OperationId": str(uuid.uuid4())}
        answer = self.call("POST", "/ImageStore/$/Copy?api-version=6.0", data=json.dumps(body))
        if answer.status_code == 404:
            # The files were lost by a failover.
            return self.refused(failovers, answer)
        if answer.status_code != 200:
            return self.refused(failovers, answer)
        if not self.judge.acknowledge(self.number, sequence, failovers):
            return False
        answer = self.call("DELETE", f"/ImageStore/{source}?api-version=6.0")
        if answer.status_code not in (200, 404):
            raise AssertionError(answer.text)
        return True

    def refused(self, failovers: int, answer: requests.Response) -> bool:
        """A copy may fail with its server, or because a failover has lost its source."""
        if self.judge.failovers == failovers and "server stopped" not in answer.text:
            raise AssertionError(answer.text)
        return False


class Reader(Client):
    """Downloads the folders of the writers."""

    def turn(self) -> None:
        writer = random.randrange(WRITERS)
        began = self.judge.before(writer)
        if began[0] == 0:
            self.stop.wait(0.02)
            return
        answer = self.call("GET", f"/Packages/to/{writer}.zip")
        if answer.status_code != 200:
            if self.judge.failovers == began[1]:
                self.judge.fault(f"writer {writer} with {began[0]} acknowledged: {answer.text}")
            return
        numbers = set()
        try:
            with zipfile.ZipFile(io.BytesIO(answer.content)) as package:
                for name in package.namelist():
                    number, sequence = package.read(name).split(b"\n")[0].split()
                    assert int(number) == writer
                    numbers.add(int(sequence))
        except zipfile.BadZipFile:
            # The server was killed while it sent.
            return
        self.judge.seen(writer, began, numbers)


class Chaos(unittest.TestCase):
    """The faults, one after the other, at random."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="imagestore-", ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        Path(folder.name).chmod(0o755)
        self.cluster = Cluster(Path(folder.name))
        self.addCleanup(self.cluster.close)
        self.judge, self.over = Judge(), threading.Event()
        seed = os.environ.get("TEST_SEED") or str(random.randrange(1 << 32))
        self.random = random.Random(seed)
        self.seed = seed

    def faults(self) -> list[Callable[[], None]]:
        """All faults. Each is over when its function returns."""
        return [
            self.kill, self.pause, self.zombie, self.cut, self.crash_database, self.stall_buckets, self.fail_over,
            self.clone, self.other_clock, self.stop,
        ]

    def rest(self, least: float = 0.0, most: float = 0.5) -> None:
        """Lets the servers work."""
        time.sleep(self.random.uniform(least, most))

    def some(self) -> int:
        """A server."""
        return self.random.randrange(len(self.cluster.servers))

    def kill(self) -> None:
        """Kills a server, and starts it again at once or after its lease."""
        number = self.some()
        self.cluster.servers[number].send(signal.SIGKILL)
        self.cluster.servers[number].kill()
        if self.random.random() < 0.3:
            self.rest(LEASE_SECONDS, 2 * LEASE_SECONDS)
        self.cluster.restart(number)

    def stop(self) -> None:
        """Stops a server in good order, and starts it again."""
        number = self.some()
        self.cluster.servers[number].stop()
        self.cluster.restart(number)

    def pause(self) -> None:
        """Suspends a server for less than its lease."""
        server = self.cluster.servers[self.some()]
        server.send(signal.SIGSTOP)
        self.rest(0.1, 0.8 * LEASE_SECONDS)
        server.send(signal.SIGCONT)

    def zombie(self) -> None:
        """Suspends a server for longer than its lease."""
        server = self.cluster.servers[self.some()]
        server.send(signal.SIGSTOP)
        self.rest(1.5 * LEASE_SECONDS, 3 * LEASE_SECONDS)
        server.send(signal.SIGCONT)

    def cut(self) -> None:
        """Cuts all connections to the database, some of them in a commit."""
        for _ in range(self.random.randrange(1, 6)):
            self.cluster.database.cut()
            self.rest(0, 0.05)

    def crash_database(self) -> None:
        """Kills the database, and starts it again."""
        self.cluster.database.stop()
        self.rest(0, 0.5)
        self.cluster.database.start()

    def stall_buckets(self) -> None:
        """Suspends the server of the bucket."""
        self.cluster.buckets.process.send_signal(signal.SIGSTOP)
        self.rest(0.1, 1.5)
        self.cluster.buckets.process.send_signal(signal.SIGCONT)

    def fail_over(self) -> None:
        """Puts the database back to an earlier state: the last commits are lost."""
        # Nothing is acknowledged between the copy and the note of it.
        with Pausing(self.cluster):
            kept = self.cluster.database.keep()
            self.judge.keep()
        self.rest(0.2, 1.0)
        self.judge.lose()
        self.cluster.database.put_back(kept)
        self.rest(0.5, 1.0)
        self.judge.lost()

    def clone(self) -> None:
        """Starts a server with a copy of the data folder of another one."""
        number = self.some()
        original = self.cluster.folder / f"server-{number}" / "server-id"
        if not original.exists():
            return
        other = (number + 1) % len(self.cluster.servers)
        self.cluster.servers[other].send(signal.SIGKILL)
        self.cluster.servers[other].kill()
        (self.cluster.folder / f"server-{other}" / "server-id").write_bytes(original.read_bytes())
        self.cluster.restart(other)

    def other_clock(self) -> None:
        """Restarts a server with another clock."""
        number = self.some()
        self.cluster.servers[number].send(signal.SIGKILL)
        self.cluster.servers[number].kill()
        minutes = self.random.choice([-10, -3, 3, 10])
        self.cluster.servers[number] = self.cluster.make(number, ("faketime", "-f", f"{minutes:+d}m"))

    def test_nothing_acknowledged_is_lost_and_nothing_half_is_seen(self) -> None:
        """All faults, many times, beside writers and readers."""
        clients: list[Client] = [
            *(Writer(number, self.cluster, self.judge, self.over) for number in range(WRITERS)),
            *(Reader(self.cluster, self.judge, self.over) for _ in range(READERS)),
        ]
        for client in clients:
            client.start()
        done: list[str] = []
        try:
            for _ in range(ROUNDS):
                fault = self.random.choice(self.faults())
                done.append(fault.__name__)
                fault()
                self.rest()
                if self.judge.faults:
                    break
        finally:
            self.over.set()
            for client in clients:
                client.join(timeout=ANSWER_SECONDS + CALL_SECONDS)
        about = f"seed {self.seed}, rounds {len(done)}: {done[-10:]}"
        self.assertEqual(self.judge.faults, [], about)
        self.assertFalse(any(client.is_alive() for client in clients), about)
        self.assert_all_there(about)
        self.assert_nothing_left(about)

    def assert_all_there(self, about: str) -> None:
        """Every server shows what was acknowledged last, and a deep check finds nothing."""
        for server in self.cluster.servers:
            for writer in range(WRITERS):
                answer = requests.get(f"http://{server.address}/Packages/to/{writer}.zip", timeout=CALL_SECONDS)
                self.assertEqual(answer.status_code, 200, f"{about}: {answer.text}")
                with zipfile.ZipFile(io.BytesIO(answer.content)) as package:
                    names = package.namelist()
                    found = {int(package.read(name).split(b"\n")[0].split()[1]) for name in names}
                self.assertEqual((len(names), len(found)), (FILES, 1), about)
                self.assertLessEqual(self.judge.acknowledged[writer], min(found), about)
        url = f"http://{self.cluster.servers[0].address}"
        done = subprocess.run(
            [binary(), "check", "--deep", "--server", url], env=environment(), capture_output=True, encoding="utf-8",
            check=False, timeout=ANSWER_SECONDS,
        )
        self.assertEqual(done.returncode, 0, f"{about}: {done.stdout}{done.stderr}")

    def assert_nothing_left(self, about: str) -> None:
        """What nobody can reach is gone, from the database and from the bucket."""
        for server in self.cluster.servers:
            requests.delete(f"http://{server.address}/ImageStore/from?api-version=6.0", timeout=CALL_SECONDS)
        end = time.monotonic() + ANSWER_SECONDS
        counts = ""
        while time.monotonic() < end:
            (counts,) = self.cluster.database.ask(
                "SELECT (SELECT COUNT(*) FROM pin) || ' ' || (SELECT COUNT(*) FROM garbage) || ' '"
                " || (SELECT COUNT(*) FROM dead_object) || ' ' || (SELECT COUNT(*) FROM suspect) || ' '"
                " || (SELECT COUNT(*) FROM operation WHERE state = 1)"
            )
            if counts == "0 0 0 0 0" and self.objects() == set(self.named()):
                return
            time.sleep(0.5)
        self.fail(f"{about}: {counts} are left, and the objects {self.objects() ^ set(self.named())}")

    def named(self) -> list[str]:
        """The keys of objects in the database."""
        return self.cluster.database.ask("SELECT object FROM part WHERE object IS NOT NULL")

    def objects(self) -> set[str]:
        """The keys of objects in the bucket, without the mark of the store."""
        return {key for key in self.cluster.buckets.keys("store", "parts/") if "/" in key}


class Pausing:
    """Suspends all servers while it is entered."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def __enter__(self) -> None:
        for server in self._cluster.servers:
            server.send(signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        for server in self._cluster.servers:
            server.send(signal.SIGCONT)
