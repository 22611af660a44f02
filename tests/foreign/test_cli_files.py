"""What commands do to the local files of their user, and which files remain when they are stopped."""

import socket
import time
from collections.abc import Callable
from pathlib import Path

from .command import CommandCase, StalledDisk

SECONDS = 60
# The type of the HTTP/2 frame with which a request begins (RFC 9113, 6.2).
HEADERS_FRAME = 1


class Downloads(CommandCase):
    """What `get` does to existing local files."""

    def test_force_keeps_the_mode_of_what_it_replaces(self) -> None:
        self.rest.put_all({"V1/secret": b"new", "V1/tool": b"new", "V1/fresh": b"new"})
        out = self.folder / "out"
        out.mkdir()
        for name, mode in [("secret", 0o600), ("tool", 0o755)]:
            (out / name).write_bytes(b"old")
            (out / name).chmod(mode)

        self.command("get", "V1", str(out), "--force")

        for name, mode in [("secret", 0o600), ("tool", 0o755)]:
            self.assertEqual((out / name).read_bytes(), b"new")
            self.assertEqual((out / name).stat().st_mode & 0o777, mode)
        # A new file has the default mode of new files of this user.
        (self.folder / "plain").touch()
        self.assertEqual((out / "fresh").stat().st_mode, (self.folder / "plain").stat().st_mode)

    def test_no_link_below_the_folder_is_followed(self) -> None:
        self.rest.put("V1/sub/deep/file", b"new")
        out, elsewhere = self.folder / "out", self.folder / "elsewhere"
        out.mkdir()
        elsewhere.mkdir()
        (out / "sub").symlink_to("../elsewhere")

        for flags in [[], ["--force"]]:
            says = [f"{out}/sub is a symbolic link, where a folder is to be"]
            self.assert_fails("get", "V1", str(out), *flags, says=says)

        self.assertEqual(list(elsewhere.iterdir()), [])
        # The target folder itself may be a symbolic link.
        (self.folder / "link").symlink_to("elsewhere")
        self.command("get", "V1", str(self.folder / "link"))
        self.assertEqual((elsewhere / "sub/deep/file").read_bytes(), b"new")

    def test_two_of_one_name_do_not_become_one(self) -> None:
        self.rest.put_all({"A/notes": b"a", "B/notes": b"b", "B/other": b"o"})
        out = self.folder / "out"
        out.mkdir()

        for flags in [[], ["--force"]]:
            says = ["two of the sources have the name notes; nothing is done"]
            self.assert_fails("get", "A/notes", "B/notes", f"{out}/", *flags, says=says)
        self.assertEqual(list(out.iterdir()), [])

        self.command("get", "A/notes", "B/other", f"{out}/")
        self.assertEqual({path.name for path in out.iterdir()}, {"notes", "other"})

    def test_ctrl_c_ends_the_wait_for_a_silent_server(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            server = "http://{}:{}".format(*deaf.getsockname())
            running = self.enterContext(self.start("--server", server, "get", "a", "b"))
            with deaf.accept()[0] as connection, connection.makefile("rb") as stream:
                self.assertEqual(stream.read(24)[:3], b"PRI")
                # Skips frames until the request arrives: by then the command handles signals.
                while (frame := stream.read(9))[3] != HEADERS_FRAME:
                    stream.read(int.from_bytes(frame[:3]))
                running.interrupt()
                self.assert_error(running.end(), "stopped")

    def test_a_file_of_chunks_is_checked_when_its_digest_has_come(self) -> None:
        session = "7d9c1a52-6f0e-4c1b-9a38-2f64f3b1c0de"
        self.rest.put_chunk("chunked", session, "bytes 0-4/5", b"bytes").raise_for_status()
        committed = self.rest.call(
            "POST", "$/CommitUploadSession", query={"session-id": session}
        )
        committed.raise_for_status()

        (moved,) = self.records("get", "chunked", str(self.folder / "file"))

        self.assertEqual(len(moved["digest"]), 64)
        self.assertEqual(self.command("get", "chunked", "-"), "bytes")
        self.assertEqual((self.folder / "file").read_bytes(), b"bytes")


class Uploads(CommandCase):
    """What `put` does to existing files of the store."""

    def setUp(self) -> None:
        super().setUp()
        self.file = self.folder / "App"
        self.file.write_bytes(b"new")
        self.tree = self.folder / "tree"
        (self.tree / "sub").mkdir(parents=True)
        for name in ["run", "sub/part"]:
            (self.tree / name).write_bytes(b"new")

    def test_a_folder_is_replaced_by_a_file_only_where_that_is_said(self) -> None:
        before = {"App/a": b"a", "App/Code/b": b"b"}
        self.rest.put_all(before)

        says = ['"App"', "folder of 2 files", "App/ puts it into it", "--replace"]
        self.assert_fails("put", str(self.file), "App", says=says)
        self.assert_fails("put", str(self.file), "/", says=says)
        with self.file.open() as file:
            done = self.run_command("put", "-", "App", stdin=file)
        self.assert_error(done, *says)
        self.assertEqual(self.rest.tree(), before)

        said = self.command("put", str(self.file), "App/")
        self.assertEqual(said, "uploaded App/App: 1 file, 3 B\n")
        said = self.command("put", str(self.file), "App", "--replace")
        self.assertEqual(said, "uploaded App: 1 file, 3 B; replaced 3 files\n")
        (moved,) = self.records("put", str(self.file), "App", "--replace")
        self.assertEqual((moved["path"], moved["files_replaced"]), ("App", 1))
        self.assertEqual(self.rest.tree(), {"App": b"new"})

    def test_a_file_is_replaced_by_a_folder_only_where_that_is_said(self) -> None:
        for before in [{"V1": b"old"}, {"V1/sub": b"old"}, {"V1/run/x": b"1", "V1/run/y": b"2"}]:
            with self.subTest(before=before):
                self.rest.put_all(before)
                self.assert_fails("put", str(self.tree), "V1", "--jobs", "1", says=["--replace"])
                kept = {path: self.rest.tree().get(path) for path in before}
                self.assertEqual(kept, before)

                said = self.command("put", str(self.tree), "V1", "--replace")

                self.assertRegex(said, "; replaced [1-3] files?\n$")
                self.assertEqual(self.rest.tree(), {"V1/run": b"new", "V1/sub/part": b"new"})
                self.command("rm", "V1")


class Backups(CommandCase):
    """The files that `backup` creates, and those that remain."""

    def setUp(self) -> None:
        super().setUp()
        # More bytes than are buffered between the connection and the disk; the part that stalls comes last.
        self.rest.put_all({f"app/{number}": b"%07d" % number * 70_000 for number in range(9)})
        self.rest.put("app/small", bytes(80_000))

    def _unfinished(self) -> list[Path]:
        """The unfinished files, at any depth."""
        return list(self.folder.rglob(".imagestore-*.part"))

    def _until(self, is_true: Callable[[], object]) -> None:
        """Polls a condition until it is true; fails at a timeout."""
        end = time.monotonic() + SECONDS
        while not is_true():
            self.assertLess(time.monotonic(), end)

    def test_ctrl_c_leaves_nothing(self) -> None:
        for place in ["file", "folder/"]:
            with self.subTest(place=place), StalledDisk(self.server.data):
                running = self.enterContext(self.start("backup", f"{self.folder}/{place}"))
                self._until(self._unfinished)
                running.interrupt()
                self.assert_error(running.end(), "stopped; there is no new backup")
                self.assertEqual(self._unfinished(), [])

        self.command("backup", f"{self.folder}/folder/")

    def test_a_failure_leaves_nothing(self) -> None:
        for place in ["file", "folder/"]:
            with self.subTest(place=place), StalledDisk(self.server.data):
                running = self.enterContext(self.start("backup", f"{self.folder}/{place}"))
                self._until(self._unfinished)
                self.server.kill()
                self.assert_error(running.end(), "cannot reach")
                self.assertEqual(self._unfinished(), [])
            self.start_again()

    def test_one_at_a_time_writes_into_a_folder(self) -> None:
        store = self.folder / "folder"
        with StalledDisk(self.server.data):
            first = self.enterContext(self.start("backup", f"{store}/"))
            self._until(self._unfinished)
            self.assert_fails(
                "backup", str(store), says=[str(store), "another backup writes into it"]
            )
            first.process.kill()
            first.end()
            self.assertNotEqual(self._unfinished(), [])

        self.command("backup", str(store))

        self.assertEqual(self._unfinished(), [], "what a killed backup left is swept")

    def test_a_folder_of_other_files_is_left_alone(self) -> None:
        other = self.folder / "other"
        other.mkdir()
        (other / "notes.txt").write_bytes(b"mine")

        for place, directory in [(str(other), self.folder), (".", other)]:
            done = self.run_command("backup", place, cwd=directory)
            self.assert_error(done, place, "it has files that are of no backup")

        self.assertEqual([path.name for path in other.iterdir()], ["notes.txt"])
