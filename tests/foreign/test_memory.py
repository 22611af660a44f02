"""The memory and work that one request, or a few, cost the server."""

import json
import sqlite3
import uuid
from contextlib import closing
from http.client import HTTPConnection

from .server import ServerCase

# A folder with this many folders: if copies kept a name for each of them, they would take hundreds of MiB.
FOLDERS = 100_000
COPIES = 8
MEMORY_KIB = 192 * 1024
# Uploads that share a budget of eight whole parts, and the bytes that each sends before it stalls.
SLOW = 8
SLOW_BYTES = 300_000
PART_BYTES = 8 << 20


class MemoryTest(ServerCase):
    """A server, and small requests."""

    def test_copies_that_leave_out_files_do_not_remember_the_folder(self) -> None:
        self.rest.put("large/x/f", b"1")
        self.server.stop()
        with closing(self.tables()) as tables, tables:
            (large,), (small,) = tables.execute(
                "SELECT child FROM entry WHERE child IS NOT NULL ORDER BY folder"
            )
            ids = range(small + 1, small + 1 + FOLDERS)
            tables.executemany(
                "INSERT INTO folder (id, files, bytes, depth, length) VALUES (?, 1, 1, 1, 1)",
                ((number,) for number in ids),
            )
            tables.executemany(
                """INSERT INTO entry (folder, folded, name, content, size, version, modified)
                   SELECT ?, folded, name, content, size, version, modified FROM entry
                   WHERE folder = ?""",
                ((number, small) for number in ids),
            )
            tables.executemany(
                """INSERT INTO entry (folder, folded, name, child, size, version, modified)
                   VALUES (?1, 'd' || ?2, 'd' || ?2, ?2, 0, 0, 0)""",
                ((large, number) for number in ids),
            )
            tables.execute(
                "UPDATE folder SET files = files + ?1, bytes = bytes + ?1 WHERE id IN (1, ?2)",
                (FOLDERS, large),
            )
        self.start_again()

        # No file has the skipped name, so each copy searches every folder.
        operations = [str(uuid.uuid4()) for _ in range(COPIES)]
        for number, operation in enumerate(operations):
            answer = self.rest.call(
                "POST",
                "$/Copy",
                json.dumps({
                    "RemoteSource": "large",
                    "RemoteDestination": f"copy{number}",
                    "SkipFiles": ["absent"],
                    "OperationId": operation,
                }).encode(),
                headers={"Prefer": "respond-async"},
            )
            self.assertEqual(answer.status_code, 202, answer.text)
        for operation in operations:
            events = self.rest.call(
                "GET", f"$/Operations/{operation}", headers={"Accept": "text/event-stream"}
            )
            self.assertIn("event: done", events.text)
            self.assertIn('"Succeeded"', events.text)

        self.assertLess(self.server.memory(), MEMORY_KIB)

    def test_senders_that_stand_still_do_not_have_others_cut_small_parts(self) -> None:
        crowd = [HTTPConnection(*self.server.endpoint) for _ in range(SLOW)]
        for number, each in enumerate(crowd):
            self.addCleanup(each.close)
            each.putrequest("PUT", f"/ImageStore/slow{number}?api-version=6.0")
            each.putheader("Transfer-Encoding", "chunked")
            each.endheaders()
            each.send(b"%x\r\n" % SLOW_BYTES + bytes(SLOW_BYTES) + b"\r\n")

        # The server reads the slow bodies while it stores the first fast files, if not before.
        for number in range(4):
            data = bytes([number, *range(255)]) * (2 * PART_BYTES // 256)
            self.rest.put(f"fast{number}", data)

        with closing(self.tables()) as tables:
            parts = tables.execute(
                """SELECT e.name, COUNT(*) FROM content_part p JOIN entry e ON e.content = p.content
                   WHERE e.name LIKE 'fast%' GROUP BY e.name ORDER BY e.name"""
            ).fetchall()
        self.assertEqual(parts, [(f"fast{number}", 2) for number in range(4)])

    def tables(self) -> sqlite3.Connection:
        """Opens the database of the store."""
        return sqlite3.connect(self.server.data / "namespace.sqlite")
