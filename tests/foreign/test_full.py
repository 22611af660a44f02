"""A disk that is full, once but for the reserve of the server and once to its last byte.

Nothing is lost, what changed nothing says so, reads and deletes go on, a restart works, and so does
everything once there is room again. The disk is a small one in memory, which only root can mount.
"""

import errno
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
import unittest
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import requests
from google.rpc.error_details_pb2 import ErrorInfo

from .command import COMMAND_SECONDS
from .reflection import Reflection, details
from .rest import Rest
from .server import Server, binary, environment
from .test_grpc import SERVICE

MIB = 1 << 20
DISK_BYTES = 120 * MIB
# What the server keeps free for the log of its database.
ROOM_BYTES = 24 * MIB
# Clients that fill a disk at once.
CLIENTS = 8
# More than a part, so that it is cut.
LARGE = 9 * MIB
# How long it may take until what is deleted is off the disk.
FREE_SECONDS = 60
# The most calls until a disk of this size must be full.
CALLS_MAX = 20_000


class FullDiskTest(unittest.TestCase):
    """A server whose disk is full."""

    maxDiff = None

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="imagestore-")
        self.addCleanup(folder.cleanup)
        self._disk = Path(folder.name) / "disk"
        self._disk.mkdir()
        as_root("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0777", "none", str(self._disk))
        self.addCleanup(as_root, "umount", str(self._disk))
        self._filler = self._disk / "filler"
        self._data = self._disk / "data"
        self._files: dict[str, bytes] = {}
        self._chance = random.Random(4)

    def test_the_reserve(self) -> None:
        """Refuses what would touch the reserve, and goes on with all the rest."""
        self._start()
        self._put_all()
        # There is room for its first parts, which go again, and none for the others.
        objects = self._objects()
        self._refused("PUT", "app/cut", self._pieces(self._available()))
        until = time.monotonic() + FREE_SECONDS
        while self._objects() > objects:
            self.assertLess(time.monotonic(), until, "nothing is freed")
        for again in self._again():
            # A start makes some room: it moves the log of the database into its file.
            for size in [MIB, 64 << 10, 4 << 10]:
                self._fill(size)
            self._refused_uploads()
            self._copy("app", f"copy{again}").raise_for_status()
        self._delete("copy0")
        self._delete("fill")
        self._upload_when_there_is_room("app/new", 2 * LARGE)
        self._compare()
        self._check()

    def test_small_files(self) -> None:
        """Takes files again when those that many clients filled the disk with are deleted."""
        self._fill_and_delete(8 << 10)

    def test_large_files(self) -> None:
        """Does the same with files that are not kept in the database."""
        self._fill_and_delete(MIB)

    def _fill_and_delete(self, size: int) -> None:
        self._start()
        for _ in range(2):
            with ThreadPoolExecutor(CLIENTS) as clients:
                filled = list(clients.map(lambda client: self._fill_folder(client, size), range(CLIENTS)))
            # How much fits depends on how many are on their way at once.
            self.assertGreater(sum(filled), 0)
            for client in range(CLIENTS):
                self._delete(f"fill{client}")
            # What is free inside the database is room for small files, and goes back to the disk.
            self._upload_when_there_is_room("app/small", size)
            self._upload_when_there_is_room("app/large", DISK_BYTES // 3)
            self._delete("app")
        self._compare()
        self._check()

    def _fill_folder(self, client: int, size: int) -> int:
        """Stores files in the folder of a client until one is refused. Returns how many it stored."""
        rest, chance = Rest(self._server.url), random.Random(client)
        try:
            for number in range(CALLS_MAX):
                path = f"fill{client}/{number // 100}/{number}"
                answer = rest.call("PUT", path, chance.randbytes(size))
                if answer.status_code != 200:
                    self._assert_full(answer)
                    return number
        finally:
            rest.close()
        self.fail(f"the disk is never full: {self._available()} bytes are free")

    def test_the_last_byte(self) -> None:
        """Refuses every change that needs room, whoever notices, deletes, and loses nothing."""
        self._start("--reserve", "0")
        self._server.expect(
            "the disk is full, so that the log of the database stays",
            "the disk has no room for the whole log of the database",
            "the write-ahead log cannot be moved into the database file",
        )
        self._put_all()
        for number in range(3):
            self._put(f"gone/{number}/file", self._bytes(100))
        # They are in the log of the database, whose file must grow to take them.
        for number in range(100):
            self._put(f"app/inline/{number}", self._bytes(10_000))
        session = str(uuid.uuid4())
        self._rest.put_chunk("app/late", session, "bytes 0-9/20", bytes(10)).raise_for_status()
        for again in self._again(self._fill_from_outside):
            self._fill_from_outside()
            self._copy_until_full()
            self._delete(f"gone/{again}")
            self._refused("PUT", "app/empty", b"")
            self._refused_uploads()
            self._compare()
        # What is deleted makes room although there is none.
        self._delete("app/large")
        until = time.monotonic() + FREE_SECONDS
        while self._available() < LARGE:
            self.assertLess(time.monotonic(), until, "nothing is freed")
        self._refused_uploads()
        os.truncate(self._filler, self._filler.stat().st_size - ROOM_BYTES)
        self._upload_when_there_is_room("app/new", LARGE // 2)
        self._filler.unlink()
        self._rest.put_chunk("app/late", session, "bytes 10-19/20", bytes(10)).raise_for_status()
        query = {"session-id": session}
        self._rest.call("POST", "$/CommitUploadSession", query=query).raise_for_status()
        self._files["app/late"] = bytes(20)
        self._put("app/newer", self._bytes(2 * LARGE))
        self._compare()
        self._check()

    def _put_all(self) -> None:
        """Stores a package: an empty file, a small one, and one that is cut."""
        self._put("app/_.dir", b"")
        self._put("app/in/skipped", b"skipped")
        self._put("app/large", self._bytes(LARGE))

    def _refused_uploads(self) -> None:
        """Tries everything that needs room."""
        self._refused("PUT", "app/small", b"small")
        self._refused("PUT", "app/object", self._bytes(MIB))
        self._refused("PUT", "app/cut", self._bytes(LARGE))
        self._refused("PUT", "app/pieces", self._pieces(LARGE))
        self._refused_chunk("app/chunked", MIB)
        self._refused_chunk("app/chunked", LARGE)
        self._refused_copy("app", "filtered", ["skipped"])
        self._refused_over_grpc()

    def _start(self, *options: str) -> None:
        self._server = Server(self._data, "--reclaim-grace", "100ms", *options)
        self.addCleanup(self._server.kill)
        self._connect()

    def _connect(self) -> None:
        self._rest = Rest(self._server.url)
        self.addCleanup(self._rest.close)

    def _again(self, before: Callable[[], None] | None = None) -> Iterator[int]:
        """Goes on as it is, after a stop, and after a kill."""
        yield 0
        for number, end in enumerate([self._server.stop, self._server.kill], 1):
            end()
            if before is not None:
                before()
            self._server.start()
            self._connect()
            self._compare()
            yield number

    def _compare(self) -> None:
        self.assertEqual(self._rest.tree(), self._files)

    def _available(self) -> int:
        return shutil.disk_usage(self._disk).free

    def _objects(self) -> int:
        return sum(path.is_file() for path in (self._data / "blobs").rglob("*-*"))

    def _bytes(self, size: int) -> bytes:
        return self._chance.randbytes(size)

    def _pieces(self, size: int) -> Iterator[bytes]:
        """Bytes whose number is not told before they come."""
        for _ in range(-(-size // MIB)):
            yield self._bytes(MIB)

    def _put(self, path: str, data: bytes) -> None:
        self._rest.put(path, data)
        self._files[path] = data

    def _fill(self, size: int) -> None:
        """Stores files of a size until one is refused."""
        for number in range(CALLS_MAX):
            path, data = f"fill/{len(self._files)}/{number}", self._bytes(size)
            answer = self._rest.call("PUT", path, data)
            if answer.status_code != 200:
                self._assert_full(answer)
                return
            self._files[path] = data
        self.fail(f"the disk is never full: {self._available()} bytes are free")

    def _fill_from_outside(self) -> None:
        """Leaves no byte on the disk."""
        with self._filler.open("ab", buffering=0) as filler:
            for size in [MIB, 4096, 1]:
                try:
                    while filler.write(bytes(size)):
                        pass
                except OSError as error:
                    self.assertEqual(error.errno, errno.ENOSPC)
        self.assertEqual(self._available(), 0)

    def _copy_until_full(self) -> None:
        """Makes plain copies, which look at no reserve, until the database finds no room."""
        for number in range(CALLS_MAX):
            answer = self._copy("app/in", f"copies/{self._available()}/{number}")
            if answer.status_code != 200:
                self._assert_full(answer)
                return
        self.fail("the database always finds room")

    def _refused(self, method: str, path: str, data: bytes | Iterator[bytes]) -> None:
        # The type of what is sent in pieces is the library's business.
        answer = self._rest.call(method, path, data)  # type: ignore[arg-type]
        self._assert_full(answer)
        self.assertFalse(self._rest.exists(path))

    def _refused_chunk(self, path: str, size: int) -> None:
        session = str(uuid.uuid4())
        answer = self._rest.put_chunk(path, session, f"bytes 0-{size - 1}/{size}", self._bytes(size))
        self._assert_full(answer)
        asked = self._rest.call("GET", "$/GetUploadSession", query={"session-id": session})
        self.assertEqual(asked.status_code, 204)

    def _refused_copy(self, source: str, destination: str, skipped: list[str]) -> None:
        self._assert_full(self._send_copy(source, destination, skipped))
        self.assertFalse(self._rest.exists(destination))

    def _refused_over_grpc(self) -> None:
        """Tries what needs room over gRPC."""
        reflection = Reflection(self._server.address)
        service = reflection.service(SERVICE)
        copy = {"source": "app", "destination": "filtered", "skip_files": ["skipped"]}
        calls: list[Callable[[], object]] = [
            lambda: service.call("Upload", [{"header": {"path": "app/small"}}, {"data": b"small"}]),
            lambda: service.call(
                "Upload", [{"header": {"path": "app/cut"}}, *[{"data": bytes(MIB)}] * (LARGE // MIB)]
            ),
            lambda: list(service.call("Copy", **copy)),
        ]
        for call in calls:
            with self.assertRaises(grpc.RpcError) as raised:
                call()
            error = raised.exception
            self.assertEqual(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED, error)
            self.assertEqual(details(error)[ErrorInfo].reason, "NO_SPACE")
            self.assertIn("the disk is full", error.details())
        reflection.close()

    def _copy(self, source: str, destination: str) -> requests.Response:
        """Makes a plain copy, and notes it if it succeeds."""
        answer = self._send_copy(source, destination, [])
        if answer.status_code == 200:
            for path, data in list(self._files.items()):
                if path.startswith(f"{source}/"):
                    self._files[destination + path.removeprefix(source)] = data
        return answer

    def _send_copy(self, source: str, destination: str, skipped: list[str]) -> requests.Response:
        body = {"RemoteSource": source, "RemoteDestination": destination, "SkipFiles": skipped}
        return self._rest.call("POST", "$/Copy", json.dumps(body).encode())

    def _assert_full(self, answer: requests.Response) -> None:
        """Sees that a call was refused for want of room, and says what to do."""
        self.assertEqual(answer.status_code, 507, answer.text)
        error = answer.json()["Error"]
        self.assertEqual(error["Code"], "FABRIC_E_IMAGESTORE_IOERROR")
        self.assertIn("the disk is full", error["Message"])
        self.assertNotIn(str(self._disk), error["Message"])

    def _delete(self, path: str) -> None:
        """Deletes a file or folder."""
        self._rest.call("DELETE", path).raise_for_status()
        self._files = {
            file: data
            for file, data in self._files.items()
            if file != path and not file.startswith(f"{path}/")
        }

    def _upload_when_there_is_room(self, path: str, size: int) -> None:
        """Uploads what reclamation has just made room for."""
        until = time.monotonic() + FREE_SECONDS
        data = self._bytes(size)
        while (answer := self._rest.call("PUT", path, data)).status_code != 200:
            self._assert_full(answer)
            self.assertLess(time.monotonic(), until, "nothing is freed")
        self._files[path] = data

    def _check(self) -> None:
        """Looks for damage with every byte read, as the store serves."""
        command = [binary(), "check", "--deep", "--server", self._server.url]
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            env=environment(),
            timeout=COMMAND_SECONDS,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


def as_root(*command: str) -> None:
    """Runs a command that only root may run."""
    prefix = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    done = subprocess.run([*prefix, *command], capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        raise AssertionError(f"needs root to run {command}: {done.stderr}")
