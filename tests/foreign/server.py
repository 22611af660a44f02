"""The real server as a process of a test."""

import os
import queue
import re
import signal
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path

from .rest import Rest

READY = re.compile(r"http://[0-9.:]+")
READY_SECONDS = 30
STOP_SECONDS = 10


class Server:
    """A server process on a free port of this machine.

    It can be stopped and started again on the same data folder; the port then is another one.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self.log: list[str] = []
        self.start()

    def start(self) -> None:
        """Starts the process and waits for its ready line, which tells the port."""
        command = [binary(), "serve", "--listen", "127.0.0.1:0", "--data", str(self._data)]
        # Flags have environment variables; none of the caller's may reach the server.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("IMAGESTORE_")}
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        addresses: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=[addresses], daemon=True)
        self._reader.start()
        try:
            address = addresses.get(timeout=READY_SECONDS)
        except queue.Empty:
            address = None
        if address is None:
            self.kill()
            raise AssertionError(f"the server printed no ready line: {self.log}")
        self.url = address
        self.address = address.removeprefix("http://")
        host, _, port = self.address.rpartition(":")
        self.endpoint = (host, int(port))

    def stop(self) -> None:
        """Stops the process by SIGTERM, and sees that it ends in time, well and without a panic."""
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"SIGTERM did not end it in {STOP_SECONDS} s: {self.log}") from None
        finally:
            self.kill()
        if code != 0 or any("panicked" in line for line in self.log):
            raise AssertionError(f"the server ended with exit code {code}: {self.log}")

    def kill(self) -> None:
        """Ends the process at once, if it still runs."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def _read(self, addresses: "queue.Queue[str | None]") -> None:
        """Reads the log to its end, so that the server never waits for its reader."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.log.append(line.rstrip())
            if found := READY.search(line):
                addresses.put(found.group().rstrip(".:"))
        addresses.put(None)


class ServerCase(unittest.TestCase):
    """A test that has an empty server of its own."""

    maxDiff = None

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="imagestore-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.server = Server(self.folder / "data")
        self.addCleanup(self.server.stop)
        self._connect()

    def restart(self) -> None:
        """Stops the server and starts it on the same data folder."""
        self.server.stop()
        self.server.start()
        self._connect()

    def _connect(self) -> None:
        self.rest = Rest(self.server.url)
        self.addCleanup(self.rest.close)


def binary() -> str:
    """Returns the path of the server that is tested."""
    path = os.environ.get("IMAGESTORE_BINARY")
    if path is None:
        raise AssertionError("IMAGESTORE_BINARY is not set; tests/run sets it to the built server")
    return path
