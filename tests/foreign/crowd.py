"""A crowd of clients: stalled clients of every kind, and workers that use the server meanwhile.

A stalled client sends a part of a request, or a whole one, and then neither sends nor reads; when the server closes
its connection, it connects again at once. A worker knows the content of its own folders and compares it with
the server's responses. It accepts only success, or a refusal that says when to retry.
"""

import json
import random
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any, Protocol
from urllib.parse import quote

import grpc
from google.rpc.error_details_pb2 import RetryInfo

from .crash import LARGE_POOL, POOL, Files
from .reflection import CALL_SECONDS, Service, details

# Larger than all buffers between the server and a client.
BIG_FILE = "big"
BIG_BYTES = 24 << 20
MESSAGE_BYTES = 64 * 1024
FRAME_BYTES = 16 * 1024
# A client that cannot detect a broken connection connects again after this time.
STALLED_SECONDS = 90
# Small, so that the server soon detects that a client does not read.
RECEIVE_BYTES = 4096

HOST = "Host: localhost\r\n"
# The source address of stalled clients: another one than that of the workers.
ELSEWHERE = ("127.0.0.2", 0)
UPLOAD = "/imagestore.v1.ImageStore/Upload"
BACKUP = "/imagestore.v1.ImageStore/Backup"
STAT = "/imagestore.v1.ImageStore/Stat"
HEALTH = "/grpc.health.v1.Health/Check"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE = 0, 1, 3, 4, 8
SETTINGS_INITIAL_WINDOW_SIZE = 4
# The first byte of a response head with status 200: an entry of HPACK's static table.
STATUS_200 = 0x88
END_STREAM, END_HEADERS = 1, 4
ACK = 1


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """An HTTP/2 frame."""
    head = len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4)
    return head + payload


def call_head(stream: int, method: str, path: str, flags: int, **fields: str) -> bytes:
    """The HEADERS frame of a call."""
    names = {":method": method, ":scheme": "http", ":path": path, ":authority": "localhost"}
    block = b""
    for name, value in (names | {key.replace("_", "-"): text for key, text in fields.items()}).items():
        block += b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
    return frame(HEADERS, flags | END_HEADERS, stream, block)


def head(method: str, path: str, flags: int, **fields: str) -> bytes:
    """The frames that begin an HTTP/2 connection and its first call."""
    return HTTP2 + frame(SETTINGS, 0, 0, b"") + call_head(1, method, path, flags, **fields)


def rpc_head(path: str) -> bytes:
    """The frames that begin an HTTP/2 connection and its first gRPC call."""
    return head("POST", path, 0, content_type="application/grpc", te="trailers")


def no_room(path: str, calls: int) -> bytes:
    """The frames of many downloads by a client whose flow-control window stays zero."""
    setting = SETTINGS_INITIAL_WINDOW_SIZE.to_bytes(2) + bytes(4)
    heads = (call_head(2 * n + 1, "GET", path, END_STREAM) for n in range(calls))
    return HTTP2 + frame(SETTINGS, 0, 0, setting) + b"".join(heads)


def half_message(size: int, sent: int) -> list[bytes]:
    """The first `sent` bytes of a gRPC message of `size` bytes, in pieces."""
    some = b"\0" + size.to_bytes(4) + bytes(sent)
    return [some[at : at + FRAME_BYTES] for at in range(0, len(some), FRAME_BYTES)]


