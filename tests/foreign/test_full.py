"""A disk that is full: up to the reserve of the server, or up to the last byte.

No data is lost, calls that change nothing report an error, reads and deletes work, a restart works, and all calls work
when space is free again. The disk is a small one in memory, which only root can mount.
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
# The space that the server keeps free for the log of its database.
ROOM_BYTES = 24 * MIB
# Clients that fill a disk in parallel.
CLIENTS = 8
# Larger than a part, so the file has several.
LARGE = 9 * MIB
# How long the release of deleted files may take.
FREE_SECONDS = 60
# More calls than are needed to fill a disk of this size.
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
        """Refuses calls that would use the reserve; all other calls succeed."""
        self._start()
        self._put_all()
        # There is space for the first parts of this upload, which are deleted again, and none for the rest.
        objects = self._objects()
        self._refused("PUT", "app/cut", self._pieces(self._available()))
        until = time.monotonic() + FREE_SECONDS
        while self._objects() > objects:
            self.assertLess(time.monotonic(), until, "nothing is freed")
        for again in self._again():
            # A start frees some space, because it moves the log of the database into the database file.
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
        """Accepts files again after the files with which many clients filled the disk are deleted."""
        self._fill_and_delete(8 << 10)

    def test_large_files(self) -> None:
        """Does the same with files that are stored as objects."""
        self._fill_and_delete(MIB)

    def _fill_and_delete(self, size: int) -> None:
        self._start()
        for _ in range(2):
            with ThreadPoolExecutor(CLIENTS) as clients:
                filled = list(clients.map(lambda client: self._fill_folder(client, size), range(CLIENTS)))
            # The number of files depends on how many uploads are in progress at once.
            self.assertGreater(sum(filled), 0)
            for client in range(CLIENTS):
                self._delete(f"fill{client}")
            # Free space inside the database file is used for small files, and is returned to the disk.
            self._upload_when_there_is_room("app/small", size)
            self._upload_when_there_is_room("app/large", DISK_BYTES // 3)
            self._delete("app")
        self._compare()
        self._check()

    def _fill_folder(self, client: int, size: int) -> int:
        """Stores files in the folder of a client until one is refused. Returns the number of stored files."""
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
        """Refuses every change that needs space, wherever the lack is detected; deletes work, and no data is lost."""
        self._start("--reserve", "0")
        self._server.expect(
            "the disk is full, so that the log of the database stays",
            "the disk has no room for the whole log of the database",
            "the write-ahead log cannot be moved into the database file",
        )
        self._put_all()
        for number in range(3):
            self._put(f"gone/{number}/file", self._bytes(100))
        # The files are in the log of the database, whose file must grow to take them.
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
        # A delete frees space although no byte is free.
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
        """Stores a package: an empty file, a small file, and a file of several parts."""
        self._put("app/_.dir", b"")
        self._put("app/in/skipped", b"skipped")
        self._put("app/large", self._bytes(LARGE))

    def _refused_uploads(self) -> None:
        """Tries all kinds of calls that need space."""
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
        """Yields three times: at once, after a stop and start, and after a kill and start."""
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
        """Bytes that are sent without their length in advance."""
        for _ in range(-(-size // MIB)):
            yield self._bytes(MIB)

    def _put(self, path: str, data: bytes) -> None:
        self._rest.put(path, data)
        self._files[path] = data

    def _fill(self, size: int) -> None:
        """Stores files of one size until one is refused."""
        for number in range(CALLS_MAX):
            path, data = f"fill/{len(self._files)}/{number}", self._bytes(size)
            answer = self._rest.call("PUT", path, data)
            if answer.status_code != 200:
                self._assert_full(answer)
                return
            self._files[path] = data
        self.fail(f"the disk is never full: {self._available()} bytes are free")

    def _fill_from_outside(self) -> None:
        """Fills the disk to the last byte."""
        with self._filler.open("ab", buffering=0) as filler:
            for size in [MIB, 4096, 1]:
                try:
                    while filler.write(bytes(size)):
                        pass
                except OSError as error:
                    self.assertEqual(error.errno, errno.ENOSPC)
        self.assertEqual(self._available(), 0)

    def _copy_until_full(self) -> None:
        """Makes plain copies, which may use the reserve, until the database has no space."""
        for number in range(CALLS_MAX):
            answer = self._copy("app/in", f"copies/{self._available()}/{number}")
            if answer.status_code != 200:
                self._assert_full(answer)
                return
        self.fail("the database always finds room")

    def _refused(self, method: str, path: str, data: bytes | Iterator[bytes]) -> None:
        # The library declares no type for a body that is sent in pieces.
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
        """Tries calls that need space over gRPC."""
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
        """Makes a plain copy, and records it if it succeeds."""
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
        """Asserts that a call was refused for lack of space, with a message that says what to do."""
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
        """Uploads a file when reclamation has freed enough space."""
        until = time.monotonic() + FREE_SECONDS
        data = self._bytes(size)
        while (answer := self._rest.call("PUT", path, data)).status_code != 200:
            self._assert_full(answer)
            self.assertLess(time.monotonic(), until, "nothing is freed")
        self._files[path] = data

    def _check(self) -> None:
        """Runs a deep check while the store serves."""
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
    """Runs a command as root."""
    prefix = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    done = subprocess.run([*prefix, *command], capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        raise AssertionError(f"needs root to run {command}: {done.stderr}")
