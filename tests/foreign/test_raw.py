"""Bytes on a socket: the requests as the documentation prints them, and uploads that break off."""

import socket
import struct
from http.client import HTTPResponse

from .server import ServerCase

SOCKET_SECONDS = 30

# The C# literal of the documentation has single backslashes, so the request is not valid JSON.
SAMPLE = (
    rb'{"RemoteSource":"CalcAppV1\CalcService\Data",'
    rb'"RemoteDestination":"CalcAppV3\CalcService\Data","SkipFiles":[],"CheckMarkFile":true}'
)
# The schema block of the documentation with values: a space before the keys, a comma before the closing brace.
SCHEMA = rb"""{
  " RemoteSource":"CalcAppV1\CalcService\Data",
  " RemoteDestination":"CalcAppV3\CalcService\Data",
  " SkipFiles":["skipped.txt"],
  " CheckMarkFile":true,
}"""
PROPER = (
    rb'{"RemoteSource":"CalcAppV1\\CalcService\\Data",'
    rb'"RemoteDestination":"CalcAppV3\\CalcService\\Data","SkipFiles":[],"CheckMarkFile":true}'
)

SOURCE = {"_.dir": b"", "data.bin": b"data", "sub/skipped.txt": b"skipped"}
COPY = "/ImageStore/$/Copy?api-version=1.0"


class RawCase(ServerCase):
    """A test with raw sockets."""

    def connect(self) -> socket.socket:
        """Opens a connection to the server."""
        connection = socket.create_connection(self.server.endpoint, timeout=SOCKET_SECONDS)
        self.addCleanup(connection.close)
        return connection

    def head(self, method: str, target: str, *headers: str) -> bytes:
        """Builds the head of a request."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.server.address}", *headers, "", ""]
        return "\r\n".join(lines).encode()

    def assert_empty_ok(self, connection: socket.socket) -> None:
        """Asserts that the response is a success without a body, with the headers of upstream."""
        answer = read_answer(connection)
        body = answer.read()
        self.assertEqual((answer.status, body), (200, b""))
        self.assertEqual(answer.headers["Content-Type"], "application/json; charset=utf-8")
        self.assertEqual(answer.headers["X-Content-Type-Options"], "nosniff")

    def assert_end_below(self, path: str, expected: dict[str, bytes]) -> None:
        """Asserts which files are stored, now and after a restart, when no upload can be in progress."""
        self.assertEqual(self.rest.tree(path), expected)
        self.restart()
        self.assertEqual(self.rest.tree(path), expected)


def read_answer(connection: socket.socket) -> HTTPResponse:
    """Reads the status and headers of a response, but not its body."""
    answer = HTTPResponse(connection)
    answer.begin()
    return answer


def read_head(connection: socket.socket) -> bytes:
    """Reads one head, and no byte after it."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            raise AssertionError(f"the connection ended after {head!r}")
        head += byte
    return head


def read_start(connection: socket.socket) -> bytes:
    """Reads version and status, or nothing if the server has closed the connection."""
    try:
        return connection.recv(len(b"HTTP/1.1 200"))
    except ConnectionResetError:
        return b""


class DocumentedCopy(RawCase):
    """The documented request, as the documentation prints it."""

    def setUp(self) -> None:
        super().setUp()
        self.rest.put_all({f"CalcAppV1/CalcService/Data/{k}": v for k, v in SOURCE.items()})

    def assert_copied(self, skipped: str | None = None) -> None:
        """Asserts that the source is at the destination."""
        self.assertEqual(
            self.rest.tree("CalcAppV3"),
            {f"CalcAppV3/CalcService/Data/{k}": v for k, v in SOURCE.items() if k != skipped},
        )

    def send_copy(self, body: bytes, target: str = COPY) -> None:
        """Sends a body in one piece and asserts that the copy succeeds."""
        connection = self.connect()
        length = f"Content-Length: {len(body)}"
        connection.sendall(self.head("POST", target, "Content-Type: text/json", length) + body)
        self.assert_empty_ok(connection)

    def test_the_sample_body_works_as_printed(self) -> None:
        self.send_copy(SAMPLE)
        self.assert_copied()

    def test_the_sample_body_works_after_100_continue(self) -> None:
        # As .NET's HttpWebRequest does: the head first, and the body after 100-continue.
        connection = self.connect()
        headers = [
            "Content-Type: text/json",
            f"Content-Length: {len(SAMPLE)}",
            "Expect: 100-continue",
            "Connection: Keep-Alive",
        ]
        for _ in range(2):
            connection.sendall(self.head("POST", COPY, *headers))
            self.assertTrue(read_head(connection).startswith(b"HTTP/1.1 100 "))
            connection.sendall(SAMPLE)
            self.assert_empty_ok(connection)
        self.assert_copied()

    def test_the_sample_body_works_byte_by_byte(self) -> None:
        connection = self.connect()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        length = f"Content-Length: {len(SAMPLE)}"
        request = self.head("POST", COPY, "Content-Type: text/json", length) + SAMPLE
        for byte in request:
            connection.sendall(bytes([byte]))
        self.assert_empty_ok(connection)
        self.assert_copied()

    def test_the_schema_block_works_with_values(self) -> None:
        self.send_copy(SCHEMA)
        self.assert_copied(skipped="sub/skipped.txt")

    def test_proper_json_works(self) -> None:
        self.send_copy(PROPER)
        self.assert_copied()

    def test_the_parameter_that_the_page_requires_is_ignored(self) -> None:
        self.send_copy(SAMPLE, f"{COPY}&remote-location=CalcAppV9%5CData&timeout=30")
        self.assert_copied()
        self.assertFalse(self.rest.exists("CalcAppV9"))

    def test_a_body_that_breaks_off_copies_nothing(self) -> None:
        connection = self.connect()
        length = f"Content-Length: {len(SAMPLE)}"
        head = self.head("POST", COPY, "Content-Type: text/json", length)
        connection.sendall(head + SAMPLE[:-1])
        connection.close()

        self.restart()
        self.assertFalse(self.rest.exists("CalcAppV3"))


