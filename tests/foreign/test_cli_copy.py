"""The command line: copies and operations."""

import os
import pty
import re
import uuid
from typing import Any

from .command import CommandCase, Running, StalledDisk

SOURCE = {
    "V1/_.dir": b"", "V1/a.dll": bytes(range(256)) * 1000, "V1/sub/b.txt": b"four",
    "V1/sub/deep/A.DLL": b"12",
}
OLD = {"V2/old": b"old"}
CANCELLED = "OPERATION_STATE_CANCELLED"
RUNNING = "OPERATION_STATE_RUNNING"
SUCCEEDED = "OPERATION_STATE_SUCCEEDED"


class CopyCase(CommandCase):
    """A test with a source folder and a destination folder."""

    def setUp(self) -> None:
        super().setUp()
        self.rest.put_all(SOURCE | OLD)

    def assert_at(self, path: str, *left_out: str) -> None:
        """Asserts that the files of the source are at a path, except those left out."""
        expected = {
            path + file.removeprefix("V1"): data
            for file, data in SOURCE.items()
            if file.removeprefix("V1/") not in left_out
        }
        self.assertEqual(self.rest.tree(path), expected)

    def operations(self, *arguments: str) -> list[tuple[str, str]]:
        """Lists the ids and states of operations."""
        return [(each["id"], each["state"]) for each in self.records("operations", *arguments)]


class Copies(CopyCase):
    """Copies, with each of their flags."""

    def test_a_copy_replaces_what_is_there(self) -> None:
        said = self.command("copy", "-r", "V1", "V2")
        self.assertRegex(said, r"^copied V1 to V2: 4 files, .*; replaced 1 file\n$")
        self.assert_at("V2")

    def test_a_folder_and_a_file_replace_each_other_only_with_replace(self) -> None:
        self.rest.put("file", b"1")

        self.assert_fails(
            "cp", "file", "V1", says=['"V1"', "folder of 4 files", "V1/ copies", "--replace"]
        )
        self.assert_fails("cp", "V1", "file", says=['"file"', "--replace"])
        self.assert_at("V1")
        self.assertEqual(self.command("cp", "file", "V1/"), "copied file to V1/file: 1 file, 1 B\n")
        self.command("rm", "V1/file")
        said = self.command("cp", "V1", "file", "--replace")
        self.assertRegex(said, "; replaced 1 file\n$")
        self.command("cp", "V2/old", "file", "--replace")
        self.assertEqual(self.rest.tree("file"), {"file": b"old"})
        said = self.command("cp", "file", "V1", "--replace")
        self.assertEqual(said, "copied file to V1: 1 file, 3 B; replaced 4 files\n")
        self.assertIn("; replaced 4 files\n", self.command("operations"))

    def test_several_are_copied_into_a_folder(self) -> None:
        self.assert_fails("cp", "V1", "V2/old", "New", says=["New is no folder", "New/"])
        self.command("cp", "V1", "V2/old", "New/")
        self.assert_at("New/V1")
        done = self.run_command("cp", "nothing", "V2/old", "New")
        self.assert_error(done, '"nothing"')
        self.assertIn("copied V2/old to New/old: 1 file, 3 B; replaced 1 file\n", done.stdout)
        self.assert_fails("cp", "V1/a.dll", "New/V1/a.dll", "New", says=["a.dll"])

    def test_a_name_that_left_nothing_out_is_told(self) -> None:
        said = self.command("cp", "V1", "V3", "--skip", "a.dll", "--skip", "notes.tx", "--skip", "*", "--literal")
        self.assertIn('; no file was left out as "*", "notes.tx"\n', said)
        (copied,) = self.records("cp", "V2/old", "V4", "--skip", "Old")
        self.assertEqual((copied["skip_files_unmatched"], copied["files_replaced"]), (["Old"], 0))

    def test_skipped_names_are_left_out(self) -> None:
        said = self.command("cp", "V1", "V3", "--skip", "A.dll", "--skip", "B.TXT")
        self.assertIn("1 file, 0 B; left out 3 files", said)
        self.assert_at("V3", "a.dll", "sub/b.txt", "sub/deep/A.DLL")
        self.assertIn("copy V1 to V3: 1 file, 0 B\n", self.command("operations"))

    def test_a_destination_can_be_kept(self) -> None:
        said = self.command("cp", "V1", "V2", "--keep")
        self.assertEqual(said, "kept V2: it exists already\n")
        self.assertEqual(self.rest.tree("V2"), OLD)
        self.command("cp", "V1", "V3", "--keep")
        self.assert_at("V3")

    def test_a_mark_can_be_asked_for(self) -> None:
        self.assert_fails("cp", "V2", "V1", "--check-mark", says=["V2/_.dir"])
        self.command("cp", "V1", "V3", "--check-mark")
        self.assert_at("V1")
        self.assert_at("V3")

    def test_a_verified_copy_reads_everything(self) -> None:
        records = self.records("cp", "V1", "V3", "--verify")
        last = records[-1]
        self.assertEqual((last["state"], last["files_done"]), (SUCCEEDED, 4))
        self.assertEqual(last["bytes_done"], sum(map(len, SOURCE.values())))
        self.assert_at("V3")

    def test_what_cannot_be_copied_changes_nothing(self) -> None:
        self.assert_fails("cp", "nothing", "V2", says=['"nothing"'])
        self.assert_fails("cp", "V1", "V1/sub/x", says=['"V1"', '"V1/sub/x"', "overlap"])
        self.assert_fails("cp", "V1", "../V2", says=["../V2"])
        self.assert_fails("cp", "V1", "V2", "--operation-id", "odd", says=['"odd"', "UUID"])
        self.command("cp", "V1", "V1")
        self.assert_at("V1")
        self.assertEqual(self.rest.tree("V2"), OLD)

    def test_a_copy_with_an_id_is_made_once(self) -> None:
        operation = str(uuid.uuid4())
        copy = ["cp", "V1", "V3", "--operation-id", operation]
        self.command(*copy)
        self.command("rm", "V3")
        self.command(*copy)
        self.assertFalse(self.rest.exists("V3"))
        self.assert_fails(
            "cp", "V1", "V4", "--operation-id", operation, says=[operation, "other arguments"]
        )

    def test_a_detached_copy_is_watched_to_its_end(self) -> None:
        (begun,) = self.records("cp", "V1", "V3", "--verify", "--detach")
        self.assertEqual(begun["state"], RUNNING)

        records = self.records("watch", begun["id"])

        self.assertEqual((records[-1]["id"], records[-1]["state"]), (begun["id"], SUCCEEDED))
        self.assert_at("V3")
        self.assertIn("succeeded", self.command("watch", begun["id"]))


