"""Clients that attack the server, each in one way, until the test ends.

All have one source address, so the server sees one peer. They run in a process of their own, so that they
are as fast as possible. After any response and any closed connection they try again.
"""

import json
import multiprocessing
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from multiprocessing.synchronize import Event

import h2.connection
import h2.events
import h2.exceptions
import h2.settings

# Another address than that of the workers.
SOURCE = ("127.0.0.2", 0)
SERVICE = "/imagestore.v1.ImageStore/"
HEALTH = "/grpc.health.v1.Health/"
MIB = 1 << 20
# The largest message and body that the server accepts: src/limits.rs.
LARGEST_BYTES = 4 * MIB
WINDOW_BYTES = 64 * 1024 - 1
# The largest frame that the server accepts.
FRAME_BYTES = 16 * 1024
READ_BYTES = 64 * 1024
SECONDS = 5
START_SECONDS = 60
# The pause between two attempts.
PAUSE_SECONDS = 0.2
# A folder in which copies search for the names of their skip lists.
WIDE = "wide"
WIDE_FOLDERS = 300
BIG_FILE = "big"

Endpoint = tuple[str, int]


class Connection:
    """An HTTP/2 connection with many calls, which respects the flow-control windows of the server."""

    def __init__(self, endpoint: Endpoint, window: int | None = None) -> None:
        self._socket = socket.create_connection(endpoint, SECONDS, SOURCE)
        self._state = h2.connection.H2Connection()
        self._state.initiate_connection()
        if window is not None:
            self._state.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        # The unsent bytes of each call that the server has not reset.
        self._bodies: dict[int, memoryview] = {}
        # The calls whose body ends after these bytes.
        self._ending: set[int] = set()
        self._flush()

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()

    def begin(
        self, method: str, path: str, body: bytes = b"", ends: bool = False, **fields: str
    ) -> None:
        """Begins a call without a body, or with a body that ends after these bytes only if `ends` is set."""
        head = {":method": method, ":scheme": "http", ":path": path, ":authority": "localhost"}
        fields = {name.replace("_", "-"): text for name, text in fields.items()}
        number = self._state.get_next_available_stream_id()
        self._state.send_headers(number, [*(head | fields).items()], end_stream=not body)
        if body:
            self._bodies[number] = memoryview(body)
            if ends:
                self._ending.add(number)
        self._flush()

    def begin_raw(self, method: str, path: str, frames: Callable[[int], bytes]) -> None:
        """Begins a call and sends raw frames for its stream, for which the library is too slow or too strict."""
        self.begin(method, path, b"x")
        self._socket.sendall(frames(self._state.highest_outbound_stream_id))

    def step(self) -> bool:
        """Sends as much as the windows allow, and reads what has arrived. Returns whether a call is still open."""
        for number, body in self._bodies.items():
            window = self._state.local_flow_control_window(number)
            size = min(window, self._state.max_outbound_frame_size, len(body))
            if size > 0:
                ends = size == len(body) and number in self._ending
                self._state.send_data(number, bytes(body[:size]), end_stream=ends)
                self._bodies[number] = body[size:]
        self._flush()
        self._receive()
        return self._state.open_outbound_streams > 0

    def _receive(self) -> None:
        self._socket.settimeout(PAUSE_SECONDS / 10)
        try:
            data = self._socket.recv(READ_BYTES)
        except TimeoutError:
            return
        finally:
            self._socket.settimeout(SECONDS)
        if not data:
            raise ConnectionResetError
        for event in self._state.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                size = event.flow_controlled_length
                self._state.acknowledge_received_data(size, event.stream_id)
            # A call continues to send after a response; only a reset stops it.
            if isinstance(event, h2.events.StreamReset):
                self._bodies.pop(event.stream_id, None)
            if isinstance(event, h2.events.ConnectionTerminated):
                raise ConnectionResetError
        self._flush()

    def _flush(self) -> None:
        self._socket.sendall(self._state.data_to_send())


