"""Writers and readers of several servers, and the judge of what they see.

Writers put files into a new folder each time, and then copy that folder to one place. Readers download that place as a
package, which is one snapshot. So a package has the files of one copy; not of one before the last that was acknowledged
when the download began; and of none that has not begun. A call that is not answered is sent again to any server, under the
same operation id, until it is.
"""

import io
import json
import random
import threading
import time
import uuid
import zipfile

import requests

from .cluster import Cluster

WRITERS = 4
READERS = 4
FILES = 3
# The size of a file that is an object of its own in the bucket.
OBJECT_BYTES = 20_000
# Longer than a call takes while nothing is wrong for longer than a few seconds.
CALL_SECONDS = 20
# Within this time every call is answered by some server, whatever happens meanwhile.
ANSWER_SECONDS = 90
# The numbers of a file version, in the order in which they count.
NUMBERS = ("EpochDataLossNumber", "EpochConfigurationNumber", "VersionNumber")
Version = tuple[int, ...]
NONE: Version = ()


class Judge:
    """What each writer was told, and whether what readers see agrees with it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        # The last sequence number that has begun, and the last one that was acknowledged, of each writer.
        self.begun = [0] * WRITERS
        self.acknowledged = [0] * WRITERS
        # The same when the database was copied that may be put back.
        self.kept: list[int] | None = None
        # Rises when a failover that loses commits begins and when it is over, so it is odd while one is under way. What
        # was seen before one says nothing about what is seen after it, nor is there an order within it.
        self.failovers = 0
        # The newest version of the file of each writer that was seen since the last failover, and what each version has
        # been the version of.
        self.versions = [NONE] * WRITERS
        self.sizes: dict[Version, tuple[int, int]] = {}
        self.faults: list[str] = []
        self.reads = 0

    def fault(self, message: str) -> None:
        """Notes what must not happen."""
        with self.lock:
            self.faults.append(message)

    def counts(self, failovers: int) -> bool:
        """Whether a failover neither was under way at this number of failovers nor has begun since."""
        return failovers == self.failovers and failovers % 2 == 0

    def acknowledge(self, writer: int, number: int, failovers: int) -> bool:
        """Notes an acknowledged copy. Whether it counts: else it may be lost, and is made again."""
        with self.lock:
            if not self.counts(failovers):
                return False
            self.acknowledged[writer] = number
            return True

    def keep(self) -> None:
        """Notes that the database is copied now; nobody writes meanwhile."""
        with self.lock:
            self.kept = list(self.acknowledged)

    def lose(self) -> None:
        """Notes that a failover begins."""
        with self.lock:
            assert self.kept is not None
            self.failovers += 1
            self.acknowledged = self.kept
            self.versions = [NONE] * WRITERS

    def lost(self) -> None:
        """Notes that the failover is over."""
        with self.lock:
            self.failovers += 1
            self.versions = [NONE] * WRITERS

    def before(self, writer: int) -> tuple[int, int]:
        """What a reader needs when it begins."""
        with self.lock:
            return self.acknowledged[writer], self.failovers

    def newest(self, writer: int) -> tuple[Version, int]:
        """What a reader of versions needs when it begins."""
        with self.lock:
            return self.versions[writer], self.failovers

    def listed(self, writer: int, began: tuple[Version, int], version: Version, size: int) -> None:
        """Judges the version of the file of a writer, which has another size in each copy."""
        least, failovers = began
        with self.lock:
            if self.sizes.setdefault(version, (writer, size)) != (writer, size):
                self.faults.append(f"version {version} is of {self.sizes[version]} and of {writer, size}")
            if not self.counts(failovers):
                return
            if version < least:
                self.faults.append(f"writer {writer}: version {version} seen after {least}")
            self.versions[writer] = max(self.versions[writer], version)

    def seen(self, writer: int, began: tuple[int, int], numbers: set[int]) -> None:
        """Judges a package."""
        least, failovers = began
        with self.lock:
            self.reads += 1
            if not self.counts(failovers):
                least = 0
            if len(numbers) != 1:
                self.faults.append(f"writer {writer}: a package has files of {numbers}")
            elif not least <= min(numbers) <= self.begun[writer]:
                message = f"writer {writer}: {numbers} seen, {least} acknowledged, {self.begun[writer]} begun"
                self.faults.append(message)


class Client(threading.Thread):
    """A thread that calls the servers by turns at random."""

    def __init__(self, cluster: Cluster, judge: Judge, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.cluster, self.judge, self.stop = cluster, judge, stop

    def call(self, method: str, path: str, **arguments: object) -> requests.Response:
        """Sends a request until a server answers it."""
        end = time.monotonic() + ANSWER_SECONDS
        last: object = None
        while time.monotonic() < end:
            address = random.choice(self.cluster.addresses)
            try:
                answer = requests.request(method, f"http://{address}{path}", timeout=CALL_SECONDS, **arguments)
            except requests.RequestException as error:
                last = error
            else:
                if answer.status_code not in (429, 503, 504):
                    return answer
                last = answer.text
            self.stop.wait(0.02)
        self.judge.fault(f"{method} {path} was not answered: {last}")
        raise AssertionError(last)

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                self.turn()
            except Exception as error:
                self.judge.fault(repr(error))
                return

    def turn(self) -> None:
        """Makes one step."""
        raise NotImplementedError


class Writer(Client):
    """Puts a folder and copies it, again and again."""

    def __init__(self, number: int, cluster: Cluster, judge: Judge, stop: threading.Event) -> None:
        super().__init__(cluster, judge, stop)
        self.number = number
        self.attempts = 0

    def turn(self) -> None:
        with self.judge.lock:
            self.judge.begun[self.number] += 1
            sequence = self.judge.begun[self.number]
        while not self.attempt(sequence):
            pass

    def attempt(self, sequence: int) -> bool:
        """Writes the files of a sequence number. Whether that was acknowledged and counts."""
        source = f"from/{self.number}-{sequence}-{uuid.uuid4().hex}"
        _, failovers = self.judge.before(self.number)
        text = f"{self.number} {sequence}\n".encode()
        self.attempts += 1
        for file in range(FILES):
            # One of the files is an object in the bucket. It has another size each time.
            data = text + random.randbytes(10)
            if file == 0:
                data = data.ljust(OBJECT_BYTES + self.attempts)
            answer = self.call("PUT", f"/ImageStore/{source}/{file}?api-version=6.0", data=data)
            if answer.status_code != 200:
                raise AssertionError(answer.text)
        body = {"RemoteSource": source, "RemoteDestination": f"to/{self.number}", "OperationId": str(uuid.uuid4())}
        answer = self.call("POST", "/ImageStore/$/Copy?api-version=6.0", data=json.dumps(body))
        if answer.status_code == 404:
            # The files were lost by a failover.
            return self.refused(failovers, answer)
        if answer.status_code != 200:
            return self.refused(failovers, answer)
        if not self.judge.acknowledge(self.number, sequence, failovers):
            return False
        answer = self.call("DELETE", f"/ImageStore/{source}?api-version=6.0")
        if answer.status_code not in (200, 404):
            raise AssertionError(answer.text)
        return True

    def refused(self, failovers: int, answer: requests.Response) -> bool:
        """A copy may fail with its server, or because a failover has lost its source."""
        if self.judge.counts(failovers) and "the server that ran the operation was lost" not in answer.text and "the server stopped" not in answer.text:
            raise AssertionError(answer.text)
        return False


class Reader(Client):
    """Downloads the folders of the writers."""

    def turn(self) -> None:
        writer = random.randrange(WRITERS)
        if self.judge.before(writer)[0] == 0:
            self.stop.wait(0.02)
            return
        self.read(writer)
        self.list(writer)

    def list(self, writer: int) -> None:
        """Lists the files of a writer."""
        began = self.judge.newest(writer)
        answer = self.call("GET", f"/ImageStore/to/{writer}?api-version=6.0")
        for file in answer.json()["StoreFiles"] if answer.status_code == 200 else []:
            if file["StoreRelativePath"].endswith("/0"):
                version = tuple(int(file["FileVersion"][name]) for name in NUMBERS)
                self.judge.listed(writer, began, version, int(file["FileSize"]))

    def read(self, writer: int) -> None:
        """Downloads the files of a writer."""
        began = self.judge.before(writer)
        answer = self.call("GET", f"/Packages/to/{writer}.zip")
        if answer.status_code != 200:
            if self.judge.counts(began[1]):
                self.judge.fault(f"writer {writer} with {began[0]} acknowledged: {answer.text}")
            return
        numbers = set()
        try:
            with zipfile.ZipFile(io.BytesIO(answer.content)) as package:
                for name in package.namelist():
                    number, sequence = package.read(name).split(b"\n")[0].split()
                    assert int(number) == writer
                    numbers.add(int(sequence))
        except zipfile.BadZipFile:
            # The server was killed while it sent.
            return
        self.judge.seen(writer, began, numbers)
