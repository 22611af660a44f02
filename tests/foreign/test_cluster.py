"""Three servers on one store, while each of their parts is killed, stopped, cut off, put back or misled."""

import io
import os
import random
import signal
import subprocess
import tempfile
import threading
import time
import unittest
import zipfile
from collections.abc import Callable
from pathlib import Path

import requests

from .cluster import LEASE_SECONDS, Cluster
from .judge import ANSWER_SECONDS, CALL_SECONDS, FILES, READERS, WRITERS, Client, Judge, Reader, Writer
from .server import binary, environment

ROUNDS = int(os.environ.get("TEST_ROUNDS") or (3_000 if os.environ.get("TEST_LONG") else 300))


def clock_of(file: Path) -> dict[str, str]:
    """The environment of a process whose clock differs from that of the machine by what the file has."""
    told = subprocess.run(["faketime", "-f", "+0m", "env"], capture_output=True, encoding="utf-8", check=True).stdout
    (library,) = (line.removeprefix("LD_PRELOAD=") for line in told.splitlines() if line.startswith("LD_PRELOAD="))
    return {
        "LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


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
        """Restarts a server with another clock, which then jumps."""
        number = self.some()
        self.cluster.servers[number].send(signal.SIGKILL)
        self.cluster.servers[number].kill()
        clock = self.cluster.folder / f"clock-{number}"
        before, after = self.random.sample([-10, -3, 3, 10], 2)
        clock.write_text(f"{before:+d}m", encoding="utf-8")
        self.cluster.restart(number, **clock_of(clock))
        self.rest()
        clock.write_text(f"{after:+d}m", encoding="utf-8")

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
        # However much there is to do, something of it is done within a shorter time, and all of it within a longer one.
        end, over, left = time.monotonic() + ANSWER_SECONDS, time.monotonic() + 10 * ANSWER_SECONDS, None
        while time.monotonic() < min(end, over):
            (counts,) = self.cluster.database.ask(
                "SELECT (SELECT COUNT(*) FROM pin) || ' ' || (SELECT COUNT(*) FROM garbage) || ' '"
                " || (SELECT COUNT(*) FROM dead_object) || ' ' || (SELECT COUNT(*) FROM suspect) || ' '"
                " || (SELECT COUNT(*) FROM operation WHERE state = 1)"
            )
            unnamed = self.objects() ^ set(self.named())
            if counts == "0 0 0 0 0" and not unnamed:
                return
            if left != (counts, unnamed):
                end, left = time.monotonic() + ANSWER_SECONDS, (counts, unnamed)
            time.sleep(0.5)
        self.fail(f"{about}: {left} are left")

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
