"""More clients than the server can serve, and stalled clients.

`TEST_LONG=1` runs for ten minutes instead of one; `TEST_SEED=<number>` repeats the random choices of a run.
"""

import json
import os
import random
import resource
import socket
import tempfile
import threading
import time
import unittest
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import grpc

from .command import CommandCase
from .crowd import (
    BACKUP,
    BIG_BYTES,
    BIG_FILE,
    ELSEWHERE,
    END_STREAM,
    FRAME_BYTES,
    HEALTH,
    REFLECTION,
    STAT,
    STATUS_200,
    UPLOAD,
    Http2,
    OverGrpc,
    OverRest,
    Stalled,
    Tally,
    Worker,
    get,
    half_message,
    head,
    large_half,
    no_room,
    rpc_head,
)
from .hostile import WAYS, WIDE, WIDE_FOLDERS, Hostile
from .reflection import CALL_SECONDS, Reflection, Service
from .rest import Rest
from .server import Server
from .test_grpc import SERVICE

# The address of a client that belongs neither to the crowd nor to the hostile clients.
NEIGHBOUR = "127.0.0.3"
STALLED = 1_000
WORKERS = 64
SOAK_SECONDS = 60
SOAK_SECONDS_LONG = 600
MEMORY_KIB = 512 * 1024
OPEN_FILES = 4_096
# The server's budgets for large messages and for large responses: src/limits.rs.
POOL_BYTES = 64 << 20
ANSWER_POOL_BYTES = 32 << 20
MESSAGE_BYTES_MAX = 4 << 20
# The most that one address can have of a budget: the rest is reserved for others.
SHARED_BYTES = POOL_BYTES // 8 * 7
# Clients that send half of a large message, or request a large response.
LARGE = 100
# Clients that send half of a message to each of several rpcs, and the memory of the server meanwhile.
HALVES = 40
HALVES_KIB = 224 * 1024
# More stalled bodies than the budget holds, and connections that use up all calls.
STALLED_BODIES = 20
NO_ROOM_CONNECTIONS = 5
NO_ROOM_CALLS = 1_000
# The number of calls of other clients meanwhile.
OTHERS = 20
# The size of a refused body: most of what the server reads and drops of one.
REFUSED_BYTES = 31 << 20
# Files of a folder with a large listing, and the bytes of their names.
LONG_NAMES = 1_500
LONG_NAME_BYTES = 1_000
# The open files that a server with few files may have: half of them are for connections.
FEW_FILES = 128
# Longer than the server takes to release the resources of closed connections.
SOON_SECONDS = 60


