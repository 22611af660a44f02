"""One caller tries to take the server away from others, in one way after the other."""

import random

from .command import CommandCase
from .crowd import OverRest, Worker
from .hostile import BIG_FILE, WAYS, WIDE, WIDE_FOLDERS, Hostile
from .test_overload import BIG_BYTES, MEMORY_KIB, NEIGHBOUR, memory, raise_open_files

STEPS = 100


class Countdown:
    """Is over after some looks."""

    def __init__(self, looks: int) -> None:
        self._looks = looks

    def is_set(self) -> bool:
        """Whether it is over."""
        self._looks -= 1
        return self._looks < 0


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
        self.assertIn("clean: ", self.command("check", "--deep"))

    def go(self, number: int, name: str) -> None:
        """Goes one way while somebody works."""
        hostile = Hostile(self.server.endpoint, [name])
        self.addCleanup(hostile.close)
        neighbour = Worker(
            number, OverRest(self.server.endpoint, NEIGHBOUR), random.Random(number)
        )
        neighbour.run(Countdown(STEPS))
        hostile.close()
        peak = memory(self.server.pid)
        print(f"hostile: {name}: {peak // 1024} MiB at most so far", flush=True)
        self.assertEqual(neighbour.tally.refused, 0)
        self.assertLess(peak, MEMORY_KIB)
