"""The command line: files and folders, as a user or a script types it."""

import os
import random
import re
import signal
from pathlib import Path
from typing import Any

from .command import CommandCase

MARK = "_.dir"
BIG_BYTES = 20 * 1024 * 1024
COMMANDS = {
    "serve": "", "gateway": "", "copy": "cp", "upload": "put", "download": "get", "list": "ls", "stat": "",
    "delete": "rm", "watch": "", "operations": "", "cancel": "", "info": "", "check": "", "backup": "",
    "restore": "", "migrate": "", "upgrade": "", "token": "", "link": "", "whoami": "",
    "store": "",
}
PACKAGE = {
    "manifest.xml": b"<manifest/>",
    "code/calc.dll": random.Random(1).randbytes(BIG_BYTES),
    "code/empty.cfg": b"",
    "data/a b+c&d.txt": b"spaces and signs",
    "data/größe 数 🎉.txt": "größe".encode(),
    "data/100%.txt": b"a percent sign",
    "data/deep/er/-n": b"a dash",
}
# The environment variables that have the same meaning for every command.
SHARED = {
    f"IMAGESTORE_{name}"
    for name in [
        "SERVER", "CONFIG", "CA", "CERT", "KEY", "TOKEN", "TOKEN_FILE", "JSON", "TIMEOUT", "JOBS",
        "DATABASE", "BLOBS", "FROM_DATABASE", "TO_DATABASE",
    ]
}
MARKS = {MARK, f"code/{MARK}", f"data/{MARK}", f"data/deep/{MARK}", f"data/deep/er/{MARK}"}


def write_tree(root: Path, files: dict[str, bytes]) -> Path:
    """Writes files below a local folder."""
    for path, data in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return root


def read_tree(root: Path) -> dict[str, bytes]:
    """Reads every file below a local folder."""
    found = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


class Usage(CommandCase):
    """The help of the program, and its errors for invalid command lines."""

    def test_without_a_command_it_prints_help(self) -> None:
        text = self.command()

        found = re.findall(r"^  ([a-z]+) .*?(?: \[alias(?:es)?: (\w+)\])?$", text, re.MULTILINE)
        self.assertEqual(dict(found) | {"help": ""}, COMMANDS | {"help": ""})
        self.assertEqual(self.command("--help").splitlines()[0], text.splitlines()[0])

    def test_every_command_has_help(self) -> None:
        for command in [*COMMANDS, *filter(None, COMMANDS.values())]:
            with self.subTest(command=command):
                self.assertIn("Usage: imagestore ", self.command(command, "--help"))
        self.assertRegex(self.command("--version"), r"^imagestore \d+\.\d+\.\d+\n$")

    def test_a_wrong_command_line_is_exit_code_2(self) -> None:
        for arguments in [
            ["bogus"], ["cp", "a"], ["ls", "--bogus"], ["operations", "--state", "odd"],
            ["put", "a", "b", "--jobs", "0"], ["serve", "--listen", "nowhere"],
            ["gateway"], ["gateway", "--backend", "there:1"],
            *(["cp", "a", "b", "--skip", name] for name in ["", "*.dll", "a?", "Dir/x", "D\\x", "a|b"]),
            ["cp", "a", "b", "--literal", "--skip", "*/x"], ["cp", "a", "b", "--keep", "--replace"],
            ["cp", "a", "b", "c", "--operation-id", "0190a9f0-1234-7abc-8def-0123456789ab"],
            ["rm"], ["upgrade"], ["put", "a"], ["get"], ["whoami", "a"],
            ["cp", "one:a", "two:a"], ["cp", "one:a", "a"],
            ["store", "add", "a:b", "http://here"], ["store", "add", "a"],
            ["token", "create", "ci", "--role", "owner", "--path", "/"],
            ["token", "create", "ci", "--role", "admin", "--path", "/", "--life", "9d", "--never-expires"],
        ]:
            with self.subTest(arguments=arguments):
                done = self.run_command(*arguments)
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertTrue(done.stderr.startswith("error: "), done.stderr)
                # The test sets the server, which no usage message repeats.
                self.assertNotIn("--server", done.stderr)

    def test_a_server_out_of_reach_is_one_clear_line(self) -> None:
        self.assert_fails(
            "ls", "--server", "http://127.0.0.1:1",
            says=["cannot reach http://127.0.0.1:1", "IMAGESTORE_SERVER"],
        )
        self.assert_fails("ls", "--server", "ftp://x", says=["ftp://x", "http://HOST:PORT"])


