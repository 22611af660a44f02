"""The commands `backup` and `restore`: under load, repeated, on a new store, and with damaged files."""

import hashlib
import itertools
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from .command import CommandCase
from .crash import Files, Http, below
from .server import Server

WRITERS = 4
BACKUPS = 3
LARGE = 9 << 20
SECONDS = 120


def version(number: int) -> Files:
    """The files of one version of a package: each file contains the number of the version."""
    tag = b"%08d" % number
    return {
        "_.dir": b"",
        "Code/program": tag * 5_000,
        "Code/library": b"the same in every version" * 1_000,
        "Config/Settings.xml": tag,
        "Data/a/b/c": tag + b"!",
    }


def digests(files: Files) -> dict[str, str]:
    """The digests of files whose bytes are too many to be printed."""
    return {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}


class Writer(threading.Thread):
    """Publishes one version after the other, each by one copy, and keeps copies of some versions."""

    def __init__(self, name: str, endpoint: tuple[str, int]) -> None:
        super().__init__()
        self.published = 0
        self.over = threading.Event()
        self.moved = threading.Condition()
        self.failure: BaseException | None = None
        self._name = name
        self._http = Http(endpoint)

    def run(self) -> None:
        try:
            for number in itertools.count(1):
                if self.over.is_set():
                    return
                self._publish(number)
                with self.moved:
                    self.published = number
                    self.moved.notify_all()
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self._http.close()
            with self.moved:
                self.moved.notify_all()

    def wait(self, number: int) -> None:
        """Waits until a version is published."""
        with self.moved:
            assert self.moved.wait_for(
                lambda: self.failure or self.published >= number, timeout=SECONDS
            )

    def _publish(self, number: int) -> None:
        stage, app = f"stage/{self._name}", f"app/{self._name}"
        for path, data in version(number).items():
            assert self._http.call("PUT", f"{stage}/{path}", data) == (200, b"")
        for target in [app, f"kept/{self._name}/{number}"]:
            body = f'{{"RemoteSource":"{stage}","RemoteDestination":"{target}"}}'
            assert self._http.call("POST", "$/Copy", body.encode()) == (200, b"")
        if number > 3:
            old = f"kept/{self._name}/{number - 3}"
            assert self._http.call("DELETE", old) == (200, b"")


class BackupUnderLoadTest(CommandCase):
    """A store that clients write to while backups are taken."""

    def test_every_package_of_a_backup_is_one_whole_version(self) -> None:
        """Restores some backups, checks each restored store deeply, and reads every package."""
        writers = [Writer(str(number), self.server.endpoint) for number in range(WRITERS)]
        snapshots = []
        try:
            for writer in writers:
                writer.start()
            for number in range(BACKUPS):
                for writer in writers:
                    writer.wait(writer.published + 2)
                (backed,) = self.records("backup", f"{self.folder}/backups/")
                snapshots.append(["backups", "--snapshot", backed["snapshot"]])
            self.command("backup", f"{self.folder}/one.imagestore")
            snapshots.append(["one.imagestore"])
        finally:
            for writer in writers:
                writer.over.set()
            for writer in writers:
                writer.join()
        self.assertEqual([writer.failure for writer in writers], [None] * WRITERS)
        self.assertIn("clean", self.command("check", "--deep"))
        latest = [self._newest(source, number) for number, source in enumerate(snapshots)]
        self.assertEqual(latest, sorted(latest), "later backups show later versions")
        self.assertGreater(latest[-1], latest[0])

    def _newest(self, source: list[str], number: int) -> int:
        """Restores a backup, checks that each package is one version, and returns the newest version."""
        data = self.folder / f"restored-{number}"
        self.command("restore", *source, "--data", str(data), cwd=self.folder)
        self.assertIn("clean", self.command("check", "--deep", "--data", str(data)))
        server = Server(data)
        self.addCleanup(server.kill)
        http = Http(server.endpoint)
        apps, kept = http.tree("app"), http.tree("kept")
        http.close()
        newest = 0
        for name in map(str, range(WRITERS)):
            app = below(apps, f"app/{name}")
            newest = max(newest, int(app["Config/Settings.xml"]))
            self.assertEqual(digests(app), digests(version(int(app["Config/Settings.xml"]))))
            copies = below(kept, f"kept/{name}")
            for copy in {path.split("/")[0] for path in copies}:
                self.assertEqual(digests(below(copies, copy)), digests(version(int(copy))))
        server.stop()
        return newest