class BrokenUpload(RawCase):
    """Uploads that break off."""

    TARGET = "/ImageStore/App/file.bin?api-version=6.0"

    def setUp(self) -> None:
        super().setUp()
        self.rest.put("App/kept.txt", b"kept")

    def send_part(self, headers: list[str], body: bytes) -> socket.socket:
        """Sends the head of an upload and a part of its body."""
        connection = self.connect()
        connection.sendall(self.head("PUT", self.TARGET, *headers) + body)
        return connection

    def test_a_body_shorter_than_its_length_leaves_no_file(self) -> None:
        for size in [1, 1_000, 10_000_000]:
            with self.subTest(size=size):
                connection = self.send_part([f"Content-Length: {size}"], bytes(size - 1))
                connection.shutdown(socket.SHUT_WR)
                # The server may respond or close the connection, but must not report a success.
                self.assertIn(read_start(connection), [b"", b"HTTP/1.1 400"])
                connection.close()
                self.assert_end_below("App", {"App/kept.txt": b"kept"})

    def test_a_body_that_never_ends_leaves_no_file(self) -> None:
        chunk = b"%x\r\n" % 1_000_000 + bytes(1_000_000) + b"\r\n"
        connection = self.send_part(["Transfer-Encoding: chunked"], chunk * 12)
        connection.close()
        self.assert_end_below("App", {"App/kept.txt": b"kept"})

    def test_a_dropped_connection_leaves_no_file(self) -> None:
        connection = self.send_part(["Content-Length: 20000000"], bytes(12_000_000))
        # With a linger of zero seconds, the close sends a reset.
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.close()
        self.assert_end_below("App", {"App/kept.txt": b"kept"})

    def test_a_broken_replacement_keeps_the_old_file(self) -> None:
        self.rest.put("App/file.bin", b"old")
        connection = self.send_part(["Content-Length: 1000"], bytes(999))
        connection.close()
        self.assert_end_below("App", {"App/kept.txt": b"kept", "App/file.bin": b"old"})

    def test_a_broken_chunk_is_not_in_its_session(self) -> None:
        session = "0d4a3f0e-9b1c-4c55-8a53-2f1d5c7b9e10"
        self.assertTrue(self.rest.put_chunk("App/big", session, "bytes 0-3/12", b"abcd").ok)
        target = f"/ImageStore/App/big/$/UploadChunk?api-version=6.0&session-id={session}"
        connection = self.connect()
        headers = ["Content-Length: 8", "Content-Range: bytes 4-11/12"]
        connection.sendall(self.head("PUT", target, *headers) + b"efgh")
        connection.close()

        self.restart()
        answer = self.rest.call("GET", "$/GetUploadSession", query={"session-id": session})
        ranges = answer.json()["UploadSessions"][0]["ExpectedRanges"]
        self.assertEqual(ranges, [{"StartPosition": "4", "EndPosition": "11"}])

    def test_a_refused_upload_is_answered(self) -> None:
        # `App` is a folder. The client sends its whole body before it reads the response.
        size = 8_000_000
        connection = self.connect()
        head = self.head("PUT", "/ImageStore/App?api-version=6.0", f"Content-Length: {size}")
        connection.sendall(head + bytes(size))
        answer = read_answer(connection)
        self.assertEqual(answer.status, 409)
        self.assertIn(b"FABRIC_E_NAME_ALREADY_EXISTS", answer.read())
        self.assertEqual(self.rest.tree(), {"App/kept.txt": b"kept"})

    def test_the_server_stops_while_uploads_stand_still(self) -> None:
        self.server.expect("cutting connections that have not ended")
        self.connect()
        self.send_part(["Content-Length: 1000"], bytes(500))
        self.assert_end_below("App", {"App/kept.txt": b"kept"})