def raise_open_files() -> None:
    """Allows this process as many connections as the crowd has."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < OPEN_FILES:
        raise AssertionError(f"needs {OPEN_FILES} open files; the limit of this machine is {most}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, most))


class OverloadTest(CommandCase):
    """A server and a crowd of clients."""

    def setUp(self) -> None:
        super().setUp()
        raise_open_files()
        self.rest.put(BIG_FILE, bytes(BIG_BYTES))

    def test_a_crowd_that_stands_still_costs_little_and_stops_nobody(self) -> None:
        """1,000 clients stall and hostile clients make all attacks at once while 64 workers work.

        Checks the memory, the responses, and what remains afterwards. A worker at another address is never refused.
        """
        seed = int(os.environ.get("TEST_SEED") or random.SystemRandom().randrange(2**32))
        seconds = SOAK_SECONDS_LONG if os.environ.get("TEST_LONG") else SOAK_SECONDS
        print(f"overload: TEST_SEED={seed}", flush=True)
        chance = random.Random(seed)
        self.rest.put_all({f"{WIDE}/{number}/a": b"1" for number in range(WIDE_FOLDERS)})
        self.rest.close()
        files = self.open_files()

        stalled = Stalled(self.server.endpoint, STALLED)
        self.addCleanup(stalled.close)
        hostile = Hostile(self.server.endpoint, WAYS)
        self.addCleanup(hostile.close)
        neighbour = Worker(WORKERS, OverRest(self.server.endpoint, NEIGHBOUR), chance)
        tally = self.work(chance, seconds, neighbour)
        hostile.close()
        stalled.close()

        most = self.server.memory()
        print(
            f"overload: {most // 1024} MiB at most, {tally.calls.total() / seconds:.0f} calls a"
            f" second, {tally.refused} refused, {stalled.cut} cut off;",
            *(
                f"{count} {name} of at most {tally.longest[name]:.1f} s,"
                for name, count in sorted(tally.calls.items())
            ),
            flush=True,
        )
        self.assertLess(most, MEMORY_KIB)
        self.assertEqual(neighbour.tally.refused, 0)
        for name in ["upload", "download", "copy", "list", "delete"]:
            self.assertGreater(tally.calls[name], WORKERS, tally)
        self.wait_until("no connection is left", lambda: self.open_files() <= files)
        # No unfinished upload became visible, and later calls get permits.
        names = self.rest.listing()
        self.assertNotIn("stalled", names.folders)
        self.rest.put("after", b"1")
        self.assertEqual(self.rest.content("after"), b"1")
        self.assertIn("clean: ", self.command("check", "--deep"))

    def test_it_stops_in_time_whoever_stands_still(self) -> None:
        self.server.expect("cutting connections that have not ended")
        stalled = Stalled(self.server.endpoint, STALLED)
        self.addCleanup(stalled.close)
        # The last connections are served, so all are.
        self.assertEqual(self.rest.listing().files, {BIG_FILE: BIG_BYTES})

        # The crowd would try to connect to a closed port.
        stalled.rest()
        self.server.stop()
        stalled.close()
        self.start_again()

        self.assertEqual(self.rest.listing().files, {BIG_FILE: BIG_BYTES})

    def test_halves_of_large_messages_wait_for_room_and_are_told(self) -> None:
        sent = MESSAGE_BYTES_MAX * 3 // 4
        crowd = [
            large_half(self.server.endpoint, number, MESSAGE_BYTES_MAX, sent)
            for number in range(LARGE)
        ]
        for each in crowd:
            self.addCleanup(each.close)
        there_is_room = SHARED_BYTES // MESSAGE_BYTES_MAX

        def are_told() -> bool:
            for each in crowd:
                each.step()
            return sum(each.answer is not None for each in crowd) >= LARGE - there_is_room

        for each in crowd:
            each.step()
        # Small calls have a budget of their own, and so has another address.
        self.rest.put("small", b"1")
        reflection = Reflection(self.server.address)
        self.addCleanup(reflection.close)
        found = reflection.service(SERVICE).call("Stat", path="small")
        self.assertEqual(found.entry.size_bytes, 1)
        self.wait_until("those are told for whom there is no room", are_told)
        self.assertEqual(sum(each.has_sent_all for each in crowd), there_is_room)
        for each in crowd:
            each.close()
        self.assertEqual(self.rest.content("small"), b"1")

    def test_large_answers_that_nobody_takes_leave_room(self) -> None:
        for number in range(LONG_NAMES):
            self.rest.put(f"many/{number:04}{'n' * (LONG_NAME_BYTES - 4)}", b"")
        crowd = [
            Http2(self.server.endpoint, head("GET", "/ImageStore/many?api-version=6.0", END_STREAM), [])
            for _ in range(LARGE)
        ]
        for each in crowd:
            self.addCleanup(each.close)

        def are_answered() -> bool:
            for each in crowd:
                each.step()
            return all(each.answer is not None for each in crowd)

        self.wait_until("all are answered", are_answered)
        served = sum(each.answer == STATUS_200 for each in crowd)
        self.assertLessEqual(served * LONG_NAMES * LONG_NAME_BYTES, ANSWER_POOL_BYTES)
        self.assertGreater(served, 0)
        for each in crowd:
            each.close()
        self.wait_until("there is room again", lambda: self.is_listed("many"))

    def test_half_a_message_has_a_bound_whatever_the_call(self) -> None:
        crowd = [
            Http2(
                self.server.endpoint,
                rpc_head(path),
                half_message(MESSAGE_BYTES_MAX - 1, MESSAGE_BYTES_MAX // 40 * 39),
            )
            for path in (HEALTH, BACKUP, REFLECTION, UPLOAD, STAT)
            for _ in range(HALVES)
        ]
        for each in crowd:
            self.addCleanup(each.close)

        def stand_still() -> bool:
            for each in crowd:
                each.step()
            there = sum(each.answer is not None or each.has_sent_all for each in crowd)
            # Clients that wait for the budget have sent as much as the server accepts without it.
            return there + HALVES > len(crowd)

        self.wait_until("all are told or stand still", stand_still)
        self.assertEqual(self.get_status("/health/live"), 200)
        most = self.server.memory()
        print(f"overload: {most // 1024} MiB with halves of messages", flush=True)
        self.assertLess(most, HALVES_KIB)

    def test_bodies_that_stand_still_leave_room_for_others(self) -> None:
        self.rest.put("a", b"1")
        reflection = Reflection(self.server.address)
        self.addCleanup(reflection.close)
        service = reflection.service(SERVICE)
        size = MESSAGE_BYTES_MAX - 1
        line = f"POST /ImageStore/$/Copy?api-version=6.0 HTTP/1.1\r\nContent-Length: {size}\r\n"
        for _ in range(STALLED_BODIES):
            connection = self.connect_from_elsewhere()
            try:
                connection.sendall(line.encode() + b"Host: localhost\r\n\r\n" + bytes(size - 1))
            except (BrokenPipeError, ConnectionResetError):
                # The server refused the client before it had sent all.
                pass
        for number in range(OTHERS):
            self.assertEqual(service.call("Stat", path="a").entry.size_bytes, 1)
            names = {"RemoteSource": "a", "RemoteDestination": f"b/{number}"}
            copied = self.rest.call("POST", "$/Copy", json.dumps(names).encode())
            self.assertEqual(copied.status_code, 200, copied.text)

    def test_calls_without_room_for_their_answers_leave_others(self) -> None:
        self.rest.put("small", bytes(FRAME_BYTES))
        begin = no_room("/ImageStore/small/$/Content", NO_ROOM_CALLS)
        for _ in range(NO_ROOM_CONNECTIONS):
            self.connect_from_elsewhere().sendall(begin)

        def have_all() -> bool:
            # A call that ended has released its permit, and the refused clients do not retry.
            self.connect_from_elsewhere().sendall(no_room("/ImageStore/small/$/Content", 1))
            return self.get_from_elsewhere() == 503

        # The server accepts no more calls from their address, so they have all the permits that they can get.
        self.wait_until("they have what they can have", have_all)
        for _ in range(OTHERS):
            self.assertEqual(self.get_status("/ImageStore?api-version=6.0"), 200)

    def test_refused_bodies_cost_others_nothing(self) -> None:
        self.rest.put("a", b"1")
        pieces = [bytes(FRAME_BYTES)] * (REFUSED_BYTES // FRAME_BYTES)
        begin = head("POST", "/ImageStore/x", 0)
        crowd = [Http2(self.server.endpoint, begin, list(pieces)) for _ in range(3)]
        for each in crowd:
            self.addCleanup(each.close)

        def are_over() -> bool:
            for each in crowd:
                each.step()
            return all(each.has_sent_all or each.is_reset for each in crowd)

        self.wait_until("all that is read on has come", are_over)
        self.assertEqual({each.answer == STATUS_200 for each in crowd}, {False})
        connection = self.connect_from_elsewhere()
        body = b'{"RemoteSource": "a", "RemoteDestination": "b"}'
        line = f"POST /ImageStore/$/Copy?api-version=6.0 HTTP/1.1\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(line.encode() + b"Host: localhost\r\n\r\n" + body)
        self.assertEqual(self.status_of(connection), 200)

    def connect_from_elsewhere(self) -> socket.socket:
        """Opens a connection from another address than that of other calls."""
        connection = socket.create_connection(self.server.endpoint, CALL_SECONDS, ELSEWHERE)
        self.addCleanup(connection.close)
        return connection

    def status_of(self, connection: socket.socket) -> int:
        """Returns the status of the response on a connection."""
        with connection.makefile("rb") as answer:
            return int(answer.readline().split()[1])

    def get_from_elsewhere(self) -> int:
        """Lists the store from another address; returns the status."""
        with self.connect_from_elsewhere() as connection:
            connection.sendall(get("/ImageStore?api-version=6.0"))
            return self.status_of(connection)

    def get_status(self, target: str) -> int:
        """Requests a target on a new connection; returns the status."""
        connection = HTTPConnection(*self.server.endpoint, timeout=CALL_SECONDS)
        connection.request("GET", target)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    def is_listed(self, folder: str) -> bool:
        """Whether the listing of a folder succeeds instead of being refused as busy."""
        connection = HTTPConnection(*self.server.endpoint, timeout=CALL_SECONDS)
        connection.request("GET", f"/ImageStore/{folder}?api-version=6.0")
        answer = connection.getresponse()
        answer.read()
        connection.close()
        self.assertIn(answer.status, (200, 503))
        return answer.status == 200

    def work(self, chance: random.Random, seconds: int, neighbour: Worker) -> Tally:
        """Runs workers for some time, half over REST and half over gRPC, and returns their tally.

        The neighbour works as well, with a tally of its own.
        """
        reflection = Reflection(self.server.address)
        self.addCleanup(reflection.close)
        over, tally = threading.Event(), Tally()
        workers = []
        for number in range(WORKERS):
            calls: OverRest | OverGrpc = OverRest(self.server.endpoint)
            if number % 2:
                options = [("grpc.use_local_subchannel_pool", 1)]
                channel = grpc.insecure_channel(self.server.address, options)
                calls = OverGrpc(channel, Service(channel, reflection.pool, SERVICE))
            workers.append(Worker(number, calls, random.Random(chance.random())))
        with ThreadPoolExecutor(WORKERS + 1) as pool:
            running = [pool.submit(worker.run, over) for worker in [*workers, neighbour]]
            # The first failure stops all workers.
            for done in running:
                done.add_done_callback(lambda _: over.set())
            over.wait(seconds)
            over.set()
            for done in running:
                done.result()
        reflection.close()
        for worker in workers:
            tally += worker.tally
        return tally

    def open_files(self) -> int:
        """Returns how many files and connections the server has open."""
        return len(os.listdir(f"/proc/{self.server.pid}/fd"))

    def wait_until(self, what: str, is_true: Callable[[], bool]) -> None:
        """Waits for a condition that must become true soon."""
        until = time.monotonic() + SOON_SECONDS
        while not is_true():
            self.assertLess(time.monotonic(), until, f"waited in vain until {what}")
            os.sched_yield()


class FewFilesTest(unittest.TestCase):
    """A server with a low limit of open files reserves some of them for its store."""

    def test_connections_leave_files_for_the_store(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="imagestore-")
        self.addCleanup(folder.cleanup)
        under = ("prlimit", f"--nofile={FEW_FILES}:{FEW_FILES}")
        server = Server(Path(folder.name) / "data", under=under)
        self.addCleanup(server.stop)
        rest = Rest(server.url)
        self.addCleanup(rest.close)
        rest.put("a", b"1")
        # One address can have seven eighths of the connections, and the caller above has one of them.
        few = FEW_FILES // 2
        crowd = [self.connect(server) for _ in range(few - few // 8 - 1)]
        for connection in crowd:
            self.assertEqual(self.get(connection, "/health/live"), (200, None))

        # The next connection gets a refusal, but a liveness probe is answered.
        self.assertEqual(self.get(self.connect(server), "/ImageStore?api-version=6.0"), (503, "1"))
        self.assertEqual(self.get(self.connect(server), "/health/live"), (200, None))
        # An accepted connection is served, although its calls need files.
        data = bytes(range(256)) * 1_000
        rest.put("b", data)
        self.assertEqual(rest.content("b"), data)

        crowd.pop().close()
        self.assertEqual(self.get_until_served(server), 200)

    def connect(self, server: Server) -> HTTPConnection:
        """Opens a connection."""
        connection = HTTPConnection(*server.endpoint, timeout=CALL_SECONDS)
        connection.connect()
        self.addCleanup(connection.close)
        return connection

    def get(self, connection: HTTPConnection, target: str) -> tuple[int, str | None]:
        """Requests a target; returns the status and `Retry-After`."""
        connection.request("GET", target)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers["Retry-After"]

    def get_until_served(self, server: Server) -> int:
        """Retries until the server has noticed that a connection was closed."""
        until = time.monotonic() + SOON_SECONDS
        while True:
            status, hint = self.get(self.connect(server), "/ImageStore?api-version=6.0")
            if hint is None or time.monotonic() > until:
                return status
