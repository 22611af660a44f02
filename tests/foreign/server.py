"""The real server as a process of a test."""

import os
import re
import signal
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path

from .rest import Rest

READY = re.compile(r"https?://([0-9.]+):([0-9]+)")
ANY_PORT = "127.0.0.1:0"
# A log line that an operator should read.
ALARM = re.compile(r"^\S+ +(?:WARN|ERROR) ")
# Warnings of a server on a machine with a high load.
SLOW = (
    "the server is not ready, because its database does not answer",
    "the store did not close in time",
)
LINE_SECONDS = 30
STOP_SECONDS = 10


class Server:
    """A server process on a free port of this machine.

    It can be ended and started again on the same data folder; the port is then another one, unless `start` gets an
    address.

    When the server has ended, each warning or error in its log that no test has declared by `expect` fails the test,
    because operators are expected to read each of them.
    """

    def __init__(
        self, data: Path, *options: str, under: tuple[str, ...] = (), listen: str = ANY_PORT
    ) -> None:
        self.data = data
        self._options = options
        # A command that runs the server, such as `prlimit`.
        self._under = under
        self._expected = [*SLOW]
        self.start(listen)

    def expect(self, *messages: str) -> None:
        """Declares expected warnings and errors of the log, by a part of their lines."""
        self._expected.extend(messages)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def memory(self, name: str = "VmHWM") -> int:
        """A memory figure of the process, in KiB: its peak, or another one."""
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8").splitlines()
        (value,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
        return int(value)

    def forget_peak(self) -> None:
        """Resets the peak of the memory of the process."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", encoding="utf-8")

    def start(self, listen: str = ANY_PORT, **variables: str) -> None:
        """Starts the process and waits for its ready line, which contains the port."""
        self.launch(listen, **variables)
        try:
            found = self.line(READY)
        except AssertionError:
            self._end()
            raise
        self.url = found.group()
        self.endpoint = (found[1], int(found[2]))
        self.address = f"{found[1]}:{found[2]}"

    def launch(self, listen: str = ANY_PORT, **variables: str) -> None:
        """Starts the process with these environment variables, without waiting."""
        self.log: list[str] = []
        self._judged = False
        self._ended = False
        self._said = threading.Condition()
        self._process = subprocess.Popen(
            [*self._under, binary(), *self.arguments(listen), *self._options],
            env=environment() | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def arguments(self, listen: str) -> list[str]:
        """The arguments of the program before the options of the test."""
        return ["serve", "--listen", listen, "--data", str(self.data)]

    def line(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """Waits until a line of the log matches, and returns the match."""
        with self._said:
            self._said.wait_for(lambda: self._ended or self._find(pattern), timeout=LINE_SECONDS)
            found = self._find(pattern)
            if found is None:
                raise AssertionError(f"the server did not say {pattern.pattern!r}: {self.log}")
            return found

    def send(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    def ended(self, seconds: float = STOP_SECONDS) -> int:
        """Waits until the process has ended, and returns its exit code."""
        try:
            code = self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self._end()
            raise AssertionError(f"the server did not end in {seconds} s: {self.log}") from None
        self.kill()
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stops the process by a signal, and asserts that it ends in time and with exit code 0."""
        self.send(number)
        code = self.ended()
        if code != 0 or any("panicked" in line for line in self.log):
            raise AssertionError(f"the server ended with exit code {code}: {self.log}")

    def kill(self) -> None:
        """Kills the process if it still runs, and asserts that its log has no undeclared warning or error."""
        self._end()
        if self._judged:
            return
        self._judged = True
        alarms = filter(ALARM.match, self.log)
        surprises = [
            line for line in alarms if not any(message in line for message in self._expected)
        ]
        if surprises:
            raise AssertionError("no test expects this in the log:\n" + "\n".join(surprises))

    def _end(self) -> None:
        """Kills the process if it still runs."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def _find(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Finds the first line that matches."""
        return next(filter(None, map(pattern.search, self.log)), None)

    def _read(self) -> None:
        """Reads the log to its end, so that the server never blocks on a full pipe."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._said:
                self.log.append(line.rstrip())
                self._said.notify_all()
        with self._said:
            self._ended = True
            self._said.notify_all()


class ServerCase(unittest.TestCase):
    """A test with an empty server of its own."""

    maxDiff = None
    # The authority of the server's certificate, where it has TLS.
    trusted: Path | None = None
    # The token of `rest`, where the server requires a right.
    token: str | None = None

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="imagestore-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.server = self.make_server(self.folder / "data")
        self.addCleanup(self.server.stop)
        self._connect()

    def make_server(self, data: Path) -> Server:
        """Starts the server of the test."""
        return Server(data)

    def restart(self) -> None:
        """Stops the server and starts it on the same data folder."""
        self.server.stop()
        self.start_again()

    def start_again(self, listen: str = ANY_PORT) -> None:
        """Starts the server again on the same data folder after its end."""
        self.server.start(listen)
        self._connect()

    def _connect(self) -> None:
        self.rest = Rest(self.server.url, self.trusted, self.token)
        self.addCleanup(self.rest.close)


def binary() -> str:
    """Returns the path of the tested program."""
    path = os.environ.get("IMAGESTORE_BINARY")
    if path is None:
        raise AssertionError("IMAGESTORE_BINARY is not set; tests/run sets it to the built server")
    return path


def environment() -> dict[str, str]:
    """Returns the environment for the program, without settings of the caller."""
    return {name: value for name, value in os.environ.items() if not name.startswith("IMAGESTORE_")}