class Transfers(CommandCase):
    """Uploading and downloading."""

    def setUp(self) -> None:
        super().setUp()
        self.package = write_tree(self.folder / "package", PACKAGE)

    def put(self, path: str, *flags: str) -> None:
        """Uploads the package."""
        self.command("put", str(self.package), path, *flags)

    def test_a_folder_goes_up_and_comes_back_as_it_was(self) -> None:
        out = self.folder / "out"

        self.put("Calc/V1")
        self.command("get", "Calc/V1", str(out))

        self.assertEqual(sorted(self.rest.tree()), sorted(f"Calc/V1/{path}" for path in PACKAGE))
        self.assertTrue(read_tree(out) == PACKAGE)

    def test_marks_are_written_after_all_files_the_root_last(self) -> None:
        self.put("V1", "--mark")

        versions = {
            path: self.records("stat", f"V1/{path}")[0]["entry"]["version"]["version_number"]
            for path in [*PACKAGE, *MARKS]
        }
        self.assertEqual(len(self.rest.tree()), len(versions))
        self.assertLess(
            max(versions[path] for path in PACKAGE), min(versions[mark] for mark in MARKS)
        )
        self.assertEqual(max(versions, key=lambda path: versions[path]), MARK)

    def test_a_file_goes_up_and_comes_back(self) -> None:
        file = self.package / "code/calc.dll"
        folder = self.folder / "folder"
        folder.mkdir()

        said = self.command("upload", str(file), "bin/calc.dll")
        self.command("download", "bin/calc.dll", str(self.folder / "new/copy.dll"))
        self.command("download", "bin/calc.dll", str(folder))

        self.assertEqual(said, "uploaded bin/calc.dll: 1 file, 20.00 MiB\n")
        for copy in [self.folder / "new/copy.dll", folder / "calc.dll"]:
            self.assertTrue(copy.read_bytes() == PACKAGE["code/calc.dll"])

    def test_a_file_that_takes_long_shows_how_far_it_is(self) -> None:
        file = self.package / "code/calc.dll"
        # A stopped process still gets connections, but few bytes, accepted by the kernel.
        self.server.send(signal.SIGSTOP)
        self.addCleanup(self.server.send, signal.SIGCONT)

        put = self.enterContext(self.start("put", str(file), "bin/calc.dll"))
        said = put.note()
        self.server.send(signal.SIGCONT)
        done = put.end()

        self.assertRegex(said, r"^uploading .*calc.dll: 0 of 1 file, .* of 20.00 MiB")
        self.assertEqual(done.stdout, "uploaded bin/calc.dll: 1 file, 20.00 MiB\n")

    def test_each_file_is_a_record(self) -> None:
        up = self.records("put", str(self.package), "V1")
        down = self.records("get", "V1", str(self.folder / "out"))

        self.assertEqual({record["path"] for record in up}, {f"V1/{path}" for path in PACKAGE})
        for record in up + down:
            self.assertEqual(record["kind"], "ENTRY_KIND_FILE")
            self.assertEqual(record["size_bytes"], Path(record["local"]).stat().st_size)
        digests = [{each["path"]: each["digest"] for each in records} for records in (up, down)]
        self.assertEqual(*digests)

    def test_only_force_overwrites(self) -> None:
        self.put("V1")
        out = write_tree(self.folder / "out", {"manifest.xml": b"mine"})

        self.assert_fails("get", "V1/manifest.xml", str(out), says=["manifest.xml", "--force"])
        self.assert_fails("get", "V1", str(out), says=["manifest.xml", "--force"])
        self.assertEqual((out / "manifest.xml").read_bytes(), b"mine")
        self.command("get", "V1", str(out), "--force")

        self.assertTrue(read_tree(out) == PACKAGE)

    def test_a_download_is_continued(self) -> None:
        self.put("V1")
        out = self.folder / "out"
        self.command("get", "V1", str(out))
        kept = (out / "code/calc.dll").stat().st_ino
        (out / "manifest.xml").unlink()

        for flags in [[], ["--force"]]:
            said = self.command("get", "V1", str(out), *flags)
            self.assertTrue(said.startswith(f"downloaded V1: {len(PACKAGE)} files, "), said)

        self.assertEqual((out / "code/calc.dll").stat().st_ino, kept)
        self.assertTrue(read_tree(out) == PACKAGE)
        # A file with the same size and other bytes is different.
        (out / "manifest.xml").write_bytes(PACKAGE["manifest.xml"].swapcase())
        self.assert_fails("get", "V1", str(out), says=["manifest.xml", "--force"])

    def test_what_is_no_file_is_not_replaced(self) -> None:
        self.rest.put("V1/a", b"1")
        pipe, link = self.folder / "pipe", self.folder / "link"
        os.mkfifo(pipe)
        link.symlink_to("manifest.xml")

        for command in [["get", "V1/a"], ["backup"]]:
            self.assert_fails(*command, str(pipe), "--force", says=["pipe is a device, a pipe"])
            self.assert_fails(*command, str(link), "--force", says=["link is a symbolic link"])
        done = self.run_command("backup", "-", cwd=self.folder)
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("write ./-", done.stderr)

        self.assertTrue(pipe.is_fifo() and link.is_symlink())
        self.assertFalse((self.folder / "-").exists())

    def test_a_file_goes_into_a_folder_that_ends_in_a_slash(self) -> None:
        file = str(self.package / "manifest.xml")

        for path in ["New/", "New\\sub\\", "/"]:
            self.command("put", file, path)
        self.command("get", "manifest.xml", f"{self.folder}/new/")

        self.assertEqual(
            sorted(self.rest.tree()), ["New/manifest.xml", "New/sub/manifest.xml", "manifest.xml"]
        )
        self.assertEqual(
            (self.folder / "new/manifest.xml").read_bytes(), PACKAGE["manifest.xml"]
        )
        (self.folder / "file").write_bytes(b"")
        self.assert_fails("get", "manifest.xml", f"{self.folder}/file/", says=["file"])

    def test_a_folder_goes_into_a_folder_that_ends_in_a_slash(self) -> None:
        self.command("put", str(self.package), "New/")
        self.command("put", "-r", str(self.package), "/")
        self.command("put", ".", "Same/", cwd=self.package)
        self.command("get", "New/package", f"{self.folder}/into/")
        here = self.folder / "here"
        here.mkdir()
        self.command("get", "-r", "New/package", cwd=here)
        self.command("get", "New", ".", cwd=here)

        stored = {f"{folder}/{path}" for folder in ["New/package", "package", "Same"] for path in PACKAGE}
        self.assertEqual(set(self.rest.tree()), stored)
        for root in ["into/package", "here/package", "here/New/package"]:
            self.assertTrue(read_tree(self.folder / root) == PACKAGE, root)
        self.assert_fails("get", "/", says=["root"])

    def test_several_go_into_a_folder(self) -> None:
        manifest, code = str(self.package / "manifest.xml"), str(self.package / "code")

        self.assert_fails("put", manifest, code, "New", says=["New is no folder", "New/"])
        self.command("put", manifest, code, "New/")
        self.command("put", manifest, code, "New")
        self.assert_fails("get", "New/manifest.xml", "New/code", str(self.folder / "no"), says=["no/"])
        self.command("get", "New/manifest.xml", "New/code", f"{self.folder}/out/")
        self.assert_fails("put", manifest, manifest, "New", says=["manifest.xml"])
        (self.folder / "last").write_bytes(b"1")
        # A failure of one path does not stop the others.
        done = self.run_command("put", str(self.folder / "no"), str(self.folder / "last"), "New")
        self.assert_error(done, str(self.folder / "no"))

        self.assertEqual(set(self.rest.tree()), {
            "New/manifest.xml", "New/code/calc.dll", "New/code/empty.cfg", "New/last",
        })
        self.assertEqual(set(read_tree(self.folder / "out")), {
            "manifest.xml", "code/calc.dll", "code/empty.cfg",
        })

    def test_a_file_goes_through_the_standard_streams(self) -> None:
        with (self.package / "code/calc.dll").open("rb") as file:
            said = self.command("put", "-", "bin/calc.dll", stdin=file)
        self.assertEqual(said, "uploaded bin/calc.dll: 1 file, 20.00 MiB\n")
        self.assertTrue(self.rest.tree()["bin/calc.dll"] == PACKAGE["code/calc.dll"])
        with (self.folder / "out").open("wb") as file:
            self.command("get", "bin/calc.dll", "-", stdout=file)
        self.assertTrue((self.folder / "out").read_bytes() == PACKAGE["code/calc.dll"])
        self.command("put", "-", "empty")
        self.assertEqual(self.command("get", "empty", "-"), "")

        self.assert_fails("put", "-", "bin/", says=["name"])
        self.assert_fails("put", "-", "bin", says=["bin/"])
        self.assert_fails("get", "bin", "-", says=["bin is a folder"])
        self.assert_fails("get", "empty", "-", "--json", says=["--json"])
        self.command("get", "empty", cwd=self.folder)
        self.command("get", "empty", "./-", cwd=self.folder)
        self.assertEqual((self.folder / "-").read_bytes(), (self.folder / "empty").read_bytes())

    def test_what_is_not_stored_of_a_folder_is_said(self) -> None:
        partial = self.package / "code/.imagestore-0123456789abcdef0123456789abcdef.part"
        partial.write_bytes(b"half")
        (self.package / "none/none").mkdir(parents=True)

        for path, flags, empty in [
            ("V1", [], ["2 empty folders are not kept; --mark keeps them"]),
            ("V2", ["--mark"], []),
        ]:
            done = self.run_command("put", str(self.package), path, *flags)
            self.assertEqual(done.returncode, 0)
            left = f"left out what a download that was broken off has left: {partial}"
            # Lines of progress may come first.
            said = [line for line in done.stderr.splitlines() if not line.startswith("uploading ")]
            self.assertEqual(said, [*empty, left])

        self.assertEqual(sorted(self.rest.tree("V1")), sorted(f"V1/{path}" for path in PACKAGE))
        self.assertTrue(self.rest.exists(f"V2/none/none/{MARK}"))

    def test_what_cannot_be_uploaded_is_refused_by_name(self) -> None:
        nowhere = str(self.folder / "nowhere")
        manifest = str(self.package / "manifest.xml")
        self.rest.put("V0/a")

        self.assert_fails("put", nowhere, "V1", says=[nowhere, "No such file"])
        self.assert_fails("put", manifest, "V1", "--mark", says=["--mark", manifest])
        self.assert_fails("put", manifest, "V1/../x", says=["..", "V1/../x"])
        self.assert_fails("put", manifest, "V0", says=["V0", "folder", "V0/ puts"])
        (self.package / "link").symlink_to("manifest.xml")
        self.assert_fails("put", str(self.package), "V1", says=["link", "symbolic link"])

        self.assertEqual(self.rest.tree(), {"V0/a": b""})

    def test_a_missing_path_is_not_downloaded(self) -> None:
        self.assert_fails("get", "no/such", str(self.folder / "out"), says=['"no/such"'])
        self.assertFalse((self.folder / "out").exists())


