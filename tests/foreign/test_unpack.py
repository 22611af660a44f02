"""Archives of Python's `zipfile` that become folders, by the command line and by plain HTTP."""

import io
import random
import zipfile
from .command import CommandCase

KIB = 1024
MIB = 1024 * KIB
ENTRIES_MAX = 100_000


def pack(
    files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b""
) -> bytes:
    """An archive of these files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.comment = comment
    return stream.getvalue()


def noise(seed: int, length: int) -> bytes:
    """Bytes that cannot be compressed."""
    return random.Random(seed).randbytes(length)


class Commands(CommandCase):
    """`imagestore put --unpack`."""

    def archive(self, name: str, files: dict[str, bytes]) -> str:
        path = self.folder / name
        path.write_bytes(pack(files))
        return str(path)

    def test_a_package_becomes_a_folder(self) -> None:
        files = {"ApplicationManifest.xml": b"<a/>", "Code/Ünï/日本.dll": noise(1, 20 * KIB), "Data/": b""}
        package = self.archive("CalcApp.sfpkg", files)

        said = self.command("put", package, "CalcAppV1", "--unpack")

        self.assertEqual(said, "unpacked CalcAppV1: 2 files, 20.00 KiB\n")
        out = self.folder / "out"
        self.command("get", "CalcAppV1", str(out))
        found = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
        self.assertEqual(found, {"ApplicationManifest.xml", "Code/Ünï/日本.dll"})
        self.assertEqual((out / "Code/Ünï/日本.dll").read_bytes(), noise(1, 20 * KIB))
        # In a folder it has the name of the archive without the extension.
        self.command("put", package, "Store/", "--unpack", "--mark")
        listed = self.command("ls", "Store/CalcApp")
        for name in ["_.dir", "ApplicationManifest.xml", "Code", "Data"]:
            self.assertIn(name, listed)
        # A second time it replaces the folder as a whole.
        smaller = self.archive("smaller.zip", {"ApplicationManifest.xml": b"<b/>"})
        said = self.command("put", smaller, "CalcAppV1", "--unpack")
        self.assertEqual(said, "unpacked CalcAppV1: 1 file, 4 B; replaced 2 files\n")
        (record,) = self.records("put", smaller, "CalcAppV1", "--unpack")
        self.assertEqual((record["kind"], record["path"]), ("ENTRY_KIND_FOLDER", "CalcAppV1"))

    def test_the_standard_input_is_unpacked(self) -> None:
        with open(self.archive("a.zip", {"a": b"hello"}), "rb") as stream:
            running = self.enterContext(self.start("put", "-", "piped", "--unpack", stdin=stream))
            self.assertEqual(running.end().stdout, "unpacked piped: 1 file, 5 B\n")
        self.assertEqual(self.command("get", "piped/a", "-"), "hello")

    def test_what_cannot_be_unpacked_is_told(self) -> None:
        (self.folder / "folder").mkdir()
        (self.folder / "text").write_text("hello", encoding="utf-8")
        climbs = self.archive("climbs.zip", {"../../etc/passwd": b"root"})
        fine = self.archive("fine.zip", {"a": b"1"})
        self.rest.put("file", b"1")
        for local, to, says in [
            (str(self.folder / "folder"), "x", "--unpack is for an archive"),
            (str(self.folder / "text"), "x", "archive"),
            (climbs, "x", '".."'),
            (fine, "file", "--replace replaces it"),
        ]:
            self.assert_fails("put", local, to, "--unpack", says=[says])
        self.assertEqual(self.command("ls").split(), ["file"])


class Requests(CommandCase):
    """`PUT …?unpack=true`."""

    def put(self, data: bytes, path: str = "x") -> tuple[int, str]:
        """Unpacks an archive, and returns the status and the body of the response."""
        response = self.rest.call("PUT", path, query={"unpack": "true"}, data=data)
        return response.status_code, response.text

    def test_ten_thousand_files_come_at_once(self) -> None:
        files = {f"folder{number % 97}/{number}": b"%d" % number for number in range(10_000)}
        self.assertEqual(self.put(pack(files)), (200, ""))
        self.assertEqual(sum(self.rest.listing("x").folders.values()), len(files))
        self.assertEqual(
            self.rest.tree("x/folder5"),
            {f"x/{name}": data for name, data in files.items() if name.startswith("folder5/")},
        )
        self.command("check", "--deep")

    def test_methods_comments_and_streams_of_other_tools_are_taken(self) -> None:
        files = {"a": noise(2, 9 * MIB), "b": bytes(MIB), "empty": b""}
        for method in [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]:
            self.assertEqual(self.put(pack(files, method, b"comment")), (200, ""))
        # An archive that was written to a pipe has its sizes behind the files.
        class Pipe(io.RawIOBase):
            def __init__(self) -> None:
                self.data = b""

            def writable(self) -> bool:
                return True

            def write(self, data) -> int:  # type: ignore[no-untyped-def, override]
                self.data += bytes(data)
                return len(data)

        pipe = Pipe()
        with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        self.assertEqual(self.put(pipe.data), (200, ""))
        # ZIP64, also where it is not needed.
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive, archive.open("a", "w", force_zip64=True) as file:
            file.write(files["a"])
        self.assertEqual(self.put(stream.getvalue()), (200, ""))
        self.assertEqual(self.rest.content("x/a"), files["a"])

    def test_archives_that_climb_repeat_or_explode_are_refused(self) -> None:
        self.rest.put("x/old", b"1")
        one = pack({"aaaaaaaaaa": b"1"}, zipfile.ZIP_STORED)
        for name in ["../../../x", "/etc/passw", "C:/windows", "..\\..\\abcd", "aaa/../bbb"]:
            status, body = self.put(one.replace(b"a" * 10, name.encode()))
            self.assertEqual(status, 400, name)
            self.assertIn("nothing is stored" if ".." not in name else "..", body, name)
        two = pack({"aaaa": b"1", "bbbb": b"2"}, zipfile.ZIP_STORED)
        status, body = self.put(two.replace(b"bbbb", b"aaaa"))
        self.assertEqual(status, 400)
        self.assertIn("twice", body)
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            link = zipfile.ZipInfo("link")
            link.create_system = 3
            link.external_attr = 0o120777 << 16
            archive.writestr(link, "/etc/passwd")
        status, body = self.put(stream.getvalue())
        self.assertEqual(status, 400)
        self.assertIn("a link", body)
        # 200 MiB of zeros are 200 KiB.
        status, body = self.put(pack({f"{number}": bytes(20 * MIB) for number in range(10)}))
        self.assertEqual(status, 413)
        self.assertIn("100 times its size", body)
        status, body = self.put(pack({f"{number}": b"" for number in range(ENTRIES_MAX + 1)}))
        self.assertEqual(status, 413)
        self.assertIn("at most 100000", body)
        self.assertEqual(self.command("ls", "x").split()[-1], "old")

    def test_a_file_in_the_archive_that_lies_about_its_size_is_refused(self) -> None:
        data = pack({"a": bytes(40 * MIB)})
        # The size in the directory, and in the header before the file.
        lies = data.replace((40 * MIB).to_bytes(4, "little"), (50).to_bytes(4, "little"))
        self.assertNotEqual(lies, data)
        status, body = self.put(lies)
        self.assertEqual(status, 400)
        self.assertIn("declared uncompressed size", body)

    def test_the_memory_of_the_server_stays_bounded(self) -> None:
        self.put(pack({"warm": b"1"}))
        before = self.server.memory()
        status, _ = self.put(pack({"a": noise(3, 200 * MIB)}, zipfile.ZIP_STORED))
        self.assertEqual(status, 200)
        self.assertLess(self.server.memory() - before, 128 * KIB)
