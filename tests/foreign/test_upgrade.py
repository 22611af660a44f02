"""Stores of another format: the command `upgrade`, the start of a server, and servers of an older program beside them."""

import os
import sqlite3
import subprocess
import tempfile
import threading
import uuid
from contextlib import closing
from pathlib import Path

from .buckets import S3
from .command import CommandCase
from .server import Server, binary, environment

PSQL = "/usr/lib/postgresql/15/bin/psql"
DUMPS = Path(__file__).parents[1] / "check/formats"
LATEST = 7
NEWER = LATEST + 1
# The row of a server of the program before, with a lease of five seconds.
OLD_SERVER = "01a22d5f-0000-70b9-a19c-2c0c5c249079"
OLD_ROW = f"INSERT INTO server VALUES ('{OLD_SERVER}', 0, 1, 5000000, {LATEST - 1}, NULL)"
# The servers of the dump have ended.
ENDED = "UPDATE server SET state = 3, ended = 0"
SECONDS = 60


def upgraded(before: int, place: str = "PostgreSQL") -> str:
    """What an upgrade from a format says."""
    return f"brought the store in {place} from format {before} to format {LATEST}\n"


class EmbeddedStores(CommandCase):
    """Stores in a data folder."""

    def load(self, format_: int) -> str:
        """A data folder with a store of an older format, without the objects of its files."""
        data = self.folder / f"format-{format_}"
        data.mkdir()
        with closing(sqlite3.connect(data / "namespace.sqlite")) as database:
            database.executescript((DUMPS / f"{format_}.sqlite.sql").read_text(encoding="utf-8"))
        return str(data)

    def test_an_older_store_is_brought_up_to_date_once(self) -> None:
        """Any format before, by the data folder or by the database."""
        for format_ in [1, LATEST - 1]:
            data = self.load(format_)
            file = f"{data}/namespace.sqlite"
            self.assertEqual(self.command("upgrade", "--data", data), upgraded(format_, file))
            latest = f"the store in {file} has format {LATEST}, which this program writes\n"
            self.assertEqual(self.command("upgrade", "--database", f"sqlite://{file}"), latest)
            (told,) = self.records("upgrade", "--data", data)
            self.assertEqual(told, {"format_before": LATEST, "format": LATEST})

    def test_what_cannot_be_upgraded_stays(self) -> None:
        """A store that a server has, one of a newer program, and none."""
        self.assert_fails("upgrade", "--data", str(self.server.data), says=["another server has the database"])
        none = self.folder / "none"
        self.assert_fails("upgrade", "--data", str(none), says=[f"no store is in {none}/namespace.sqlite; name its data folder"])
        self.assertFalse(none.exists())
        data = self.load(LATEST - 1)
        with closing(sqlite3.connect(f"{data}/namespace.sqlite", isolation_level=None)) as database:
            database.execute(f"UPDATE meta SET value = {NEWER} WHERE name = 'format'")
        says = f"the store has format {NEWER} and this program knows {LATEST}; use a newer imagestore"
        self.assert_fails("upgrade", "--data", data, says=[says])


class OldServer:
    """A server of an older program, as the database sees it: its count rises until it ends."""

    def __init__(self, sql: "SharedStores") -> None:
        self._sql = sql
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._commit)

    def _commit(self) -> None:
        while not self._over.wait(0.1):
            self._sql.ask(f"UPDATE server SET batch = batch + 1 WHERE id = '{OLD_SERVER}'")

    def __enter__(self) -> None:
        self._sql.ask(OLD_ROW)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


class SharedStores(CommandCase):
    """Stores in PostgreSQL and a bucket, which several servers may have."""

    def setUp(self) -> None:
        super().setUp()
        url = os.environ.get("IMAGESTORE_TEST_POSTGRES")
        assert url is not None, "IMAGESTORE_TEST_POSTGRES is not set; tests/run sets it to a server of databases"
        self.schema = f"u{uuid.uuid4().hex}"
        self.url = f"{url}?options=-c%20search_path%3D{self.schema}"
        self.addCleanup(subprocess.run, [PSQL, url, "--quiet", "--command", f"DROP SCHEMA {self.schema} CASCADE"], check=True)
        dump = (DUMPS / f"{LATEST - 1}.postgres.sql").read_text(encoding="utf-8")
        self.ask(f"CREATE SCHEMA {self.schema};\n{dump};\n{ENDED}")
        folder = self.enterContext(tempfile.TemporaryDirectory(prefix="imagestore-"))
        self.buckets = S3(Path(folder) / "buckets")
        self.addCleanup(self.buckets.stop)
        self.buckets.make_bucket("store")

    def ask(self, sql: str) -> list[str]:
        """Runs statements, and returns their rows."""
        command = [PSQL, self.url, "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"]
        done = subprocess.run(
            command, input=sql, capture_output=True, encoding="utf-8", check=False, timeout=SECONDS
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.splitlines()

    def format(self) -> int:
        """The format of the store."""
        (value,) = self.ask("SELECT value FROM meta WHERE name = 'format'")
        return int(value)

    def serve(self) -> str:
        """What a start says that is refused."""
        done = subprocess.run(
            [binary(), "serve", "--listen", "127.0.0.1:0", "--data", str(self.folder / "new"), "--database", self.url,
             "--blobs", "s3://store/parts"],
            env=environment() | self.buckets.variables(), capture_output=True, encoding="utf-8", check=False,
            timeout=SECONDS,
        )
        self.assertEqual(done.returncode, 1, done.stderr)
        return done.stderr.splitlines()[-1]

    def test_a_server_of_an_older_program_keeps_the_format(self) -> None:
        """Neither an upgrade nor a start takes its tables from it, until it has ended."""
        says = f"the server {OLD_SERVER} on this store knows formats up to {LATEST - 1} only"
        with OldServer(self):
            self.assert_fails("upgrade", "--database", self.url, says=[says])
            self.assertIn(says, self.serve())
            self.assertEqual(self.format(), LATEST - 1)
        # It was killed: its row stands still for its lease.
        self.assertEqual(self.command("upgrade", "--database", self.url), upgraded(LATEST - 1))
        self.assertEqual(self.format(), LATEST)

    def test_a_store_of_a_newer_program_is_refused(self) -> None:
        """The start says so, and leaves nothing."""
        self.ask(f"UPDATE meta SET value = {NEWER} WHERE name = 'format'")
        says = f"the store has format {NEWER} and this program knows {LATEST}; use a newer imagestore"
        self.assertIn(says, self.serve())
        self.assert_fails("upgrade", "--database", self.url, says=[says])
        self.assertEqual(self.ask(f"SELECT COUNT(*) FROM server WHERE speaks >= {LATEST}"), ["0"])

    def test_servers_of_this_program_may_run_meanwhile(self) -> None:
        """There is nothing to do then."""
        self.ask(f"DROP SCHEMA {self.schema} CASCADE; CREATE SCHEMA {self.schema}")
        self.assert_fails("upgrade", "--database", self.url, says=["no store is in the database"])
        under = ("env", *(f"{name}={value}" for name, value in self.buckets.variables().items()))
        server = Server(self.folder / "new", "--database", self.url, "--blobs", "s3://store/parts", under=under)
        self.addCleanup(server.kill)
        self.assertIn(f"the store in PostgreSQL has format {LATEST}", self.command("upgrade", "--database", self.url))
        server.stop()
