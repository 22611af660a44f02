"""The command line as a process of a test."""

import json
import os
import signal
import stat
import subprocess
import threading
import types
from pathlib import Path
from typing import IO, Any, Self

from .server import ServerCase, binary, environment

COMMAND_SECONDS = 120


class Running:
    """A running command, by itself or under another one. Reads from a command that hangs fail at a timeout."""

    def __init__(self, arguments: list[str], under: tuple[str, ...] = (), **options: Any) -> None:
        streams: dict[str, Any] = {
            "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
        }
        self.process = subprocess.Popen(
            [*under, binary(), *arguments],
            encoding="utf-8",
            **streams | options,
        )
        self._watchdog = threading.Timer(COMMAND_SECONDS, self.process.kill)
        self._watchdog.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._watchdog.cancel()
        # Kills and reaps the process, and closes its streams.
        self.process.kill()
        with self.process:
            pass

    def record(self) -> dict[str, Any]:
        """Waits for the next line of `--json` output."""
        return dict(json.loads(self._line(self.process.stdout)))

    def last_record(self) -> dict[str, Any]:
        """Waits for the record of an operation that has ended."""
        record = self.record()
        while record["state"] == "OPERATION_STATE_RUNNING":
            record = self.record()
        return record

    def note(self) -> str:
        """Waits for the next line of the standard error."""
        return self._line(self.process.stderr).rstrip("\n")

    def interrupt(self) -> None:
        """Sends SIGINT, as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def end(self) -> subprocess.CompletedProcess[str]:
        """Waits for the end, and returns the output that was not read yet."""
        out, err = self.process.communicate()
        return subprocess.CompletedProcess(
            self.process.args, self.process.returncode, out or "", err or ""
        )

    def _line(self, stream: IO[str] | None) -> str:
        assert stream is not None
        line = stream.readline()
        if not line:
            raise AssertionError(f"{self.process.args} ended: {self.end()}")
        return line


class CommandCase(ServerCase):
    """A test that runs commands against its server."""

    def start(self, *arguments: str, **options: Any) -> Running:
        """Starts a command."""
        variables = {"IMAGESTORE_SERVER": self.server.url} | options.pop("env", {})
        return Running(list(arguments), env=environment() | variables, **options)

    def run_command(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        with self.start(*arguments, **options) as running:
            return running.end()

    def command(self, *arguments: str, **options: Any) -> str:
        """Runs a command, which must succeed, and returns its output."""
        done = self.run_command(*arguments, **options)
        self.assertEqual(done.returncode, 0, f"{arguments}: {done.stdout}{done.stderr}")
        self.assertNotIn("imagestore: ", done.stderr)
        return done.stdout

    def records(self, *arguments: str) -> list[dict[str, Any]]:
        """Runs a command with `--json`, which must succeed and print nothing else."""
        done = self.run_command(*arguments, "--json")
        self.assertEqual((done.returncode, done.stderr), (0, ""), f"{arguments}: {done.stdout}")
        return [dict(json.loads(line)) for line in done.stdout.splitlines()]

    def assert_error(self, done: subprocess.CompletedProcess[str], *words: str) -> None:
        """Asserts that a command failed, and that its last line is one clear error; progress may precede it."""
        self.assertEqual(done.returncode, 1, f"{done.args}: {done.stdout}{done.stderr}")
        lines = done.stderr.splitlines()
        errors = [line for line in lines if line.startswith("imagestore: ")]
        self.assertEqual(errors, lines[-1:])
        for word in words:
            self.assertIn(word, errors[0])

    def assert_fails(self, *arguments: str, says: list[str]) -> None:
        """Asserts that a command fails, prints no result, and gives the reason."""
        done = self.run_command(*arguments)
        self.assert_error(done, *says)
        self.assertEqual(done.stdout, "")


class StalledDisk:
    """A disk that does not answer: opening the smallest object of a store blocks without end.

    So a verifying copy runs until the test ends it. The object is restored at the end.
    """

    def __init__(self, data: Path) -> None:
        objects = (path for path in (data / "blobs").rglob("*-*") if path.is_file())
        self._object = min(objects, key=lambda path: path.stat().st_size)
        self._kept = data / "kept-by-the-test"

    def __enter__(self) -> Self:
        self._object.rename(self._kept)
        os.mkfifo(self._object)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: types.TracebackType | None,
    ) -> None:
        assert stat.S_ISFIFO(self._object.stat().st_mode)
        self._kept.rename(self._object)
