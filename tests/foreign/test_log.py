"""The log of a failed call: its cause, once, under the request id that the caller got."""

import re

from .command import CommandCase

SIZE = 100_000
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
# The kernel's error for a symbolic link to itself.
CAUSE = "Too many levels of symbolic links"


class LogTest(CommandCase):
    """A store with one object that cannot be read."""

    def setUp(self) -> None:
        super().setUp()
        self.rest.put("app/large", bytes(SIZE))
        blobs = self.server.data / "blobs"
        (self.object,) = (path for path in blobs.rglob("*-*") if path.is_file())

    def break_object(self) -> None:
        """Replaces the object by a symbolic link to itself."""
        self.server.expect(CAUSE)
        self.object.unlink()
        self.object.symlink_to(self.object)

    def causes(self) -> list[str]:
        """Stops the server, and returns the lines of its log that contain the cause."""
        self.server.stop()
        found = [line for line in self.server.log if CAUSE in line]
        self.start_again()
        return found

    def assert_once(self, request_id: str | None = None) -> str:
        """Asserts that the cause was logged once, under a request id, and returns the line."""
        (line,) = self.causes()
        found = re.search(r"request_id=\"?([A-Za-z0-9._-]+)", line)
        assert found is not None, line
        if request_id is None:
            self.assertRegex(found[1], UUID)
        else:
            self.assertEqual(found[1], request_id)
        return line

    def test_a_download_over_rest(self) -> None:
        """Returns the id in the header and in the error, and logs the cause under it."""
        self.break_object()
        answer = self.rest.call("GET", "app/large/$/Content")
        self.assertEqual(answer.status_code, 500)
        request_id = answer.headers["x-request-id"]
        self.assertRegex(request_id, UUID)
        self.assertEqual(answer.json()["Error"]["RequestId"], request_id)
        self.assertIn("ERROR", self.assert_once(request_id))

    def test_the_id_of_the_caller(self) -> None:
        """Uses a valid id from either header, and no invalid one."""
        self.break_object()
        headers = {"X-ServiceFabricRequestId": "sf.1"}
        answer = self.rest.call("GET", "app/large/$/Content", headers=headers)
        self.assertEqual(answer.headers["x-request-id"], "sf.1")
        self.assert_once("sf.1")
        for headers, expected in [
            ({"x-request-id": "mine-2", "X-ServiceFabricRequestId": "sf.2"}, "mine-2"),
            ({"x-request-id": "a b"}, None),
            ({"x-request-id": "a" * 65}, None),
        ]:
            answer = self.rest.call("GET", "nothing/$/Content", headers=headers)
            found = answer.headers["x-request-id"]
            self.assertEqual(answer.json()["Error"]["RequestId"], found)
            if expected is None:
                self.assertRegex(found, UUID)
            else:
                self.assertEqual(found, expected)

    def test_the_calls_of_grpc(self) -> None:
        """Logs the cause of a download, a backup and a copy once each."""
        self.break_object()
        for arguments in [
            ["get", "app/large", str(self.folder / "large")],
            ["backup", str(self.folder / "all.imagestore")],
            ["cp", "app", "copy", "--verify"],
        ]:
            with self.subTest(arguments[0]):
                self.assertEqual(self.run_command(*arguments).returncode, 1)
                self.assert_once()

    def test_a_check(self) -> None:
        """Continues, reports what cannot be read or listed, and logs each cause once."""
        self.break_object()
        for arguments in [["check"], ["check", "--deep"]]:
            with self.subTest(arguments):
                done = self.run_command(*arguments)
                self.assertEqual(done.returncode, 1)
                self.assertIn("the store is damaged: 2 findings", done.stderr)
                found = [line.split(":")[0] for line in done.stdout.splitlines()]
                self.assertEqual(found[:2], ["part_damaged", "objects_unlisted"])
                self.assertIn(f"in the folder {self.object.parent.name} of", done.stdout)
                part, listing = self.causes()
                self.assertIn("the bytes of a part are not well", part)
                self.assertIn("a folder of the blob store cannot be listed", listing)

    def test_an_object_that_cannot_be_put(self) -> None:
        """Logs why an upload over REST could not store its part."""
        self.server.expect(CAUSE, "a stored part cannot be read")
        folder = self.object.parent
        digits = folder.name
        self.object.unlink()
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        folder.symlink_to(folder)
        headers = {"x-request-id": f"put-{digits}"}
        answer = self.rest.call("PUT", "app/again", bytes(SIZE), headers=headers)
        self.assertEqual(answer.status_code, 500, answer.text)
        folder.unlink()
        folder.mkdir()
        # The stored part that cannot be read has another cause, which is logged as a warning.
        (line,) = (line for line in self.causes() if "ERROR" in line)
        self.assertIn(f"request_id=\"put-{digits}\"", line)