def half_messages(path: str) -> Callable[[Endpoint, Event], None]:
    """In each of 40 calls sends most of a message of the largest size, and never the rest."""
    message = b"\0" + struct.pack(">I", LARGEST_BYTES) + b"\x0a" * (LARGEST_BYTES * 15 // 16)

    def run(endpoint: Endpoint, over: Event) -> None:
        with connection(endpoint) as calls:
            for _ in range(40):
                calls.begin("POST", path, message, content_type="application/grpc", te="trailers")
            while calls.step() and not over.is_set():
                pass

    return run


def windows_of_zero(endpoint: Endpoint, over: Event) -> None:
    """Requests a large file 800 times with a flow-control window of zero."""
    with connection(endpoint, window=0) as calls:
        for number in range(800):
            calls.begin("GET", f"/ImageStore/{BIG_FILE}/$/Content")
            if number % 50 == 0:
                calls.step()
        while calls.step() and not over.is_set():
            pass


def waiting_uploads(uploads: int, frames: Callable[[int], bytes]) -> Callable[[Endpoint, Event], None]:
    """Sends frames for uploads that wait for a permit, some of them on each of 40 connections."""

    def run(endpoint: Endpoint, over: Event) -> None:
        with ExitStack() as open_ones:
            calls = open_ones.enter_context(connection(endpoint))
            for number in range(1000):
                calls.begin("PUT", f"/ImageStore/turn/{number}?api-version=6.0", b"x")
                if number % 50 == 0:
                    calls.step()
            others = [open_ones.enter_context(connection(endpoint)) for _ in range(40)]
            for number, other in enumerate(others):
                for upload in range(uploads):
                    path = f"/ImageStore/waiting/{number}-{upload}?api-version=6.0"
                    other.begin_raw("PUT", path, frames)
            while calls.step() and not over.is_set():
                pass

    return run


def small_frames(stream: int) -> bytes:
    """A window full of frames of one byte each."""
    return (b"\0\0\1\0\0" + struct.pack(">I", stream) + b"x") * WINDOW_BYTES


def scattered_frames(stream: int) -> bytes:
    """Frames of a byte, each in a buffer of its own: frames of a type that nobody knows are between them."""
    unknown = struct.pack(">I", FRAME_BYTES)[1:] + b"\xee" + bytes(5 + FRAME_BYTES)
    return (b"\0\0\1\0\0" + struct.pack(">I", stream) + b"x" + unknown) * 60


def long_trailers(stream: int) -> bytes:
    """Trailers in which each byte is a header field: `accept-encoding` of HPACK's static table."""
    fields = b"\x90" * 11_900
    return struct.pack(">I", len(fields))[1:] + b"\1\5" + struct.pack(">I", stream) + fields


def refused_bodies(endpoint: Endpoint, over: Event) -> None:
    """Sends bodies of 32 MiB to a path that refuses them."""
    body = bytes(32 * MIB)
    with connection(endpoint) as calls:
        for _ in range(3):
            calls.begin("POST", "/ImageStore/refused?api-version=6.0", body)
        while calls.step() and not over.is_set():
            pass


def stalled_bodies(endpoint: Endpoint, over: Event) -> None:
    """Sends 20 bodies of the largest size, each without its last byte."""
    head = f"POST /ImageStore/$/Copy?api-version=6.0 HTTP/1.1\r\nHost: localhost\r\nContent-Length: {LARGEST_BYTES}\r\n\r\n"
    request = head.encode() + b" " * (LARGEST_BYTES - 1)
    clients = [socket.create_connection(endpoint, SECONDS, SOURCE) for _ in range(20)]
    try:
        for client in clients:
            client.sendall(request)
        over.wait(SECONDS)
    finally:
        for client in clients:
            client.close()


def slow_uploads(endpoint: Endpoint, over: Event) -> None:
    """Uploads eight files of unknown size, and stalls after a part of each."""
    head = "PUT /ImageStore/slow/{}?api-version=6.0 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    piece = b"493E0\r\n" + bytes(300_000) + b"\r\n"
    clients = [socket.create_connection(endpoint, SECONDS, SOURCE) for _ in range(8)]
    try:
        for number, client in enumerate(clients):
            client.sendall(head.format(number).encode() + piece)
        over.wait(SECONDS)
    finally:
        for client in clients:
            client.close()


def copy_of(skip: str) -> bytes:
    """The body of a copy with a skip list, which is given as JSON."""
    return f'{{"RemoteSource":"{WIDE}","RemoteDestination":"taken","SkipFiles":[{skip}]}}'.encode()


def bodies(body: bytes) -> Callable[[Endpoint, Event], None]:
    """Repeats the same copy."""

    def run(endpoint: Endpoint, over: Event) -> None:
        client = HTTPConnection(*endpoint, timeout=60, source_address=SOURCE)
        try:
            while not over.is_set():
                client.request("POST", "/ImageStore/$/Copy?api-version=6.0", body)
                client.getresponse().read()
        finally:
            client.close()

    return run


def field(number: int, data: bytes) -> bytes:
    """A protobuf field of text or bytes."""
    size, head = len(data), [number << 3 | 2]
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*head, size]) + data


