"""One caller tries to take the server away from others, in one way after the other."""

import random
import threading

from .command import CommandCase
from .crowd import OverRest, Worker
from .hostile import BIG_FILE, WAYS, WIDE, WIDE_FOLDERS, Hostile
from .test_overload import BIG_BYTES, MEMORY_KIB, NEIGHBOUR, raise_open_files

# How long each way is gone: the pools of the server are full by then.
WAY_SECONDS = 3


class HostileTest(CommandCase):
    """A server, hostile clients, and somebody from elsewhere who works."""

    def test_no_way_takes_the_server_from_others(self) -> None:
        """Looks at the memory, and whether somebody from elsewhere is refused."""
        raise_open_files()
        self.rest.put(BIG_FILE, bytes(BIG_BYTES))
        self.rest.put_all({f"{WIDE}/{number}/a": b"1" for number in range(WIDE_FOLDERS)})
        for number, name in enumerate(WAYS):
            with self.subTest(name):
                self.go(number, name)
        # Those copies that may run have run.
        self.assertIn("taken", self.rest.listing().folders)
        self.assertIn("clean: ", self.command("check", "--deep"))

    def go(self, number: int, name: str) -> None:
        """Goes one way while somebody works."""
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
