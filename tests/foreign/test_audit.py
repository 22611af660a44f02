"""The audit log of the real server: how calls end in it, and a disk that takes none of it."""

import json
import os
import socket
import threading
import uuid
from pathlib import Path
from typing import Any

from .command import CommandCase
from .rest import Rest
from .server import Server

MIB = 1024 * 1024
LARGE = 64 * MIB


class AuditLog(CommandCase):
    """A log with the calls that read."""

    def make_server(self, data: Path) -> Server:
        self.audit = self.folder / "audit.log"
        return Server(data, "--audit", str(self.audit), "--audit-reads")

    def lines(self) -> list[dict[str, Any]]:
        """Stops the server, and returns all lines."""
        self.server.stop()
        return [json.loads(line) for line in self.audit.read_text(encoding="utf-8").splitlines()]

    def test_each_end_of_a_call_has_its_outcome(self) -> None:
        self.rest.put("file", b"hello")
        self.rest.put("large", bytes(LARGE))
        tag = self.rest.call("GET", "file/$/Content").headers["ETag"]
        kept = self.rest.call("GET", "file/$/Content", headers={"If-None-Match": tag})
        self.assertEqual(kept.status_code, 304)
        self.assertEqual(self.rest.call("HEAD", "file/$/Content").status_code, 200)
        self.assertEqual(self.rest.call("GET", "none/$/Content").status_code, 404)
        whole = self.rest.call("GET", "large/$/Content")
        self.assertEqual(len(whole.content), LARGE)
        # A client that leaves in the middle.
        host, port = self.server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as leaving:
            leaving.sendall(f"GET /ImageStore/large/$/Content HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            self.assertTrue(leaving.recv(1000))

        ends = [
            (line["method"], line["destination"], line["code"], line["outcome"])
            for line in self.lines()
        ]

        for end in [
            ("PUT", "file", 200, "done"),
            ("GET", "file", 200, "done"),
            ("GET", "file", 304, "done"),
            ("HEAD", "file", 200, "done"),
            ("GET", "none", 404, "failed"),
            ("GET", "large", 200, "done"),
            ("GET", "large", 200, "aborted"),
        ]:
            self.assertIn(end, ends)
        self.assertEqual(ends.count(("GET", "large", 200, "done")), 1)

    def test_calls_by_an_id_have_their_paths(self) -> None:
        whole, broken = str(uuid.uuid4()), str(uuid.uuid4())
        self.rest.put("V1/a", b"a")
        self.assertTrue(self.rest.put_chunk("V2/file", whole, "bytes 0-1/2", b"ab").ok)
        self.rest.call("POST", "$/CommitUploadSession", query={"session-id": whole}).raise_for_status()
        self.assertTrue(self.rest.put_chunk("V3/file", broken, "bytes 0-0/2", b"a").ok)
        self.rest.call("DELETE", "$/DeleteUploadSession", query={"session-id": broken}).raise_for_status()
        *_, operation = self.records("cp", "V1", "V4")
        self.run_command("cancel", operation["id"])

        lines = {line["call"]: line for line in self.lines()}

        for call, source, destination in [
            ("CommitUploadSession", None, "V2/file"),
            ("DeleteUploadSession", None, "V3/file"),
            ("CancelOperation", "V1", "V4"),
        ]:
            line = lines[call]
            self.assertEqual((line.get("source"), line.get("destination")), (source, destination), line)


class FullDisk(CommandCase):
    """A log on a disk without space."""

    def make_server(self, data: Path) -> Server:
        return Server(data, "--audit", "/dev/full", "--audit-reads")

    def test_no_call_waits_for_it_or_fails(self) -> None:
        self.server.expect("lines of the audit log are lost")
        failed: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for file in range(100):
                    self.put_and_read(f"{number}/{file}")
            except BaseException as error:
                failed.append(error)
                raise

        workers = [threading.Thread(target=work, args=[number]) for number in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.assertEqual(failed, [])
        self.assertEqual(sum(self.rest.listing().folders.values()), 800)
        told = [line for line in self.server.log if "lines of the audit log are lost" in line]
        self.assertEqual(len(told), 1, told)

    def put_and_read(self, path: str) -> None:
        """Stores a small file and reads it, on a connection of its own."""
        rest = Rest(self.server.url)
        try:
            rest.put(path, b"hello")
            self.assertEqual(rest.content(path), b"hello")
        finally:
            rest.close()


class AuditFile(CommandCase):
    """Files that are no log."""

    def test_a_pipe_that_nobody_reads_ends_the_start(self) -> None:
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        data = str(self.folder / "other")
        listen = ["--listen", "127.0.0.1:0"]
        self.assert_fails(
            "serve", "--data", data, *listen, "--audit", str(pipe), says=["cannot open the audit log"]
        )