def copies(skip: bytes, verify: bool) -> Callable[[Endpoint, Event], None]:
    """Begins copies over gRPC, 60 at a time; those with `verify` continue when their caller disconnects."""
    flags = b"\x38\x01\x40\x01" if verify else b""
    message = field(1, WIDE.encode()) + field(2, b"taken") + flags + skip
    body = b"\0" + struct.pack(">I", len(message)) + message

    def run(endpoint: Endpoint, over: Event) -> None:
        with connection(endpoint) as calls:
            for _ in range(60):
                calls.begin(
                    "POST",
                    f"{SERVICE}Copy",
                    body,
                    ends=True,
                    content_type="application/grpc",
                    te="trailers",
                )
            for _ in range(2_000):
                if not calls.step() or over.is_set():
                    break

    return run


@contextmanager
def connection(endpoint: Endpoint, window: int | None = None) -> Iterator[Connection]:
    """A connection, which is closed at the end of the block."""
    calls = Connection(endpoint, window)
    try:
        yield calls
    finally:
        calls.close()


# A skip list within the bounds of a copy, and one with more bytes than allowed.
NAMES = [f"{number:05}{'n' * 90}" for number in range(9_900)]
LONG_NAMES = [f"{number:05}{'n' * 380}" for number in range(9_900)]
WAYS: dict[str, Callable[[Endpoint, Event], None]] = {
    "half messages of a backup": half_messages(f"{SERVICE}Backup"),
    "half messages of a restore": half_messages(f"{SERVICE}Restore"),
    "half messages of an upload": half_messages(f"{SERVICE}Upload"),
    "half messages of a question": half_messages(f"{SERVICE}Stat"),
    "half messages of a question after health": half_messages(f"{HEALTH}Check"),
    "half messages of a watch of health": half_messages(f"{HEALTH}Watch"),
    "windows of zero": windows_of_zero,
    "small frames": waiting_uploads(2, small_frames),
    "scattered frames": waiting_uploads(25, scattered_frames),
    "long trailers": waiting_uploads(25, long_trailers),
    "refused bodies": refused_bodies,
    "stalled bodies": stalled_bodies,
    "slow uploads": slow_uploads,
    "copies with objects for names": bodies(copy_of(",".join(['{"":0}'] * 590_000))),
    "copies with empty names over REST": bodies(copy_of(",".join(['""'] * 1_300_000))),
    "copies with many names over REST": bodies(copy_of(json.dumps(NAMES)[1:-1])),
    "copies with long names over REST": bodies(copy_of(json.dumps(LONG_NAMES)[1:-1])),
    "copies with empty names": copies(field(3, b"") * 2_000_000, verify=False),
    "copies with many names": copies(
        b"".join(field(3, name.encode()) for name in NAMES), verify=True
    ),
}


def repeat(name: str, endpoint: Endpoint, over: Event) -> None:
    """Repeats one attack, whatever its outcome."""
    way = WAYS[name]
    while not over.is_set():
        try:
            way(endpoint, over)
        except (OSError, HTTPException, h2.exceptions.ProtocolError):
            # The server refused the client or closed the connection.
            pass
        over.wait(PAUSE_SECONDS)


def repeat_all(names: list[str], endpoint: Endpoint, over: Event, begun: Event) -> None:
    """Runs some attacks in parallel until the test ends or one fails because of its own error."""
    with ThreadPoolExecutor(len(names)) as pool:
        running = [pool.submit(repeat, name, endpoint, over) for name in names]
        begun.set()
        for done in as_completed(running):
            try:
                done.result()
            finally:
                over.set()


class Hostile:
    """Clients that run some attacks in parallel, in a process of their own."""

    def __init__(self, endpoint: Endpoint, names: Iterable[str]) -> None:
        # A new interpreter, because a process with threads must not be forked.
        context = multiprocessing.get_context("spawn")
        self._over, begun = context.Event(), context.Event()
        self._process = context.Process(
            target=repeat_all, args=([*names], endpoint, self._over, begun), daemon=True
        )
        self._process.start()
        if not begun.wait(START_SECONDS):
            raise AssertionError(f"the hostile clients did not begin in {START_SECONDS} s")

    def close(self) -> None:
        """Ends all clients. Can be called again."""
        self._over.set()
        self._process.join(SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        if self._process.exitcode not in (0, -9):
            raise AssertionError(f"the hostile clients ended with {self._process.exitcode}")
