"""Load for a server that is killed, and the state that each writer expects afterwards.

Each writer has a folder of its own and makes one call at a time, so it knows the content of its folder. A call
that the kill interrupts has either happened as a whole or not at all. All writers take contents from one pool and
copy from one common folder, so that they share stored parts.
"""

import hashlib
import json
import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException
from urllib.parse import quote

CALL_SECONDS = 30
BASE = "base"

# Empty, inline, an object, several chunks, two parts. The large sizes are rare.
SIZES = [0, 10, 5_000, 20_000, 100_000, 300_000]
LARGE = 9 << 20
POOL = [hashlib.shake_128(bytes([n])).digest(SIZES[n % len(SIZES)]) for n in range(36)]
LARGE_POOL = [hashlib.shake_128(b"large" + bytes([n])).digest(LARGE) for n in range(2)]

# The expected files of a folder: the bytes of each file by its path from the root.
Files = dict[str, bytes]


class Http:
    """A persistent HTTP connection."""

    def __init__(self, endpoint: tuple[str, int]) -> None:
        self._connection = HTTPConnection(*endpoint, timeout=CALL_SECONDS)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        query: str = "",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Sends one request and returns the whole response."""
        target = f"/ImageStore/{quote(path, safe='/$')}?api-version=6.0{query}"
        self._connection.request(method, target, body, headers or {})
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def tree(self, path: str) -> Files:
        """Returns every file below a folder, and asserts that the counts of the listings are right."""
        files: Files = {}
        status, body = self.call("GET", path)
        if status == 404:
            return files
        assert status == 200, (path, status, body)
        page = json.loads(body)
        assert not page["ContinuationToken"], path
        for file in page["StoreFiles"]:
            name = file["StoreRelativePath"]
            status, content = self.call("GET", f"{name}/$/Content")
            assert status == 200, (name, status, content)
            assert len(content) == int(file["FileSize"]), name
            files[name] = content
        for folder in page["StoreFolders"]:
            name = folder["StoreRelativePath"]
            below = self.tree(name)
            assert below, f"{name} is empty"
            assert len(below) == int(folder["FileCount"]), name
            files |= below
        return files


def below(files: Files, folder: str) -> Files:
    """Returns the files below a folder, by their path from the folder."""
    prefix = f"{folder}/"
    return {p.removeprefix(prefix): data for p, data in files.items() if p.startswith(prefix)}


def without(files: Files, path: str) -> Files:
    """Returns the files without those at a path and below it."""
    return {p: data for p, data in files.items() if p != path and not p.startswith(f"{path}/")}


@dataclass
class Call:
    """A call, and the writer's files after its success."""

    name: str
    send: Callable[[Http], tuple[int, bytes]]
    after: Files
    # The status of success, which is 404 for a copy without files; and the other status that a repetition may
    # return if the call has already happened.
    status: int = 200
    again: int | None = None
    # Called when the call has succeeded.
    done: Callable[[], None] = field(default=lambda: None)


