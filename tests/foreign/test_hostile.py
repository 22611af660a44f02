"""One client attacks the server while others work, in one way after the other."""

import random
import threading

from .command import CommandCase
from .crowd import OverRest, Worker
from .hostile import BIG_FILE, WAYS, WIDE, WIDE_FOLDERS, Hostile
from .test_overload import BIG_BYTES, MEMORY_KIB, NEIGHBOUR, raise_open_files

# The duration of each attack: the pools of the server are full by then.
WAY_SECONDS = 3


class HostileTest(CommandCase):
    """A server, hostile clients, and a worker at another address."""

    def test_no_way_takes_the_server_from_others(self) -> None:
        """Asserts that the memory stays bounded, and that the worker at the other address is never refused."""
        raise_open_files()
        self.rest.put(BIG_FILE, bytes(BIG_BYTES))
        self.rest.put_all({f"{WIDE}/{number}/a": b"1" for number in range(WIDE_FOLDERS)})
        for number, name in enumerate(WAYS):
            with self.subTest(name):
                self.go(number, name)
        # At least one of the copies that are valid has succeeded.
        self.assertIn("taken", self.rest.listing().folders)
        self.assertIn("clean: ", self.command("check", "--deep"))

    def go(self, number: int, name: str) -> None:
        """Makes one attack while the worker works."""
        self.server.forget_peak()
        hostile = Hostile(self.server.endpoint, [name])
        self.addCleanup(hostile.close)
        neighbour = Worker(
            number, OverRest(self.server.endpoint, NEIGHBOUR), random.Random(number)
        )
        over = threading.Event()
        timer = threading.Timer(WAY_SECONDS, over.set)
        timer.start()
        neighbour.run(over)
        timer.join()
        hostile.close()
        peak = self.server.memory()
        print(f"hostile: {name}: {peak // 1024} MiB at most", flush=True)
        self.assertEqual(neighbour.tally.refused, 0)
        self.assertLess(peak, MEMORY_KIB)
