"""Packages: folders as ZIP archives, read by the programs and libraries of others."""

import subprocess
import threading
import zipfile
import zlib
from pathlib import Path

import requests

from .command import CommandCase
from .rest import TIMEOUT_SECONDS
from .server import environment

READ_ZIP = Path(__file__).with_name("ReadZip.java")
READER_SECONDS = 300
GIB = 1 << 30
MIB = 1 << 20
COMPRESSIONS = ["none", "deflate"]


def pattern(size: int, seed: int = 0) -> bytes:
    """Returns bytes that can be compressed, but not to nothing."""
    return bytes((at * 7 + at // 251 + seed) & 0x3F for at in range(size))


def run(*command: str) -> str:
    """Runs a reader, which must succeed, and returns its output."""
    done = subprocess.run(
        command, env=environment() | {"LC_ALL": "C.UTF-8"}, capture_output=True, encoding="utf-8",
        timeout=READER_SECONDS, check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


class PackageCase(CommandCase):
    """A test that downloads packages."""

    def fetch(self, path: str, compress: str = "none", name: str = "app.zip") -> Path:
        """Downloads the package of a folder to a local file, with curl."""
        local = self.folder / name
        url = f"{self.server.url}/Packages/{path}.zip?compress={compress}"
        run("curl", "-fsS", "-o", str(local), url)
        return local

    def assert_read(self, archive: Path, expected: dict[str, bytes]) -> None:
        """Asserts that every reader finds these files, folders included, in this order."""
        with zipfile.ZipFile(archive) as found:
            self.assertIsNone(found.testzip())
            self.assertEqual(found.namelist(), list(expected))
            for name, data in expected.items():
                self.assertTrue(found.read(name) == data, name)
        self.assert_tested(archive)
        lines = [
            f"{name} {len(data)} {zlib.crc32(data)}"
            for name, data in expected.items()
        ]
        self.assertEqual(java(archive), {"ZipFile": lines, "ZipInputStream": lines})

    def assert_tested(self, archive: Path) -> None:
        """Asserts that `unzip` and `7z` find no fault."""
        self.assertIn("No errors detected", run("unzip", "-tq", str(archive)))
        self.assertIn("Everything is Ok", run("7z", "t", "-bd", str(archive)))


def java(archive: Path) -> dict[str, list[str]]:
    """Returns the lines of `ReadZip.java` for each of both readers."""
    found: dict[str, list[str]] = {}
    command = ["java", "-Dstdout.encoding=UTF-8", "-Dfile.encoding=UTF-8", str(READ_ZIP)]
    for line in run(*command, str(archive)).splitlines():
        if " " not in line:
            lines = found.setdefault(line, [])
        else:
            lines.append(line)
    return found


class Readers(PackageCase):
    """What readers of archives see."""

    def test_every_reader_reads_an_application(self) -> None:
        sizes = [0, 1, 16_384, 65_535, 65_536, 65_537, 131_070, 131_071, 300_000, 9 * MIB]
        files = {f"Code/{size:08}": pattern(size, size) for size in sizes}
        files |= {"Größe/数 据/naïve 🚀.txt": b"text", "ΑΒΓ": b"alpha", "ApplicationManifest.xml": b"<A/>"}
        for path, data in files.items():
            self.rest.put(f"Apps/My App/{path}", data)
        for mark in ["_.dir", "Empty/_.dir", "Code/_.dir"]:
            self.rest.put(f"Apps/My App/{mark}")
        ordered = dict(sorted((files | {"Empty/": b""}).items(), key=lambda item: item[0].lower()))
        for compress in COMPRESSIONS:
            with self.subTest(compress=compress):
                archive = self.fetch("Apps/My%20App", compress)
                self.assert_read(archive, ordered)
                target = self.folder / f"out-{compress}"
                run("unzip", "-q", str(archive), "-d", str(target))
                for path, data in files.items():
                    self.assertTrue((target / path).read_bytes() == data, path)
                self.assertEqual(list((target / "Empty").iterdir()), [])

    def test_the_times_are_those_of_the_uploads(self) -> None:
        self.rest.put("App/f", b"1")
        (file,) = self.rest.call("GET", "App").json()["StoreFiles"]
        with zipfile.ZipFile(self.fetch("App")) as found:
            (entry,) = found.infolist()
        year, month, day, hour, minute, second = entry.date_time
        date = f"{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:"
        self.assertTrue(file["ModifiedDate"].startswith(date), (file, entry.date_time))
        self.assertEqual(int(file["ModifiedDate"][17:19]) // 2 * 2, second)
        self.assertEqual(entry.external_attr >> 16, 0o100644)

    def test_seventy_thousand_files(self) -> None:
        source = self.folder / "source"
        for number in range(10_000):
            path = source / f"{number % 100:03}" / f"file-{number:05}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"%d" % number)
        self.command("put", str(source), "All/0")
        archive = self.fetch("All/0")
        with zipfile.ZipFile(archive) as found:
            self.assertEqual(len(found.namelist()), 10_000)
            self.assertEqual(found.read("042/file-09942.txt"), b"9942")
        self.assert_tested(archive)
        self.assertEqual({name: len(lines) for name, lines in java(archive).items()},
                         {"ZipFile": 10_000, "ZipInputStream": 10_000})
        # More entries than 16 bits count.
        for number in range(1, 7):
            self.command("cp", "All/0", f"All/{number}")
        archive = self.fetch("All")
        with zipfile.ZipFile(archive) as found:
            self.assertEqual(len(found.namelist()), 70_000)
            self.assertEqual(found.read("6/042/file-09942.txt"), b"9942")
        self.assert_tested(archive)
        self.assertEqual({name: len(lines) for name, lines in java(archive).items()},
                         {"ZipFile": 70_000, "ZipInputStream": 70_000})

    def test_a_file_beyond_four_gib(self) -> None:
        # Equal parts are stored once, so the file takes no room in the store.
        size = 4 * GIB + 5
        zeros = bytes(8 * MIB)
        put = subprocess.Popen(
            ["curl", "-fsS", "-T", "-", f"{self.server.url}/ImageStore/Big/a.bin?api-version=6.0"],
            stdin=subprocess.PIPE,
        )
        assert put.stdin is not None
        with put.stdin as pipe:
            for _ in range(size // len(zeros)):
                pipe.write(zeros)
            pipe.write(b"12345")
        self.assertEqual(put.wait(READER_SECONDS), 0)
        self.rest.put("Big/b.txt", b"after it")
        head = requests.head(f"{self.server.url}/Packages/Big.zip", timeout=TIMEOUT_SECONDS)
        archive = self.fetch("Big")
        self.assertEqual(int(head.headers["Content-Length"]), archive.stat().st_size)
        with zipfile.ZipFile(archive) as found:
            self.assertEqual(found.getinfo("a.bin").file_size, size)
            self.assertEqual(found.read("b.txt"), b"after it")
        self.assert_tested(archive)
        for reader, lines in java(archive).items():
            sizes = [line.rsplit(" ", 1)[0] for line in lines]
            self.assertEqual(sizes, [f"a.bin {size}", "b.txt 8"], reader)


class Snapshots(PackageCase):
    """What a package is while others write, and the next time."""

    def test_the_same_folder_gives_the_same_bytes(self) -> None:
        for number in range(300):
            self.rest.put(f"App/{number % 7}/{number}", pattern(number * 400, number))
        for compress in COMPRESSIONS:
            first = self.fetch("App", compress, "first").read_bytes()
            self.restart()
            self.assertTrue(self.fetch("App", compress, "second").read_bytes() == first, compress)

    def test_a_writer_beside_it_changes_nothing(self) -> None:
        for generation in range(2):
            for number in range(200):
                self.rest.put(f"From/{generation}/{number:03}", pattern(5_000 + number, generation))
        self.command("cp", "From/0", "App")
        stop = threading.Event()

        def write() -> None:
            generation = 0
            while not stop.is_set():
                generation ^= 1
                self.command("cp", f"From/{generation}", "App")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            seen = set()
            for round_number in range(12):
                compress = COMPRESSIONS[round_number % 2]
                with zipfile.ZipFile(self.fetch("App", compress)) as found:
                    data = {name: found.read(name) for name in found.namelist()}
                generation = next(number for number in range(2) if data["000"] == pattern(5_000, number))
                seen.add(generation)
                self.assertEqual(len(data), 200)
                for number in range(200):
                    expected = pattern(5_000 + number, generation)
                    self.assertTrue(data[f"{number:03}"] == expected, (generation, number))
        finally:
            stop.set()
            writer.join()
        self.assertTrue(seen)

    def test_a_damaged_file_breaks_the_connection(self) -> None:
        self.server.expect("is corrupt")
        self.rest.put_all({"App/a": pattern(200_000), "App/b": pattern(100_000, 1)})
        objects = [path for path in (self.folder / "data/blobs").rglob("*-*") if path.is_file()]
        for path in objects:
            if path.stat().st_size == 100_000:
                path.write_bytes(bytes(100_000))
        for compress in COMPRESSIONS:
            url = f"{self.server.url}/Packages/App.zip?compress={compress}"
            done = subprocess.run(["curl", "-sS", "-o", "/dev/null", url], capture_output=True, check=False)
            self.assertEqual(done.returncode, 18, done.stderr)
        target = self.folder / "new" / "app.zip"
        self.assert_fails("get", "App", str(target), says=["is corrupt"])
        self.assertEqual(list(target.parent.iterdir()), [])


class Commands(PackageCase):
    """`get PATH x.zip`."""

    def test_a_folder_becomes_an_archive_where_the_name_says_so(self) -> None:
        files = {"Code/tool": pattern(70_000), "notes.txt": b"notes"}
        self.rest.put_all({f"App/{path}": data for path, data in files.items()})
        archive = self.folder / "new" / "App.sfpkg"
        said = self.command("get", "App", str(archive))
        self.assertRegex(said, r"^downloaded App: 1 file, ")
        self.assertTrue(archive.read_bytes() == self.fetch("App").read_bytes())
        self.assert_read(archive, files)
        (record,) = self.records("get", "App", str(self.folder / "again.zip"))
        self.assertEqual((record["path"], record["local"]), ("App", str(self.folder / "again.zip")))

        # A file stays, unless --force says otherwise.
        archive.write_bytes(b"mine")
        self.assert_fails("get", "App", str(archive), says=[f"{archive} exists"])
        self.assertEqual(archive.read_bytes(), b"mine")
        self.command("get", "App", str(archive), "--force")
        self.assert_read(archive, files)

    def test_a_file_and_a_folder_of_that_name_are_what_they_are(self) -> None:
        self.rest.put_all({"App/f": b"1", "App/x.zip": b"no archive", "App.zip/f": b"2"})
        self.command("get", "App/x.zip", str(self.folder / "x.zip"))
        self.assertEqual((self.folder / "x.zip").read_bytes(), b"no archive")
        # A target that is a folder, or can only be one, takes the files.
        (self.folder / "folder.zip").mkdir()
        for target in ["folder.zip", "other.zip/"]:
            self.command("get", "App", f"{self.folder}/{target}")
        self.assertEqual((self.folder / "folder.zip/f").read_bytes(), b"1")
        self.assertEqual((self.folder / "other.zip/App/f").read_bytes(), b"1")
        # The root has no archive, but files.
        self.assert_fails("get", "/", f"{self.folder}/all.zip", says=["the root has no archive", "all.zip/"])
        self.assertFalse((self.folder / "all.zip").exists())
        self.command("get", "/", f"{self.folder}/all.zip/")
        self.assertEqual((self.folder / "all.zip/App/f").read_bytes(), b"1")
        # Without a target, a folder keeps its own name, whatever that is.
        self.command("get", "App.zip", cwd=self.folder)
        self.assertEqual((self.folder / "App.zip/f").read_bytes(), b"2")