class Session:
    """A chunked upload, some of whose chunks are acknowledged."""

    def __init__(self, path: str, data: bytes, parts: int) -> None:
        self.id = str(uuid.uuid4())
        self.path = path
        self.data = data
        size = -(-len(data) // parts)
        self.missing = [(n, min(n + size, len(data))) for n in range(0, len(data), size)]
        self.there: list[tuple[int, int]] = []

    def chunk(self, number: int) -> Callable[[Http], tuple[int, bytes]]:
        """Returns a function that sends a missing chunk."""
        begin, end = self.missing[number]
        headers = {"Content-Range": f"bytes {begin}-{end - 1}/{len(self.data)}"}
        path, query = f"{self.path}/$/UploadChunk", f"&session-id={self.id}"
        return lambda http: http.call("PUT", path, self.data[begin:end], query, headers)

    def note(self, number: int) -> None:
        """Records that a chunk is acknowledged."""
        self.there.append(self.missing.pop(number))

    def commit(self, http: Http) -> tuple[int, bytes]:
        """Makes the file visible."""
        return http.call("POST", "$/CommitUploadSession", query=f"&session-id={self.id}")

    def verify(self, http: Http) -> None:
        """Asserts that no acknowledged chunk is missing."""
        if not self.there:
            return
        status, body = http.call("GET", "$/GetUploadSession", query=f"&session-id={self.id}")
        assert status == 200, f"the session {self.id} of {self.path} is gone: {status} {body!r}"
        (session,) = json.loads(body)["UploadSessions"]
        for lost in session["ExpectedRanges"]:
            first, last = int(lost["StartPosition"]), int(lost["EndPosition"])
            for begin, end in self.there:
                assert last < begin or end <= first, f"{self.path}: {begin} to {end} is lost"


class Writer:
    """One of several concurrent writers."""

    def __init__(self, number: int, base: Files, chance: random.Random) -> None:
        self.root = f"w{number}"
        self.files: Files = {}
        self.calls = 0
        self._base = base
        self._chance = chance
        self._session: Session | None = None
        self._broken: Call | None = None

    def run(self, endpoint: tuple[str, int]) -> None:
        """Makes calls until the connection breaks or there are no more calls."""
        http = Http(endpoint)
        try:
            while (call := self._next()) is not None:
                self._broken = call
                status, body = call.send(http)
                assert status == call.status, f"{call.name}: {status} {body!r}"
                self._broken = None
                self._settle(call)
                self.calls += 1
        except (OSError, HTTPException):
            pass
        finally:
            http.close()

    @property
    def doing(self) -> str:
        """The name of the interrupted call; empty if there is none."""
        return "" if self._broken is None else self._broken.name

    def verify(self, endpoint: tuple[str, int]) -> None:
        """Asserts that all acknowledged writes are there, and that an interrupted call is whole or absent.

        Then repeats the interrupted call, which must be safe.
        """
        http = Http(endpoint)
        found = http.tree(self.root)
        call = self._broken
        if found != self.files:
            assert call is not None and found == call.after, self._explain(found)
        if self._session is not None and (call is None or call.done != self._end_session):
            self._session.verify(http)
        if call is not None:
            status, body = call.send(http)
            # A repeated copy without a source is refused again; other copies find their source unchanged.
            assert status in {call.status, call.again}, f"{call.name} repeated: {status} {body!r}"
            self._settle(call)
            self._broken = None
        http.close()

    def forget_session(self, http: Http) -> None:
        """Deletes the upload session that is open, if there is one."""
        if self._session is not None and self._session.there:
            query = f"&session-id={self._session.id}"
            assert http.call("DELETE", "$/DeleteUploadSession", query=query) == (200, b"")

    def _settle(self, call: Call) -> None:
        self.files = call.after
        call.done()

    def _explain(self, found: Files) -> str:
        told = {path: len(data) for path, data in self.files.items()}
        there = {path: len(data) for path, data in found.items()}
        return f"doing {self.doing or 'nothing'}, {self.root} had {told} and has {there}"

    def _next(self) -> Call | None:
        kinds = [self._put] * 6 + [self._copy] * 4 + [self._chunk] * 4 + [self._delete] * 2
        return self._chance.choice(kinds)()

    def _folder(self) -> str:
        return f"{self.root}/d{self._chance.randrange(4)}"

    def _file(self) -> str:
        inner = self._chance.choice(["", "/in", "/in/deep"])
        return f"{self._folder()}{inner}/f{self._chance.randrange(5)}"

    def _put(self) -> Call:
        path = self._file()
        pool = LARGE_POOL if self._chance.random() < 0.04 else POOL
        return self._put_at(path, self._chance.choice(pool))

    def _put_at(self, path: str, data: bytes) -> Call:
        after = self.files | {path: data}
        return Call(f"put {path}", lambda http: http.call("PUT", path, data), after)

    def _delete(self) -> Call:
        return self._delete_at(self._chance.choice([self._folder(), self._file()]))

    def _delete_at(self, path: str) -> Call:
        return Call(
            f"delete {path}", lambda http: http.call("DELETE", path), without(self.files, path)
        )

    def _copy(self) -> Call:
        destination = self._folder()
        source = self._chance.choice([BASE, f"{BASE}/in", self._folder()])
        skipped = self._chance.choice([[], [], ["f1"], ["f0", "F3"], ["f0", "f1", "f2", "f3", "f4"]])
        return self._copy_to(destination, source, skipped, self._chance.random() < 0.1)

    def _copy_to(self, destination: str, source: str, skipped: list[str], verify: bool) -> Call:
        names = {name.lower() for name in skipped}
        found = below(self._base | self.files, source)
        kept = {p: data for p, data in found.items() if p.rpartition("/")[2] not in names}
        after, status = self.files, 200
        if source != destination:
            copied = {f"{destination}/{p}": data for p, data in kept.items()}
            after, status = without(self.files, destination) | copied, 200 if kept else 404
        elif not found:
            status = 404
        if status == 404:
            after = self.files
        body = {
            "RemoteSource": source,
            "RemoteDestination": destination,
            "SkipFiles": skipped,
            "Verify": verify,
            # The operation id makes the copy safe to repeat.
            "OperationId": str(uuid.uuid4()),
        }
        sent = json.dumps(body).encode()
        name = f"copy {source} to {destination} without {skipped}"
        return Call(name, lambda http: http.call("POST", "$/Copy", sent), after, status)

    def _chunk(self) -> Call:
        if self._session is None:
            data = self._chance.choice([data for data in POOL if data])
            self._session = Session(self._file(), data, self._chance.randint(1, 4))
        session = self._session
        if session.missing:
            number = self._chance.randrange(len(session.missing))
            chunk = session.chunk(number)
            return Call(
                f"chunk {number} of {session.path}",
                chunk,
                self.files,
                done=lambda: session.note(number),
            )
        after = self.files | {session.path: session.data}
        return Call(f"commit {session.path}", session.commit, after, done=self._end_session)

    def _end_session(self) -> None:
        self._session = None


class Script(Writer):
    """A writer that makes each kind of durable change once, always in the same order."""

    def __init__(self, base: Files) -> None:
        super().__init__(0, base, random.Random(0))
        self._steps = self._script()

    def _next(self) -> Call | None:
        return next(self._steps, None)

    def _script(self) -> Iterator[Call]:
        # None of these contents is in the common folder, so each is stored anew.
        inline, small, large, long = POOL[20], POOL[16], POOL[17], LARGE_POOL[0]
        first, second, third = (f"{self.root}/d{n}" for n in range(3))
        yield self._put_at(f"{first}/f0", inline)
        yield self._put_at(f"{first}/f1", small)
        yield self._put_at(f"{first}/in/f2", long)
        # The part of this file is stored already, and is pinned.
        yield self._put_at(f"{second}/f1", small)
        # The replaced file is released.
        yield self._put_at(f"{first}/f1", large)
        yield from self._upload_in_chunks(f"{first}/f3", POOL[22])
        yield self._copy_to(third, BASE, [], verify=False)
        yield self._put_at(f"{third}/in/f0", inline)
        yield self._copy_to(second, first, ["f0"], verify=False)
        yield self._copy_to(third, first, [], verify=True)
        yield self._copy_to(first, third, ["f1"], verify=True)
        yield self._delete_at(f"{first}/f3")
        yield from self._break_off_chunks(f"{first}/f4", POOL[23])
        for folder in [first, second, third]:
            yield self._delete_at(folder)

    def _upload_in_chunks(self, path: str, data: bytes) -> Iterator[Call]:
        self._session = Session(path, data, 3)
        while self._session is not None:
            yield self._chunk()

    def _break_off_chunks(self, path: str, data: bytes) -> Iterator[Call]:
        self._session = session = Session(path, data, 2)
        yield self._chunk()
        query = f"&session-id={session.id}"
        send = partial(Http.call, method="DELETE", path="$/DeleteUploadSession", query=query)
        yield Call(f"forget {path}", send, self.files, again=404, done=self._end_session)


def base() -> Files:
    """Returns the files of the folder that all writers copy from."""
    paths = [f"{BASE}/{inner}f{n}" for inner in ["", "in/", "in/deep/"] for n in range(5)]
    return {path: POOL[n % len(POOL)] for n, path in enumerate(paths)}
