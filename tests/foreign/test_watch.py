"""Copies that run while other clients follow and cancel them, over REST and gRPC.

The disk does not answer, so a verifying copy runs until the test ends it.
"""

import json
import socket
import uuid
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urljoin, urlsplit

import grpc
import requests

from .command import StalledDisk
from .reflection import as_dict
from .test_grpc import GrpcCase
from .test_raw import RawCase, read_answer

SOURCE = {"V1/_.dir": b"", "V1/big": bytes(range(256)) * 1000, "V1/small": b"1"}
COPY = "/ImageStore/$/Copy?api-version=6.0"
EVENTS = "Accept: text/event-stream"


class Events:
    """A stream of server-sent events."""

    def __init__(self, answer: HTTPResponse) -> None:
        assert answer.status == 200, answer.read()
        assert answer.headers["Content-Type"] == "text/event-stream"
        self._answer = answer

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields the name and the operation of each event, until the stream ends."""
        fields: dict[str, str] = {}
        while line := self._answer.readline().decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif "data" in fields:
                operation = json.loads(fields["data"])
                # The id is that of the operation with a counter, or the number of the change.
                assert fields["id"].startswith((operation["Id"] + "-", "change-")), fields
                yield fields["event"], operation
                fields = {}

    def next(self) -> tuple[str, dict[str, Any]]:
        """Waits for the next event."""
        return next(iter(self))

    def done(self) -> dict[str, Any]:
        """Waits for the end of an operation."""
        return next(operation for name, operation in self if name == "done")


class LongCopy(RawCase, GrpcCase):
    """A test with a source folder, a destination folder, and a disk that does not answer."""

    def setUp(self) -> None:
        super().setUp()
        self.rest.put_all(SOURCE | {"V2/old": b"old"})
        self.enterContext(StalledDisk(self.server.data))
        self.operation = str(uuid.uuid4())

    def post_copy(self, *headers: str, query: str = "", **fields: Any) -> socket.socket:
        """Requests the copy, without reading the response."""
        body = json.dumps(
            {"RemoteSource": "V1", "RemoteDestination": "V2", "Verify": True}
            | {"OperationId": self.operation} | fields
        ).encode()
        connection = self.connect()
        length = f"Content-Length: {len(body)}"
        connection.sendall(self.head("POST", COPY + query, length, *headers) + body)
        return connection

    def follow(self, call: str = "$/Operations", *headers: str) -> Events:
        """Follows all operations, or one."""
        connection = self.connect()
        connection.sendall(self.head("GET", f"/ImageStore/{call}", EVENTS, *headers))
        return Events(read_answer(connection))

    def assert_begins(self, events: Events) -> None:
        """Waits for the event of the running copy."""
        name, operation = events.next()
        self.assertEqual((name, operation["Id"]), ("progress", self.operation))
        self.assertEqual(
            (operation["Kind"], operation["State"], operation["FilesTotal"], operation["Error"]),
            ("Copy", "Running", str(len(SOURCE)), None),
        )

    def assert_cancelled(self, events: Events, *codes: str) -> None:
        """Waits until the copy is cancelled, and asserts that the destination is unchanged."""
        operation = events.done()
        self.assertEqual((operation["Id"], operation["State"]), (self.operation, "Cancelled"))
        self.assertIn(operation["Error"]["Code"], codes or ["E_ABORT"])
        self.assertTrue(operation["Error"]["Message"])
        self.assertEqual(operation, self.rest.call("GET", self.call()).json())
        self.assertEqual(self.rest.listing("V2").files, {"V2/old": 3})

    def assert_runs(self) -> None:
        """Asserts that the copy still runs."""
        self.assertEqual(self.rest.call("GET", self.call()).json()["State"], "Running")

    def call(self, suffix: str = "") -> str:
        """The REST call of the operation."""
        return f"$/Operations/{self.operation}{suffix}"

    def cancel(self) -> requests.Response:
        """Cancels the copy over REST."""
        return self.rest.call("POST", self.call("/$/Cancel"))

    def assert_error(self, answer: HTTPResponse, status: int, code: str) -> None:
        """Asserts that a response is an error with this status and code."""
        error = json.loads(answer.read())["Error"]
        self.assertEqual((answer.status, error["Code"]), (status, code))
        self.assertTrue(error["Message"])


class OverRest(LongCopy):
    """Copies that were requested over REST."""

    def test_a_plain_caller_hears_that_another_cancelled_it(self) -> None:
        events = self.follow()
        copy = self.post_copy()
        self.assert_begins(events)

        answer = self.cancel()

        self.assertEqual((answer.status_code, answer.json()["State"]), (200, "Cancelled"))
        self.assert_error(read_answer(copy), 409, "E_ABORT")
        self.assert_cancelled(events)
        again = self.cancel()
        code = again.json()["Error"]["Code"]
        self.assertEqual((again.status_code, code), (409, "FABRIC_E_INVALID_OPERATION"))

    def test_a_plain_caller_that_hangs_up_cancels_it(self) -> None:
        events = self.follow()
        copy = self.post_copy()
        self.assert_begins(events)

        copy.close()

        self.assert_cancelled(events)

    def test_the_timeout_of_the_caller_cancels_it(self) -> None:
        events = self.follow()
        copy = self.post_copy(query="&timeout=4")
        self.assert_begins(events)

        self.assert_error(read_answer(copy), 504, "FABRIC_E_TIMEOUT")

        self.assert_cancelled(events, "FABRIC_E_TIMEOUT")

    def test_a_caller_with_events_sees_it_begin_and_end(self) -> None:
        copy = Events(read_answer(self.post_copy(EVENTS)))
        self.assert_begins(copy)

        self.cancel()

        self.assert_cancelled(copy)
        self.assertEqual(list(copy), [])

    def test_a_caller_with_events_that_hangs_up_cancels_it(self) -> None:
        events = self.follow()
        copy = self.post_copy(EVENTS)
        self.assert_begins(Events(read_answer(copy)))
        self.assert_begins(events)

        copy.close()

        self.assert_cancelled(events)

    def test_an_asynchronous_caller_is_told_where_to_look(self) -> None:
        connection = self.post_copy("Prefer: respond-async")
        answer = read_answer(connection)
        begun = json.loads(answer.read())
        connection.close()

        self.assertEqual((answer.status, begun["State"]), (202, "Running"))
        location = urljoin(f"{self.server.url}{COPY}", answer.headers["Location"])
        self.assertEqual(urlsplit(location).path, f"/ImageStore/{self.call()}")
        self.assert_runs()
        events = self.follow(self.call())
        self.assert_begins(events)
        self.cancel()
        self.assert_cancelled(events)
        self.assertEqual(list(events), [])

    def test_a_watcher_that_comes_again_gets_the_state_now(self) -> None:
        read_answer(self.post_copy("Prefer: respond-async"))
        self.assert_begins(self.follow(self.call()))
        self.cancel()

        again = self.follow(self.call(), f"Last-Event-ID: {self.operation}-1")

        self.assert_cancelled(again)

    def test_a_repeated_request_follows_it_and_leaves_it(self) -> None:
        read_answer(self.post_copy("Prefer: respond-async"))
        again = self.post_copy(EVENTS)
        self.assert_begins(Events(read_answer(again)))
        other = self.post_copy(RemoteDestination="V3")
        self.assert_error(read_answer(other), 409, "FABRIC_E_WRITE_CONFLICT")

        again.close()

        self.assert_runs()
        events = self.follow()
        self.assert_begins(events)
        self.cancel()
        self.assert_cancelled(events)


class OverGrpc(LongCopy):
    """Copies that were requested over gRPC."""

    def copy(self, **fields: Any) -> Any:
        """Begins the copy and waits until it runs."""
        copy = self.store.call(
            "Copy", source="V1", destination="V2", verify=True, operation_id=self.operation, **fields
        )
        self.assertEqual(as_dict(next(copy))["state"], "OPERATION_STATE_RUNNING")
        return copy

    def assert_ends(self, call: Any, code: grpc.StatusCode) -> None:
        """Asserts that a call fails with this code."""
        with self.assertRaises(grpc.RpcError) as caught:
            list(call)
        self.assertEqual(caught.exception.code(), code, caught.exception.details())

    def test_another_client_cancels_it(self) -> None:
        events = self.follow()
        copy = self.copy()
        watch = self.store.call("WatchOperation", id=self.operation)
        all_watch = self.store.call("WatchOperations")
        self.assertEqual(next(all_watch).id, self.operation)

        cancelled = as_dict(self.store.call("CancelOperation", id=self.operation))

        self.assertEqual(cancelled["state"], "OPERATION_STATE_CANCELLED")
        self.assert_ends(copy, grpc.StatusCode.CANCELLED)
        # The watch of an operation that did not succeed ends with OK.
        self.assertEqual(as_dict(list(watch)[-1]), cancelled)
        self.assertIn(cancelled, map(as_dict, all_watch))
        self.assert_cancelled(events)
        self.assert_fails(
            grpc.StatusCode.FAILED_PRECONDITION, "FINISHED",
            self.store.call, "CancelOperation", id=self.operation,
        )

    def test_a_caller_that_leaves_cancels_it(self) -> None:
        events = self.follow()
        self.copy().cancel()
        self.assert_cancelled(events)

    def test_a_caller_that_leaves_a_detached_one_does_not(self) -> None:
        events = self.follow()
        self.copy(detached=True).cancel()
        self.assert_begins(events)

        # The repeated request follows the first copy, and its cancellation does not cancel that copy.
        self.copy(detached=True).cancel()

        self.assert_runs()
        self.cancel()
        self.assert_cancelled(events)

    def test_the_deadline_of_the_caller_cancels_it(self) -> None:
        events = self.follow()
        self.store.deadline_seconds = 1
        self.assert_ends(self.copy(), grpc.StatusCode.DEADLINE_EXCEEDED)
        # The client disconnects at the moment when the server's deadline is exceeded, so either may come first.
        self.assert_cancelled(events, "FABRIC_E_TIMEOUT", "E_ABORT")