def half_call(path: str, size: int) -> bytes:
    """The beginning of a gRPC call with half of a message."""
    pieces = half_message(size, size // 2)
    return rpc_head(path) + b"".join(frame(DATA, 0, 1, piece) for piece in pieces)


def upload_pieces(number: int, size: int, sent: int) -> list[bytes]:
    """The body of a gRPC upload in pieces: its header, and the first `sent` bytes of a message of `size` bytes."""
    path = f"stalled/{number}".encode()
    header = b"\x0a" + bytes([len(path)]) + path
    message = b"\x0a" + bytes([len(header)]) + header
    first = b"\0" + len(message).to_bytes(4) + message
    some = b"\0" + size.to_bytes(4) + b"\x12" + bytes(sent)
    return [first, *(some[at : at + FRAME_BYTES] for at in range(0, len(some), FRAME_BYTES))]


def half_upload(number: int) -> bytes:
    """The beginning of a gRPC upload with half of a message."""
    pieces = upload_pieces(number, MESSAGE_BYTES, MESSAGE_BYTES // 2)
    return rpc_head(UPLOAD) + b"".join(frame(DATA, 0, 1, piece) for piece in pieces)


class Http2:
    """An HTTP/2 connection with one call, which respects the flow-control windows of the server."""

    def __init__(self, endpoint: tuple[str, int], begin: bytes, pieces: list[bytes]) -> None:
        self._socket = socket.create_connection(endpoint, CALL_SECONDS, ELSEWHERE)
        self._pieces = pieces
        # The windows of the connection and of the call.
        self._windows = {0: 65_535, 1: 0}
        self._received = b""
        # The first byte of the response head, which shows whether the status is 200.
        self.answer: int | None = None
        # Whether the server has reset the call and accepts no more bytes.
        self.is_reset = False
        self._socket.sendall(begin)

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()

    def step(self) -> None:
        """Reads the available frames, and sends as much as the windows allow."""
        self._receive()
        while self._pieces and min(self._windows.values()) >= len(self._pieces[0]):
            piece = self._pieces.pop(0)
            self._socket.sendall(frame(DATA, 0, 1, piece))
            for stream in self._windows:
                self._windows[stream] -= len(piece)

    @property
    def has_sent_all(self) -> bool:
        """Whether all pieces have been sent."""
        return not self._pieces

    def _receive(self) -> None:
        if not select.select([self._socket], [], [], 0)[0]:
            return
        self._received += self._socket.recv(FRAME_BYTES)
        while len(self._received) >= 9:
            size, kind, flags = int.from_bytes(self._received[:3]), *self._received[3:5]
            stream, payload = int.from_bytes(self._received[5:9]), self._received[9 : 9 + size]
            if len(payload) < size:
                return
            self._received = self._received[9 + size :]
            if kind == HEADERS and self.answer is None:
                self.answer = payload[0]
            self.is_reset |= kind == RST_STREAM
            if kind == WINDOW_UPDATE:
                self._windows[stream] += int.from_bytes(payload)
            if kind == SETTINGS and not flags & ACK:
                # New windows are valid from the acknowledgement of the client on.
                self._socket.sendall(frame(SETTINGS, ACK, 0, b""))
                for at in range(0, size, 6):
                    if int.from_bytes(payload[at : at + 2]) == SETTINGS_INITIAL_WINDOW_SIZE:
                        self._windows[1] += int.from_bytes(payload[at + 2 : at + 6])


def large_half(endpoint: tuple[str, int], number: int, size: int, sent: int) -> Http2:
    """Begins a gRPC upload that sends a part of a large message."""
    return Http2(endpoint, rpc_head(UPLOAD), upload_pieces(number, size, sent))


def half_body(line: str, size: int, fields: str = "") -> bytes:
    """A request with the first half of its body."""
    text = f"{line} HTTP/1.1\r\n{HOST}{fields}Content-Length: {size}\r\n\r\n"
    return text.encode() + b"{" * (size // 2)


def chunk(number: int) -> bytes:
    """The beginning of a chunk of an upload session."""
    session = f"00000000-0000-4000-8000-{number + 1:012}"
    line = f"PUT /ImageStore/stalled/{number}/$/UploadChunk?api-version=6.0&session-id={session}"
    return half_body(line, 100_000, "Content-Range: bytes 0-99999/200000\r\n")


def get(path: str, fields: str = "") -> bytes:
    """A whole GET request."""
    return f"GET {path} HTTP/1.1\r\n{HOST}{fields}\r\n".encode()


CONTENT = f"/ImageStore/{BIG_FILE}/$/Content"
EVENTS = "Accept: text/event-stream\r\n"
KINDS: list[Callable[[int], bytes]] = [
    lambda n: f"PUT /ImageStore/stalled/{n} HTTP/1.1\r\nHost: ".encode(),
    lambda n: half_body(f"PUT /ImageStore/stalled/{n}?api-version=6.0", 600_000),
    lambda n: half_body("POST /ImageStore/$/Copy?api-version=6.0", 200_000),
    chunk,
    half_upload,
    lambda _: half_call(HEALTH, 1_000),
    lambda _: half_call(BACKUP, MESSAGE_BYTES),
    lambda _: half_call(STAT, MESSAGE_BYTES),
    lambda _: get(CONTENT),
    lambda _: head("GET", CONTENT, END_STREAM),
    lambda _: get("/ImageStore/$/Operations", EVENTS),
    lambda _: get("/health"),
    lambda _: head("GET", "/health", END_STREAM),
]


class Stalled:
    """Some stalled clients."""

    def __init__(self, endpoint: tuple[str, int], count: int) -> None:
        self._endpoint = endpoint
        self._poll = select.epoll()
        self._open: dict[int, tuple[socket.socket, int, float]] = {}
        self._over = threading.Event()
        self.cut = 0
        for number in range(count):
            self._begin(number)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def rest(self) -> None:
        """Stops reconnecting clients whose connections have ended."""
        self._over.set()
        self._thread.join()

    def close(self) -> None:
        """Closes all connections. Can be called again."""
        self.rest()
        for connection, _, _ in self._open.values():
            connection.close()
        self._open.clear()
        if not self._poll.closed:
            self._poll.close()

    def _begin(self, number: int) -> None:
        connection = socket.socket()
        connection.settimeout(CALL_SECONDS)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        try:
            connection.bind(ELSEWHERE)
            connection.connect(self._endpoint)
            connection.sendall(KINDS[number % len(KINDS)](number))
        except (BrokenPipeError, ConnectionResetError):
            # The server refused the client before it had sent all; the next poll detects the closed connection.
            pass
        self._open[connection.fileno()] = (connection, number, time.monotonic())
        # Only for a closed connection, not for data: the clients do not read.
        self._poll.register(connection, select.EPOLLRDHUP)

    def _run(self) -> None:
        while not self._over.is_set():
            ended = {number for number, _ in self._poll.poll(timeout=0.1)}
            self.cut += len(ended)
            old = time.monotonic() - STALLED_SECONDS
            ended |= {number for number, (_, _, begun) in self._open.items() if begun < old}
            for descriptor in ended:
                connection, number, _ = self._open.pop(descriptor)
                self._poll.unregister(connection)
                connection.close()
                self._begin(number)


@dataclass
class Tally:
    """The calls that workers have made."""

    calls: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    longest: dict[str, float] = field(default_factory=dict)

    def __iadd__(self, other: "Tally") -> "Tally":
        self.calls += other.calls
        self.refused += other.refused
        for name, seconds in other.longest.items():
            self.note(name, seconds)
        return self

    def note(self, name: str, seconds: float) -> None:
        """Records the duration of a call if it is the longest so far."""
        self.longest[name] = max(seconds, self.longest.get(name, 0))


class Busy(Exception):
    """The server refused a call and said when to retry."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"busy, come again in {seconds} s")
        self.seconds = seconds


class OverRest:
    """The calls of a worker over REST."""

    def __init__(self, endpoint: tuple[str, int], source: str = "127.0.0.1") -> None:
        self._connection = HTTPConnection(
            *endpoint, timeout=CALL_SECONDS, source_address=(source, 0)
        )

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def upload(self, path: str, data: bytes) -> None:
        """Stores a file."""
        self._call("PUT", path, data)

    def download(self, path: str) -> bytes:
        """Returns the bytes of a file."""
        return self._call("GET", f"{path}/$/Content")

    def copy(self, source: str, destination: str, skip: list[str], verify: bool) -> None:
        """Copies a folder."""
        body = {
            "RemoteSource": source,
            "RemoteDestination": destination,
            "SkipFiles": skip,
            "Verify": verify,
        }
        self._call("POST", "$/Copy", json.dumps(body).encode())

    def list(self, path: str) -> set[str]:
        """Returns the files of a folder."""
        page = json.loads(self._call("GET", path))
        return {file["StoreRelativePath"] for file in page["StoreFiles"]}

    def delete(self, path: str) -> None:
        """Deletes a path."""
        self._call("DELETE", path)

    def _call(self, method: str, path: str, body: bytes = b"") -> bytes:
        target = f"/ImageStore/{quote(path, safe='/$')}?api-version=6.0"
        self._connection.request(method, target, body)
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status in (429, 503):
            raise Busy(float(answer.headers["Retry-After"]))
        assert answer.status == 200, (method, path, answer.status, data)
        return data


class OverGrpc:
    """The calls of a worker over gRPC, on a connection of its own."""

    def __init__(self, channel: grpc.Channel, service: Service) -> None:
        self._channel = channel
        self._service = service

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def upload(self, path: str, data: bytes) -> None:
        """Stores a file."""
        pieces = [data[at : at + MESSAGE_BYTES] for at in range(0, len(data), MESSAGE_BYTES)]
        messages = [{"header": {"path": path}}, *({"data": piece} for piece in pieces)]
        self._call("Upload", messages)

    def download(self, path: str) -> bytes:
        """Returns the bytes of a file."""
        return b"".join(message.data for message in self._stream("Download", path=path))

    def copy(self, source: str, destination: str, skip: list[str], verify: bool) -> None:
        """Copies a folder."""
        *_, _last = self._stream(
            "Copy", source=source, destination=destination, skip_files=skip, verify=verify
        )

    def list(self, path: str) -> set[str]:
        """Returns the files of a folder."""
        return {entry.path for entry in self._call("List", path=path).entries}

    def delete(self, path: str) -> None:
        """Deletes a path."""
        self._call("Delete", path=path)

    def _call(self, method: str, request: Any = None, **fields: Any) -> Any:
        try:
            return self._service.call(method, request, **fields)
        except grpc.RpcError as error:
            raise refusal(error) from error

    def _stream(self, method: str, **fields: Any) -> Iterator[Any]:
        try:
            yield from self._service.call(method, **fields)
        except grpc.RpcError as error:
            raise refusal(error) from error


def refusal(error: grpc.RpcError) -> Exception:
    """Converts a refusal that says when to retry to `Busy`, and returns any other error unchanged."""
    if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
        return error
    hint = details(error).get(RetryInfo)
    return error if hint is None else Busy(hint.retry_delay.ToTimedelta().total_seconds())


class Over(Protocol):
    """A flag that tells a worker to stop."""

    def is_set(self) -> bool:
        """Whether the worker should stop."""


class Worker:
    """A worker: uploads, downloads, copies, lists and deletes in folders of its own."""

    def __init__(self, number: int, calls: OverRest | OverGrpc, chance: random.Random) -> None:
        self._folder = f"w{number}"
        self._copy = f"c{number}"
        self._calls = calls
        self._chance = chance
        self._files: Files = {}
        self.tally = Tally()

    def run(self, over: Over) -> None:
        """Works until the flag is set."""
        steps = [self._upload] * 4 + [self._download] * 4 + [self._copied] * 2 + [self._list] * 2
        self._upload()
        while not over.is_set():
            self._chance.choice([*steps, self._delete])()
        self._calls.close()

    def _upload(self) -> None:
        path = f"{self._folder}/f{self._chance.randrange(8)}"
        pool = LARGE_POOL if self._chance.random() < 0.02 else POOL
        data = self._chance.choice(pool)
        self._call("upload", lambda: self._calls.upload(path, data))
        self._files[path] = data

    def _download(self) -> None:
        path = self._chance.choice(list(self._files))
        data = self._call("download", lambda: self._calls.download(path))
        assert data == self._files[path], f"{path} has {len(data)} bytes, and not its own"

    def _copied(self) -> None:
        skip = self._chance.choice([[], ["F1"], ["f2", "f3"]])
        verify = self._chance.random() < 0.2
        kept = {path for path in self._files if path.rpartition("/")[2] not in str(skip).lower()}
        if not kept:
            return
        self._call("copy", lambda: self._calls.copy(self._folder, self._copy, skip, verify))
        found = self._call("list", lambda: self._calls.list(self._copy))
        assert found == {path.replace(self._folder, self._copy, 1) for path in kept}, found
        self._call("delete", lambda: self._calls.delete(self._copy))

    def _list(self) -> None:
        found = self._call("list", lambda: self._calls.list(self._folder))
        assert found == set(self._files), found

    def _delete(self) -> None:
        if len(self._files) > 1:
            path = self._chance.choice(list(self._files))
            self._call("delete", lambda: self._calls.delete(path))
            del self._files[path]

    def _call(self, name: str, call: Callable[[], Any]) -> Any:
        while True:
            begun = time.monotonic()
            try:
                return call()
            except Busy as busy:
                self.tally.refused += 1
                # The pause that the server requested.
                threading.Event().wait(busy.seconds)
            finally:
                self.tally.calls[name] += 1
                self.tally.note(name, time.monotonic() - begun)