class Looking(CommandCase):
    """Listing, describing, deleting."""

    def setUp(self) -> None:
        super().setUp()
        self.rest.put_all({
            "App/_.dir": b"", "App/B.txt": b"12345", "App/a.txt": b"", "App/sub/x/y": b"12",
        })

    def test_a_folder_is_listed(self) -> None:
        self.assertEqual(self.command("ls"), "App/\n")
        self.assertEqual(self.command("ls", "-la"), self.command("ls", "-l"))
        self.assertEqual(self.command("list", "App"), "_.dir\na.txt\nB.txt\nsub/\n")
        self.assertEqual(self.command("ls", "App/B.txt"), "B.txt\n")
        long = [line.split() for line in self.command("ls", "-l", "App").splitlines()]
        self.assertEqual([(line[0], line[1], line[-1]) for line in long], [
            ("0", "B", "_.dir"), ("0", "B", "a.txt"), ("5", "B", "B.txt"), ("2", "B", "sub/"),
        ])
        found = [(each["path"], each["size_bytes"]) for each in self.records("ls", "App")]
        self.assertEqual(found, [
            ("App/_.dir", 0), ("App/a.txt", 0), ("App/B.txt", 5), ("App/sub", 2),
        ])
        self.assert_fails("ls", "App/nothing", says=['"App/nothing"'])

    def test_a_path_is_described(self) -> None:
        folder = dict(line.split(None, 1) for line in self.command("stat", "App").splitlines())
        self.assertEqual(folder["path"], "App")
        self.assertEqual(folder["size"], "7 B (7 bytes)")
        self.assertEqual((folder["files"], folder["mark"]), ("4", "file  yes"))
        self.assertIn("kind       file", self.command("stat", "App/B.txt"))
        (described,) = self.records("stat", "/")
        self.assertEqual(described["entry"]["file_count"], 4)
        self.assertFalse(described["has_mark_file"])
        self.assert_fails("stat", "app", says=['"app"'])

    def test_the_space_is_told(self) -> None:
        self.command("cp", "App", "Again")

        (info,) = self.records("info")

        self.assertEqual(info["logical"], {"used_bytes": 14, "file_count": 8})
        self.assertLess(info["disk_available_bytes"], info["disk_capacity_bytes"])
        # Garbage is counted once, however often it was copied.
        self.rest.put("Many/0/large", bytes(1_000_000))
        for number in range(9):
            self.command("cp", "Many/0", f"Many/{number + 1}")
        self.command("rm", "Many")
        (after,) = self.records("info")
        self.assertLess(after["garbage"]["used_bytes"], 1_100_000)
        self.assertRegex(self.command("info"), r"(?m)^logical +14 B  files, each copy counted: 8$")

    def test_a_path_is_deleted(self) -> None:
        self.assertEqual(self.command("rm", "App/sub"), "deleted App/sub: 1 file, 2 B\n")
        self.assert_fails("rm", "App/sub", says=["nothing is at App/sub"])
        self.assertEqual(self.command("rm", "-rf", "App/sub"), "nothing is at App/sub\n")
        self.assertEqual(
            self.records("delete", "App/B.txt"),
            [{"path": "App/B.txt", "files_deleted": 1, "bytes_deleted": 5}],
        )
        done = self.run_command("rm", "-r", "none", "App/a.txt", "none/too")
        self.assertEqual((done.returncode, done.stdout), (1, "deleted App/a.txt: 1 file, 0 B\n"))
        self.assertEqual(
            [line.split(";")[0] for line in done.stderr.splitlines()],
            ["imagestore: nothing is at none", "imagestore: nothing is at none/too"],
        )
        for bad in ["", "/", "App/..", "App/a|b"]:
            self.assert_fails("rm", bad, says=["path"])

        self.assertEqual(self.rest.tree(), {"App/_.dir": b""})

    def test_a_reader_that_leaves_ends_what_only_shows(self) -> None:
        for arguments in [["ls"], ["ls", "--json"], ["stat", "App"], ["info"], ["operations"]]:
            with self.subTest(arguments=arguments):
                done = self.run_command(*arguments, stdout=self.closed_pipe())
                self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_a_reader_that_leaves_does_not_end_what_works(self) -> None:
        package = write_tree(self.folder / "package", {"a": b"1", "b": b"2"})

        for arguments in [["put", str(package), "New"], ["cp", "New", "Newer"], ["rm", "App"]]:
            done = self.run_command(*arguments, "--json", stdout=self.closed_pipe())
            self.assertEqual((done.returncode, done.stderr), (0, ""), arguments)

        self.assertEqual(self.rest.tree(), {
            "New/a": b"1", "New/b": b"2", "Newer/a": b"1", "Newer/b": b"2",
        })

    def test_only_what_all_commands_share_is_an_environment_variable(self) -> None:
        listed: Any = self.command("ls", "App", env={"IMAGESTORE_JSON": "1"})
        self.assertIn('"path":"App/B.txt"', listed)
        switches = ["LONG", "KEEP", "DETACH", "DEEP", "VERIFY", "MARK", "CHECK_MARK", "STATE"]
        switches = {f"IMAGESTORE_{name}": "true" for name in switches}
        self.assertNotIn("5 B", self.command("ls", "App", env=switches))
        self.command("cp", "App", "App2")
        self.rest.put("App2/more", b"1")
        said = self.command("cp", "App2", "App", env=switches)
        self.assertEqual(said, "copied App2 to App: 5 files, 8 B; replaced 4 files\n")
        for command in COMMANDS:
            if command not in ["serve", "gateway"]:
                found = set(re.findall(r"env: (IMAGESTORE_\w+)", self.command(command, "--help")))
                self.assertEqual(found - SHARED, set(), command)

    def closed_pipe(self) -> int:
        """A pipe whose reading end is closed."""
        reader, writer = os.pipe()
        os.close(reader)
        self.addCleanup(os.close, writer)
        return writer