class Operations(CopyCase):
    """Operations that have ended, and unknown ones."""

    def test_operations_are_listed_the_newest_first_and_by_state(self) -> None:
        (copied,) = self.records("cp", "V1", "V3")
        self.command("rm", "V3")

        listed = self.records("operations")
        self.assertEqual([(each["kind"], each["state"]) for each in listed], [
            ("OPERATION_KIND_DELETE", SUCCEEDED), ("OPERATION_KIND_COPY", SUCCEEDED),
        ])
        self.assertEqual(listed[1], copied)
        self.assertEqual(len(self.operations("--state", "succeeded")), 2)
        self.assertEqual(self.operations("--state", "failed"), [])
        lines = self.command("operations").splitlines()
        self.assertRegex(lines[0], r"^[0-9a-f-]{36}  succeeded  \S+Z  delete V3: 4 files, ")

    def test_what_has_ended_or_never_was_is_not_cancelled(self) -> None:
        (copied,) = self.records("cp", "V1", "V3")
        unknown = str(uuid.uuid4())

        self.assert_fails("cancel", copied["id"], says=[copied["id"], "has ended"])
        for command in ["cancel", "watch"]:
            self.assert_fails(command, unknown, says=[unknown])
            self.assert_fails(command, "odd", says=['"odd"', "UUID"])
        self.assert_at("V3")