class BackupTest(CommandCase):
    """A small store, and its backups."""

    def setUp(self) -> None:
        super().setUp()
        self.rest.put_all(
            {
                "app/_.dir": b"",
                "app/small": b"small",
                "app/large": bytes(100_000),
                "app/larger": bytes(range(256)) * (LARGE // 256),
            }
        )
        self.command("copy", "app", "copies/1")
        self.command("copy", "copies", "copies2/x")
        self.store = self.folder / "backups"

    def _parts(self) -> dict[Path, int]:
        """The files of parts, each with its inode number, which changes when the file is written again."""
        files = (self.store / "parts").rglob("*")
        return {path: path.stat().st_ino for path in files if path.is_file()}

    def _restored(self, *arguments: str) -> dict[str, str]:
        """Restores a backup into a new store, and returns the digests of its files."""
        server = Server(self.folder / f"data-{len(list(self.folder.iterdir()))}")
        self.addCleanup(server.stop)
        environment = {"IMAGESTORE_SERVER": server.url}
        self.assertRegex(
            self.command("restore", *arguments, env=environment), r"^restored 12 files, .* from "
        )
        self.assertIn("clean", self.command("check", "--deep", env=environment))
        http = Http(server.endpoint)
        self.addCleanup(http.close)
        return digests(http.tree(""))

    def test_a_second_backup_moves_only_what_is_new(self) -> None:
        """Each part is fetched once, and existing files are not written again."""
        files = digests(self.rest.tree())
        (first,) = self.records("backup", f"{self.store}/")
        # Two small parts, and the two parts of the file that is larger than one part.
        self.assertEqual((first["parts"], first["new_parts"]), (4, 4))
        self.assertEqual(first["new_bytes"], 100_005 + LARGE)
        self.assertEqual(len(self._parts()), 4)
        before = self._parts()
        (second,) = self.records("backup", str(self.store))
        self.assertEqual((second["parts"], second["new_parts"], second["new_bytes"]), (4, 0, 0))
        self.assertEqual(self._parts(), before)
        self.rest.put("app/new", b"new")
        (third,) = self.records("backup", str(self.store))
        self.assertEqual((third["parts"], third["new_parts"], third["new_bytes"]), (5, 1, 3))
        self.assertEqual(before.items() - self._parts().items(), set())
        names = [first["snapshot"], second["snapshot"], third["snapshot"]]
        self.assertEqual(names, sorted(names))
        old = self._restored(str(self.store), "--snapshot", first["snapshot"])
        self.assertEqual(old, files)
        self.assertEqual(
            [path.name for path in self.store.rglob("*.part")], [], "nothing unfinished is left"
        )

    def test_a_file_holds_everything(self) -> None:
        """Writes one file, which is not overwritten without `--force`, and restores from it alone."""
        file = self.folder / "one.imagestore"
        self.assertRegex(self.command("backup", str(file)), r"^backed up 12 files, .* 4 new parts")
        self.assertEqual(self._restored(str(file)), digests(self.rest.tree()))
        kept = file.read_bytes()
        self.assert_fails("backup", str(file), says=["exists already", "--force"])
        self.assertEqual(file.read_bytes(), kept)
        self.command("backup", str(file), "--force")
        self.assertEqual(self._restored(str(file)), digests(self.rest.tree()))

    def test_a_stopped_store(self) -> None:
        """Takes a backup of a stopped store, and restores it to a folder without a store."""
        files, new = digests(self.rest.tree()), str(self.folder / "new")
        self.server.stop()
        self.command("backup", f"{self.store}/", "--data", str(self.server.data))
        self.command("restore", str(self.store), "--data", new)
        self.assert_fails(
            "restore", str(self.store), "--data", new, says=["the store holds files already"]
        )
        self.assert_fails(
            "backup", str(self.store), "--data", f"{new}-not", says=["no store is in"]
        )
        self.server.data = Path(new)
        self.start_again()
        self.assertEqual(digests(self.rest.tree()), files)


def network_sockets(process: int) -> list[str]:
    """The lines of the kernel's tables of TCP and UDP sockets that belong to a process."""
    links = [os.readlink(link) for link in Path(f"/proc/{process}/fd").iterdir()]
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    tables = [Path(f"/proc/{process}/net/{name}") for name in ("tcp", "tcp6", "udp", "udp6")]
    lines = [line for table in tables for line in table.read_text().splitlines()[1:]]
    return [line for line in lines if line.split()[9] in inodes]


class KilledTest(CommandCase):
    """A server that is killed while it restores a backup."""

    def test_nothing_of_it_is_visible_and_all_of_it_is_freed(self) -> None:
        """Kills the server when a part of the backup is on its disk; the same backup can be restored afterwards."""
        files = {f"app/{number}": b"%06d" % number * 4_000 for number in range(600)}
        self.rest.put_all(files)
        whole, pipe = self.folder / "whole", self.folder / "pipe"
        self.command("backup", str(whole))
        os.mkfifo(pipe)
        backup = whole.read_bytes()
        server = Server(self.folder / "new", "--reclaim-grace", "0")
        self.addCleanup(server.kill)
        environment = {"IMAGESTORE_SERVER": server.url}
        with self.start("restore", str(pipe), env=environment) as running:
            with pipe.open("wb", buffering=0) as sent:
                sent.write(backup[:-100])
                self._until(lambda: self._pins(server.data) > 0)
                server.kill()
                self.assert_error(running.end(), "cannot reach")
        server.start()
        environment = {"IMAGESTORE_SERVER": server.url}
        self.assertIn("clean", self.command("check", "--deep", env=environment))
        self.assertEqual(self.command("list", env=environment), "")
        self._until(lambda: self._unique(environment) == 0)
        self.assertEqual(self._pins(server.data), 0)
        self.assertIn("600 files", self.command("restore", str(whole), env=environment))
        self.assertIn("clean", self.command("check", "--deep", env=environment))
        http = Http(server.endpoint)
        self.assertEqual(digests(http.tree("app")), digests(files))
        http.close()

    def test_nobody_else_reaches_the_server_of_an_offline_command(self) -> None:
        """An offline command has no network socket while it works on a stopped store."""
        self.rest.put("app/file", b"1" * 100_000)
        whole, pipe, data = self.folder / "whole", self.folder / "pipe", self.folder / "new"
        self.command("backup", str(whole))
        os.mkfifo(pipe)
        with self.start("restore", str(pipe), "--data", str(data)) as running:
            with pipe.open("wb", buffering=0) as sent:
                backup = whole.read_bytes()
                sent.write(backup[:-100])
                self._until(lambda: self._pins(data) > 0)
                self.assertEqual(network_sockets(running.process.pid), [])
                self.assertNotEqual(network_sockets(self.server.pid), [])
                sent.write(backup[-100:])
            self.assertIn("1 file", running.end().stdout)

    def _pins(self, data: Path) -> int:
        """Counts the pins in the database; 0 while it has no tables."""
        if not Path(data, "namespace.sqlite").exists():
            return 0
        with closing(sqlite3.connect(f"file:{data}/namespace.sqlite?mode=ro", uri=True)) as tables:
            made = "SELECT 1 FROM sqlite_master WHERE name = 'pin'"
            if not tables.execute(made).fetchone():
                return 0
            return int(tables.execute("SELECT COUNT(*) FROM pin").fetchone()[0])

    def _unique(self, environment: dict[str, str]) -> int:
        """Counts the parts of a store."""
        info = json.loads(self.command("info", "--json", env=environment))
        return int(info["unique"]["file_count"])

    def _until(self, is_true: Callable[[], bool]) -> None:
        """Polls a condition until it is true; fails at a timeout."""
        end = time.monotonic() + SECONDS
        while not is_true():
            self.assertLess(time.monotonic(), end)


class BadBackupTest(CommandCase):
    """Damaged backups, and stores that cannot take a backup: the error is one line, and nothing is restored."""

    def setUp(self) -> None:
        super().setUp()
        self.rest.put_all({"app/small": b"small", "app/large": bytes(100_000)})
        self.store = self.folder / "backups"
        (backed,) = self.records("backup", f"{self.store}/")
        self.manifest = Path(backed["path"])
        self.command("delete", "app")

    def _refused(self, *says: str) -> None:
        self.assert_fails("restore", str(self.store), says=list(says))
        self.assertEqual(self.rest.tree(), {})

    def _damaged(self, file: Path, damage: Callable[[bytes], bytes], *says: str) -> None:
        """Damages a file during one refused restore."""
        kept = file.read_bytes()
        file.write_bytes(damage(kept))
        self._refused(file.name, *says)
        file.write_bytes(kept)

    def test_what_is_wrong_is_said(self) -> None:
        """The error names the damaged file; the backup is restored after the file is intact again."""
        self._damaged(self.manifest, lambda kept: kept[:-10], "it is truncated")
        self._damaged(self.manifest, lambda kept: kept[: len(kept) // 2], "it is truncated")
        self._damaged(self.manifest, lambda kept: kept.replace(b"small", b"smell"), "it is damaged")
        self._damaged(self.manifest, lambda _: b"just some text of a person\n", "it is no backup")
        # The format is the first field of the first record.
        newer = lambda kept: kept.replace(b"\x08\x01", b"\x08\x02", 1)  # noqa: E731
        self._damaged(self.manifest, newer, "it has format 2", "use a newer imagestore")
        small, large = sorted(
            (path for path in (self.store / "parts").rglob("*") if path.is_file()),
            key=lambda path: path.stat().st_size,
        )
        self._damaged(small, lambda _: b"smell", "the bytes of this part are damaged")
        self._damaged(large, lambda kept: kept[1:], "is missing")
        large.rename(self.folder / "away")
        self._refused(large.name, "is missing")
        # A new backup of the empty store needs none of the parts; the old backup is selected by its name.
        (empty,) = self.records("backup", str(self.store))
        self.assertEqual((empty["file_count"], empty["parts"]), (0, 0))
        (self.folder / "away").rename(large)
        self.command("restore", str(self.store), "--snapshot", self.manifest.name)
        self.assertEqual(len(self.rest.tree()), 2)
        self.assert_fails("restore", str(self.store), says=["the store holds files already, 2"])

    def test_a_full_disk(self) -> None:
        """A restore is refused if the disk has too little space, and succeeds on a disk with enough space."""
        server = Server(self.folder / "full", "--reserve", "900T")
        self.addCleanup(server.kill)
        environment = {"IMAGESTORE_SERVER": server.url}
        done = self.run_command("restore", str(self.store), env=environment)
        self.assert_error(done, "the disk is full but for its reserve")
        server.stop()
        self.assertIn("clean", self.command("check", "--data", str(server.data)))
        self.command("restore", str(self.store), "--data", str(server.data))

    def test_a_restore_that_cannot_begin_makes_no_store(self) -> None:
        """The backup is validated before the data folder is created."""
        text = self.folder / "text"
        text.write_bytes(b"just some text of a person\n")
        for arguments, says in [
            ([f"{self.folder}/no"], "No such file"),
            ([f"{self.folder}/no/"], "it is no folder of backups"),
            ([str(text)], "it is no backup"),
            ([str(self.store), "--snapshot", "2000"], "no snapshot"),
        ]:
            new = self.folder / "new"
            self.assert_fails("restore", *arguments, "--data", str(new), says=[says])
            self.assertFalse(new.exists())
        # Bytes that were read from a pipe cannot be read again, so a pipe is not validated before.
        pipe, whole = self.folder / "pipe", self.folder / "whole"
        self.command("backup", str(whole))
        os.mkfifo(pipe)
        with self.start("restore", str(pipe), "--data", str(new)) as running:
            pipe.write_bytes(whole.read_bytes())
            done = running.end()
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertTrue(new.exists())

    def test_places_that_are_none(self) -> None:
        """The error says why a path is no valid place of backups."""
        self.assert_fails("restore", f"{self.folder}/no", says=["cannot read", "/no: No such file"])
        self.assert_fails("restore", f"{self.folder}/no/", says=["it is no folder of backups"])
        self.assert_fails("restore", str(self.folder), says=["it is no folder of backups"])
        self.assert_fails(
            "restore", str(self.store), "--snapshot", "2000", says=['no snapshot "2000"', "newest"]
        )
        self.assert_fails(
            "restore", str(self.manifest), "--snapshot", "2000", says=["a file has no snapshots"]
        )
        self.assert_fails("backup", f"{self.folder}/no/file", says=["cannot write", "No such file"])
        # A manifest alone contains the records without the bytes.
        self.assert_fails("restore", str(self.manifest), says=["the bytes of a part are missing"])
        self.assertEqual(self.rest.tree(), {})
