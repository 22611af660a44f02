"""Hundreds of callers that give up, and the states that the server then reports and keeps.

While the disk does not answer, no verifying copy can end. So a copy that becomes visible after its caller was told
that it has failed contradicts the response, however fast or slow the machine is.
"""

import os
import random
import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc

from .command import StalledDisk
from .reflection import Service
from .test_grpc import SERVICE, GrpcCase

SOURCE = {f"src/{n}": bytes([n]) * 100_000 for n in range(8)}
CALLERS = 4
COPIES_EACH = 100
# From before the begin of a copy to long after it.
DEADLINE_SECONDS = (0.001, 0.2)
CANCELS = 200
# From before the arrival of the call to after its response.
CANCEL_SECONDS = (0.0002, 0.003)
WRITERS = 2
CANCELLED, SUCCEEDED = "OPERATION_STATE_CANCELLED", "OPERATION_STATE_SUCCEEDED"


class Writers:
    """Clients that keep the writer of the database busy."""

    def __init__(self, services: list[Service]) -> None:
        self._is_over = threading.Event()
        self._pool = ThreadPoolExecutor(len(services))
        self._runs = [self._pool.submit(self._write, service) for service in services]

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for run in self._runs:
            run.result()
        self._pool.shutdown()

    def _write(self, service: Service) -> None:
        while not self._is_over.is_set():
            path = f"noise/{uuid.uuid4()}"
            service.call("Upload", [{"header": {"path": path}}, {"data": os.urandom(200)}])


class GivenUp(GrpcCase):
    """Calls whose callers do not wait for the end."""

    def setUp(self) -> None:
        super().setUp()
        self.rest.put_all(SOURCE)
        seed = int(os.environ.get("TEST_SEED") or random.SystemRandom().randrange(2**32))
        print(f"deadlines: TEST_SEED={seed}", flush=True)
        self._seed = seed

    def service(self) -> Service:
        """A client with a connection of its own."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.insecure_channel(self.server.address, options)
        self.addCleanup(channel.close)
        return Service(channel, self.reflection.pool, SERVICE)

    def writers(self) -> Writers:
        """Clients that write at the same time."""
        return Writers([self.service() for _ in range(WRITERS)])

    def give_up_copies(self) -> dict[str, str]:
        """Starts copies by callers with deadlines. Returns the status that each caller got, by the operation's id."""
        def copy_some(caller: int) -> dict[str, str]:
            chance, service = random.Random(self._seed + caller), self.service()
            told = {}
            for _ in range(COPIES_EACH):
                operation = str(uuid.uuid4())
                service.deadline_seconds = chance.uniform(*DEADLINE_SECONDS)
                try:
                    list(
                        service.call(
                            "Copy", source="src", destination=f"to/{operation}", verify=True,
                            operation_id=operation,
                        )
                    )
                    told[operation] = "OK"
                except grpc.RpcError as error:
                    told[operation] = error.code().name
            return told

        with ThreadPoolExecutor(CALLERS) as pool:
            return {
                operation: code
                for told in pool.map(copy_some, range(CALLERS))
                for operation, code in told.items()
            }

    def state(self, operation: str, method: str = "GetOperation") -> str | None:
        """The state of an operation, from its row or from a watch; `None` if the operation never began."""
        try:
            answer = self.store.call(method, id=operation)
            last = list(answer)[-1] if isinstance(answer, grpc.Call) else answer
        except grpc.RpcError as error:
            self.assertEqual(error.code(), grpc.StatusCode.NOT_FOUND, error.details())
            return None
        return str(last.DESCRIPTOR.fields_by_name["state"].enum_type.values_by_number[last.state].name)

    def is_visible(self, operation: str) -> bool:
        """Whether the destination folder of an operation exists."""
        return self.rest.exists(f"to/{operation}")

    def rows(self, state: str) -> set[str]:
        """The operations that have this state in their rows."""
        found: set[str] = set()
        token = ""
        while True:
            page = self.store.call("ListOperations", state=state, page_token=token)
            found |= {operation.id for operation in page.operations}
            token = page.next_page_token
            if not token:
                return found

    def assert_agrees(self, ends: dict[str, str | None]) -> None:
        """Asserts that rows, responses and destinations agree about ended operations."""
        cancelled, succeeded = self.rows(CANCELLED), self.rows(SUCCEEDED)
        for operation, end in ends.items():
            self.assertIn(end, [CANCELLED, SUCCEEDED, None], operation)
            self.assertEqual(self.state(operation), end, operation)
            self.assertEqual(operation in cancelled, end == CANCELLED, operation)
            self.assertEqual(operation in succeeded, end == SUCCEEDED, operation)
            self.assertEqual(self.is_visible(operation), end == SUCCEEDED, operation)

    def assert_stays(self, ends: dict[str, str | None]) -> None:
        """Asserts the same now and after a restart."""
        self.assert_agrees(ends)
        self.restart()
        self.reflection.close()
        self.store = self.service()
        self.assert_agrees(ends)

    def test_nothing_appears_after_a_deadline(self) -> None:
        with StalledDisk(self.server.data), self.writers():
            told = self.give_up_copies()
            for operation in told:
                self.assertFalse(self.is_visible(operation), operation)
        self.assertEqual(Counter(told.values()), {"DEADLINE_EXCEEDED": CALLERS * COPIES_EACH})

        ends = {operation: self.state(operation, "WatchOperation") for operation in told}

        self.assertNotIn(SUCCEEDED, ends.values())
        self.assertIn(CANCELLED, ends.values())
        self.assert_stays(ends)

    def test_what_callers_were_told_is_so(self) -> None:
        with self.writers():
            told = self.give_up_copies()
        ends = {operation: self.state(operation, "WatchOperation") for operation in told}

        for operation, code in told.items():
            if code == "OK":
                self.assertEqual(ends[operation], SUCCEEDED, operation)
        self.assert_stays(ends)

    def test_a_cancel_whose_caller_leaves_is_whole_or_nothing(self) -> None:
        chance, hasty = random.Random(self._seed), self.service()
        seen: dict[str, str | None] = {}
        with StalledDisk(self.server.data):
            for _ in range(CANCELS):
                operation = str(uuid.uuid4())
                copy = self.store.call(
                    "Copy", source="src", destination=f"to/{operation}", verify=True, detached=True,
                    operation_id=operation,
                )
                next(copy)
                copy.cancel()
                hasty.deadline_seconds = chance.uniform(*CANCEL_SECONDS)
                call = hasty.start("CancelOperation", id=operation)
                was_told = call.code() == grpc.StatusCode.OK
                in_row = operation in self.rows(CANCELLED)
                seen[operation] = self.state(operation)
                if was_told or in_row:
                    self.assertEqual(seen[operation], CANCELLED, operation)
                # The copy ends here, so that the number of running copies stays below its bound.
                last = self.store.start("CancelOperation", id=operation).code()
                self.assertIn(last, [grpc.StatusCode.OK, grpc.StatusCode.FAILED_PRECONDITION])
        ends = {operation: self.state(operation, "WatchOperation") for operation in seen}

        self.assertEqual(set(ends.values()), {CANCELLED})
        self.assert_stays(ends)