class LongCopies(CopyCase):
    """A copy that runs while the disk does not answer."""

    def setUp(self) -> None:
        super().setUp()
        self.enterContext(StalledDisk(self.server.data))

    def begin(self, *flags: str, **options: Any) -> Running:
        """Begins a copy onto the old folder."""
        copy = self.start("cp", "V1", "V2", "--verify", *flags, **options)
        return self.enterContext(copy)

    def begin_json(self) -> tuple[Running, str]:
        """Begins a copy, and also returns the id of its operation."""
        copy = self.begin("--json")
        record = copy.record()
        self.assertEqual((record["state"], record["files_total"]), (RUNNING, len(SOURCE)))
        return copy, record["id"]

    def assert_unchanged(self, operation: str, state: str = CANCELLED) -> None:
        """Asserts how the operation ended, and that the destination is unchanged."""
        self.assertEqual(self.operations()[0], (operation, state))
        self.assertEqual(self.operations("--state", "running"), [])
        self.assertEqual(self.rest.listing("V2").files, {"V2/old": 3})

    def test_another_client_sees_it_run_and_cancels_it(self) -> None:
        copy, operation = self.begin_json()
        watch = self.enterContext(self.start("watch", operation))
        self.assertRegex(watch.note(), "^copy V1 to V2: [0-3] of 4 files")
        self.assertEqual(self.operations("--state", "running"), [(operation, RUNNING)])

        said = self.command("cancel", operation)

        self.assertIn(f"{operation}  cancelled", said)
        self.assert_error(copy.end(), "cancelled", "nothing has changed")
        watched = watch.end()
        self.assertIn(f"{operation}  cancelled", watched.stdout)
        self.assert_error(watched, operation, "cancelled")
        self.assert_unchanged(operation)

    def test_ctrl_c_cancels_it_and_says_so(self) -> None:
        copy, operation = self.begin_json()

        copy.interrupt()

        done = copy.end()
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.splitlines(), [
            "imagestore: cancelling the copy",
            f"imagestore: cancelled the copy {operation}; nothing has changed",
        ])
        self.assert_unchanged(operation)

    def test_a_killed_client_cancels_it(self) -> None:
        copy, operation = self.begin_json()
        watch = self.enterContext(self.start("watch", operation, "--json"))
        self.assertEqual(watch.record()["state"], RUNNING)

        copy.process.kill()

        self.assertEqual(watch.last_record()["state"], CANCELLED)
        self.assert_unchanged(operation)

    def test_a_detached_one_outlives_its_client(self) -> None:
        done = self.begin("--detach", "--json").end()
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        ((operation, state),) = self.operations("--state", "running")
        self.assertEqual(state, RUNNING)

        self.command("cancel", operation)

        self.assert_unchanged(operation)

    def test_one_whose_server_is_gone_tells_its_id(self) -> None:
        copy = self.begin()
        while not (running := self.operations("--state", "running")):
            pass
        self.server.kill()
        done = copy.end()
        self.start_again(self.server.address)

        ((operation, _),) = running
        again = "; trying again\n"
        self.assertEqual(done.stderr.count(again), 1, done.stderr)
        self.assert_error(done, "cannot reach", f"operation {operation}", f"--operation-id {operation}")

    def test_its_time_can_be_bounded(self) -> None:
        done = self.begin("--timeout", "1").end()
        self.assert_error(done, "deadline", "nothing has changed")
        self.assert_unchanged(self.operations()[0][0])

    def test_on_a_terminal_it_is_a_bar(self) -> None:
        master, terminal = pty.openpty()
        self.addCleanup(os.close, master)
        copy = self.begin(stderr=terminal, env={"TERM": "xterm"})
        os.close(terminal)

        drawn = read_terminal(master, re.compile(rb" 0% \[ *\] 0 B of 250.0. KiB.*copying V1 to V2"))

        self.assertRegex(drawn, rb"[0-3] of 4 files")
        copy.interrupt()
        read_terminal(master, re.compile(rb"cancelled the copy \S+; nothing has changed"))
        self.assertEqual(copy.process.wait(), 1)

    def test_a_watch_outlives_a_restart_of_the_server(self) -> None:
        watch = self.enterContext(self.start("watch", "--json"))
        _, first = self.begin_json()
        self.assertEqual(watch.record()["id"], first)

        self.server.stop()
        self.start_again(self.server.address)
        _, second = self.begin_json()

        ended = watch.last_record()
        self.assertEqual((ended["id"], ended["state"]), (first, CANCELLED))
        self.assertEqual(watch.record()["id"], second)


def read_terminal(master: int, pattern: re.Pattern[bytes]) -> bytes:
    """Reads the output of a terminal until it matches."""
    drawn = b""
    while not pattern.search(drawn):
        try:
            drawn += os.read(master, 4096)
        except OSError:
            raise AssertionError(f"the command ended: {drawn!r}") from None
    return drawn
