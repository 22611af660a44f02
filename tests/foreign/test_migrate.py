"""The command `migrate`: between databases and blob stores, from servers and stopped stores, killed, and refused."""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

from .buckets import S3
from .command import CommandCase, StalledDisk
from .rest import Rest
from .server import Server, binary, environment
from .test_backup import Writer
from .test_readme import BLOCKS

PSQL = "/usr/lib/postgresql/15/bin/psql"
MIB = 1 << 20
# Two parts.
LARGE = bytes(range(256)) * (9 * MIB // 256)
FILES = {
    "app/_.dir": b"",
    "app/small": b"small",
    "app/code/medium": b"m" * 100_000,
    "app/code/large": LARGE,
    "app/Größe 数": "größe".encode(),
    "at the root": b"r" * 20_000,
}
# The distinct parts of these files, and their bytes.
PARTS, PART_BYTES = 6, 5 + 100_000 + len(LARGE) + 7 + 20_000
# Each is reached at least once; the test finds out how often.
POINTS = ["put", "stored", "commit", "committed", "recover", "recovered", "settle", "settled"]


def state(server: Server) -> dict[str, tuple[str, Any, str]]:
    """Each file of a store: the digest of its bytes, its version, and its time."""
    rest, found, folders = Rest(server.url), {}, [""]
    while folders:
        listing = json.loads(rest.call("GET", folders.pop()).content)
        folders += [folder["StoreRelativePath"] for folder in listing["StoreFolders"]]
        for file in listing["StoreFiles"]:
            path = file["StoreRelativePath"]
            digest = hashlib.sha256(rest.content(path)).hexdigest()
            found[path] = (digest, file["FileVersion"], file["ModifiedDate"])
    rest.close()
    return found


def number(found: dict[str, tuple[str, Any, str]]) -> int:
    """The highest number of a version."""
    return max(int(version["VersionNumber"]) for _, version, _ in found.values())


class MigrateCase(CommandCase):
    """A server with some files, which is the source."""

    def setUp(self) -> None:
        super().setUp()
        self.rest.put_all(FILES)
        self.command("copy", "app", "copies/1")
        self.command("copy", "copies", "copies2/x")
        self.data = str(self.server.data)
        self.target = str(self.folder / "target")

    def moved(self, *arguments: str, **options: Any) -> dict[str, Any]:
        """Runs a migration, which must succeed, and returns what it says."""
        done = self.run_command("migrate", *arguments, "--json", **options)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        return dict(json.loads(done.stdout))

    def served(self, *options: str, **variables: str) -> Server:
        """Serves a target."""
        data = self.folder / "other" if options else Path(self.target)
        under = ("env", *(f"{name}={value}" for name, value in variables.items()))
        server = Server(data, *options, under=under)
        self.addCleanup(server.kill)
        return server

    def refused(self, *arguments: str, says: list[str]) -> None:
        """A migration is refused, and prints nothing else than one line."""
        with self.subTest(arguments=arguments):
            self.assert_fails("migrate", *arguments, says=says)


class Engines(MigrateCase):
    """SQLite and a folder, PostgreSQL and S3."""

    buckets: S3

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        folder = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="imagestore-"))
        cls.buckets = S3(Path(folder) / "buckets")
        cls.addClassCleanup(cls.buckets.stop)

    def remote(self) -> list[str]:
        """A database and a bucket of its own, as `serve` takes them."""
        url = os.environ.get("IMAGESTORE_TEST_POSTGRES")
        assert url is not None, "IMAGESTORE_TEST_POSTGRES is not set; tests/run sets it to a server of databases"
        schema = f"m{uuid.uuid4().hex}"
        create = ["--quiet", "--command", f"CREATE SCHEMA {schema}"]
        subprocess.run([PSQL, url, *create], check=True, timeout=60)
        bucket = f"b-{uuid.uuid4()}"
        self.buckets.make_bucket(bucket)
        database = f"{url}?options=-c%20search_path%3D{schema}"
        return ["--database", database, "--blobs", f"s3://{bucket}/parts"]

    @staticmethod
    def end(side: str, options: list[str]) -> list[str]:
        """The options of `serve` as those of an end of a migration."""
        return [option.replace("--", f"--{side}-", 1) if option.startswith("--") else option for option in options]

    def test_there_and_back(self) -> None:
        """A store goes to PostgreSQL and S3, and from there to another folder, and is the same each time."""
        variables = self.buckets.variables()
        self.command("token", "create", "ci", "--role", "reader", "--path", "/", "--json")
        tokens = self.records("token", "list")
        before, there = state(self.server), self.remote()
        self.server.stop()

        moved = self.moved("--from-data", self.data, *self.end("to", there), env=variables)

        self.assertEqual((moved["passes"], moved["file_count"], moved["tokens"]), (1, len(before), 1))
        self.assertEqual((moved["new_parts"], moved["new_bytes"]), (PARTS, PART_BYTES))
        server = self.served(*there, **variables)
        self.assertEqual(state(server), before)
        url = {"IMAGESTORE_SERVER": server.url}
        self.assertEqual(json.loads(self.command("token", "list", "--json", env=url)), tokens[0])
        self.assertIn("clean", self.command("check", "--deep", env=url))
        # The next version is above all.
        new = self.folder / "new"
        new.write_bytes(b"new")
        self.command("put", str(new), "app/new", env=url)
        changed = state(server)
        self.assertEqual(changed.keys() - before.keys(), {"app/new"})
        self.assertGreater(number(changed), number(before))
        self.assertEqual(changed["app/new"][1]["EpochDataLossNumber"], before["app/small"][1]["EpochDataLossNumber"])
        server.stop()

        back = ["--to-data", self.target]
        moved = self.moved(*self.end("from", there), *back, env=variables)

        self.assertEqual((moved["file_count"], moved["new_parts"]), (len(changed), PARTS + 1))
        server = self.served()
        self.assertEqual(state(server), changed)
        server.stop()
        self.assertIn("clean", self.command("check", "--deep", "--data", self.target))
        # It was served, so it is no copy any more.
        done = self.run_command("migrate", *self.end("from", there), *back, env=variables)
        self.assert_error(done, f"the target holds {len(changed)} files of its own; name an empty target")
        self.start_again()
        self.assertEqual(state(self.server), before)

    def test_a_killed_migration_to_a_bucket_goes_on(self) -> None:
        """Parts in a bucket are not sent again, and PostgreSQL is not served before the end."""
        variables, there = self.buckets.variables(), self.remote()
        before = state(self.server)
        # The first commit is the mark; the next ones have parts.
        crash = variables | {"IMAGESTORE_CRASH_AT": "committed:3"}
        done = self.run_command("migrate", *self.end("to", there), env=crash)
        self.assertEqual(done.returncode, -9, done.stderr)
        options = ["--data", self.target, *there, "--listen", "127.0.0.1:0", "--log", "off"]
        done = self.run_command("serve", *options, env=variables)
        self.assert_error(done, "the store is an unfinished copy of another one; run 'imagestore migrate' again")

        schema, url = there[1].rsplit("%3D", 1)[1], os.environ["IMAGESTORE_TEST_POSTGRES"]
        count = ["--tuples-only", "--command", f"SELECT COUNT(*) FROM {schema}.part"]
        parts = int(subprocess.run([PSQL, url, *count], check=True, timeout=60, stdout=subprocess.PIPE).stdout)
        self.assertGreater(parts, 0)

        moved = self.moved(*self.end("to", there), env=variables)

        self.assertEqual(moved["new_parts"], PARTS - parts)
        server = self.served(*there, **variables)
        self.assertEqual(state(server), before)
        self.assertIn("clean", self.command("check", "--deep", env={"IMAGESTORE_SERVER": server.url}))
        server.stop()

    def test_the_commands_of_the_readme(self) -> None:
        """They move a store to PostgreSQL and S3: two runs while the server serves, one when it is stopped."""
        variables, there = self.buckets.variables(), self.remote()
        before = state(self.server)
        running, stopped = [
            block.replace("postgres://store:secret@127.0.0.1:5432/packages", there[1])
            .replace("s3://packages/parts", there[3])
            .replace("./imagestore-data", self.data)
            for kind, block in BLOCKS
            if kind.strip() == "move"
        ]
        path = f"{Path(binary()).parent}:{os.environ['PATH']}"
        variables |= environment() | {"PATH": path, "IMAGESTORE_SERVER": self.server.url}
        said = ""
        for script in [running, running.splitlines()[0] + "\n" + stopped]:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=self.folder, env=variables, capture_output=True, encoding="utf-8", timeout=120,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            said += done.stdout
            if script is running:
                self.server.stop()
        rest = ["without tokens.*", "without tokens.*", "with the key of links and 0 tokens"]
        parts = [PARTS, 0, 0]
        lines = [rf"migrated \d+ files, .* in 1 pass: {new} new parts, .*, {end}\n" for new, end in zip(parts, rest)]
        self.assertRegex(said, rf"\A{''.join(lines)}clean: .*\n\Z")
        server = self.served(*there, **self.buckets.variables())
        self.assertEqual(state(server), before)
        server.stop()
        self.start_again()


class Passes(MigrateCase):
    """A server that is copied while it serves."""

    def test_a_second_pass_moves_only_the_change(self) -> None:
        first = self.moved("--to-data", self.target)
        self.assertEqual((first["passes"], first["new_parts"], first["new_bytes"]), (1, PARTS, PART_BYTES))
        # app, its code, copies and copies2; app is copied, not its folder again.
        self.assertEqual((first["new_folders"], first["tokens"]), (4, None))
        again = self.moved("--to-data", self.target)
        self.assertEqual((again["new_parts"], again["new_folders"]), (0, 0))

        self.rest.put("copies/1/code/new", b"n" * 30_000)
        self.rest.call("DELETE", "at the root").raise_for_status()
        self.command("copy", "app", "more/of/it")
        second = self.moved("--to-data", self.target)

        self.assertEqual((second["new_parts"], second["new_bytes"]), (1, 30_000))
        # Three on the path of the new file, and two above the copy.
        self.assertEqual((second["passes"], second["new_folders"]), (1, 5))
        self.command("token", "create", "ci", "--role", "reader", "--path", "/")
        files = state(self.server)
        self.server.stop()
        line = self.command("migrate", "--from-data", self.data, "--to-data", self.target)
        self.assertRegex(
            line,
            rf"^migrated {len(files)} files, \S+ MiB, in 1 pass: 0 new parts, 0 B, 0 new folders, "
            "with the key of links and 1 token\n$",
        )
        server = self.served()
        self.assertEqual(state(server), files)
        server.stop()
        self.assertIn("clean", self.command("check", "--deep", "--data", self.target))

    def test_a_server_that_is_written_to(self) -> None:
        """Copies a store under load, and once more when it is stopped."""
        writers = [Writer(str(number), self.server.endpoint) for number in range(2)]
        passes = []
        try:
            for writer in writers:
                writer.start()
            for _ in range(3):
                for writer in writers:
                    writer.wait(writer.published + 2)
                passes.append(self.moved("--to-data", self.target)["passes"])
        finally:
            for writer in writers:
                writer.over.set()
            for writer in writers:
                writer.join()
        self.assertEqual([writer.failure for writer in writers], [None] * 2)
        self.assertGreater(max(passes), 1, "a server that was changed meanwhile is read again")
        files = state(self.server)
        self.server.stop()
        self.moved("--from-data", self.data, "--to-data", self.target)
        self.assertIn("clean", self.command("check", "--deep", "--data", self.target))
        server = self.served()
        self.assertEqual(state(server), files)
        server.stop()

    def test_parts_in_memory(self) -> None:
        """A server that keeps its parts in memory is copied before it stops, to a database and a folder by URL."""
        server = Server(self.folder / "memory", "--blobs", "memory://")
        self.addCleanup(server.kill)
        rest = Rest(server.url)
        self.addCleanup(rest.close)
        rest.put_all(FILES)
        files = state(server)
        there = f"{self.folder}/there"
        Path(there).mkdir()
        database, blobs = f"sqlite://{there}/names.sqlite", f"file://{there}/parts"
        moved = self.moved("--server", server.url, "--to-database", database, "--to-blobs", blobs)
        self.assertEqual((moved["file_count"], moved["new_parts"]), (len(FILES), PARTS))
        server.stop()
        server = self.served("--database", database, "--blobs", blobs)
        self.assertEqual(state(server), files)
        server.stop()

    def test_a_signal_and_a_stop(self) -> None:
        """What ends a migration is one line, and the next one goes on."""
        for end, says in [
            (lambda running: running.interrupt(), "stopped; the same command goes on with what the target has"),
            (lambda _: self.server.stop(), "cannot read the source: "),
        ]:
            with StalledDisk(self.server.data), self.start("migrate", "--to-data", self.target) as running:
                self.assertRegex(running.note(), "^migrating: ")
                end(running)
                self.assert_error(running.end(), says)
        self.start_again()
        self.moved("--to-data", self.target)
        files = state(self.server)
        server = self.served()
        self.assertEqual(state(server), files)
        server.stop()

    def test_a_server_that_asks_who_reads_it(self) -> None:
        """The caller needs the role of a reader at the root."""
        self.server.stop()
        tokens = {
            path: self.command("token", "create", f"t{at}", "--role", "reader", "--path", path, "--data", self.data)
            for at, path in enumerate(["/app", "/"])
        }
        server = Server(Path(self.data), "--access", "required")
        self.addCleanup(server.kill)
        for path, token in tokens.items():
            variables = {"IMAGESTORE_SERVER": server.url, "IMAGESTORE_TOKEN": token.strip()}
            done = self.run_command("migrate", "--to-data", self.target, env=variables)
            if path == "/":
                self.assertEqual(done.returncode, 0, done.stderr)
            else:
                self.assert_error(done, "cannot read the source: ", "may not read")
                self.assertFalse(Path(self.target).exists())
        server.stop()
        self.start_again()


class Killed(MigrateCase):
    """Migrations that are killed at each durable step of the target."""

    def test_at_each_step(self) -> None:
        for point in POINTS:
            for hit in range(1, 1_000):
                with self.subTest(point=point, hit=hit):
                    is_killed = self.killed_and_resumed(f"{point}:{hit}")
                    # What a second pass changes: a new part, and what is gone.
                    self.rest.put(f"app/{point}/{hit}", f"{point} {hit}".encode() * 2_000)
                    self.rest.call("DELETE", f"app/{point}/{hit - 1}").raise_for_status()
                    self.killed_and_resumed(f"{point}:{hit}")
                    server = self.served()
                    self.assertEqual(state(server), state(self.server))
                    server.stop()
                shutil.rmtree(self.target)
                if not is_killed:
                    self.assertGreater(hit, 1, "the point is never reached")
                    break
            else:
                self.fail("the migration has too many steps")
        self.assertIn("clean", self.command("check", "--deep"))

    def killed_and_resumed(self, point: str) -> bool:
        """Kills a pass at a step, and runs it again. Returns false if it ended before that step."""
        copy = ["migrate", "--to-data", self.target]
        done = self.run_command(*copy, env={"IMAGESTORE_CRASH_AT": point})
        if done.returncode == 0:
            return False
        self.assertEqual(done.returncode, -9, done.stderr)
        options = ["--data", self.target, "--listen", "127.0.0.1:0", "--log", "off"]
        # Before its first transaction a target is no copy yet, or still the copy of the pass before.
        with closing(sqlite3.connect(f"{self.target}/namespace.sqlite")) as database:
            tables = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchall()
            whole = tables and database.execute("SELECT value FROM meta WHERE name = 'copy_is_whole'").fetchone()
        if whole == (0,):
            for command in [["serve", *options], ["check", "--data", self.target]]:
                self.assert_fails(*command, says=["the store is an unfinished copy of another one"])
        self.moved("--to-data", self.target)
        self.assertIn("clean", self.command("check", "--deep", "--data", self.target))
        return True


class Refusals(MigrateCase):
    """Each refusal is one line, and changes nothing."""

    def test_of_ends(self) -> None:
        self.refused("--to-data", self.data, says=["cannot open the target", "another server has the data folder"])
        self.refused(
            "--from-data", self.data, "--to-data", self.target,
            says=["cannot open the source", "another server has the data folder", self.data],
        )
        here = ["--to-data", self.target]
        self.refused("--server", "http://127.0.0.1:1", *here, says=["cannot reach http://127.0.0.1:1"])
        nowhere = str(self.folder / "nowhere")
        self.refused("--from-data", nowhere, *here, says=["no store is in", nowhere])
        self.refused("--to-blobs", f"file://{self.target}", says=["where is the target?", "--to-database URL"])
        self.refused(*here, "--to-blobs", "memory://", says=["--to-blobs memory://", "name a place that stays"])
        self.refused(*here, "--to-blobs", "odd://x", says=["--to-blobs: odd:// is not supported"])
        self.refused(*here, "--to-database", "odd://me:secret@x", says=["--to-database: odd:// is not supported"])
        none = ["--to-database", "postgres://me:secret@127.0.0.1:1/none", "--to-blobs", f"file://{self.target}"]
        done = self.run_command("migrate", *none)
        self.assert_error(done, "cannot open the target")
        self.assertNotIn("secret", done.stderr)
        self.assertFalse(Path(self.target).exists() or Path(nowhere).exists())
        for wrong in [[], ["--from-data", self.data, "--server", "http://x", *here]]:
            done = self.run_command("migrate", *wrong)
            self.assertEqual((done.returncode, done.stdout), (2, ""))

    def test_of_stores(self) -> None:
        here = ["--to-data", self.target]
        other = Server(self.folder / "third")
        self.addCleanup(other.kill)
        self.moved(*here, "--server", other.url)
        self.refused(*here, says=["the target is a copy of the store", "name an empty target"])
        other.stop()
        copied = str(self.folder / "copied")
        self.server.stop()
        shutil.copytree(self.data, copied)
        self.refused("--from-data", self.data, "--to-data", copied, says=["are the same store", "empty target"])
        both = ["--from-data", self.data, "--to-data", self.data]
        self.refused(*both, says=["the source and the target have the same database"])
        blobs = ["--to-blobs", f"file://{self.data}/blobs"]
        self.refused("--from-data", self.data, *here, *blobs, says=["have the same blob store", self.data])
        # A store that has only a token, and then a file.
        own = str(self.folder / "own")
        self.command("token", "create", "ci", "--role", "reader", "--path", "/", "--data", own)
        self.refused("--from-data", self.data, "--to-data", own, says=["the target has tokens of its own"])
        # A newer format, of either end.
        newer = str(self.folder / "newer")
        self.moved("--from-data", self.data, "--to-data", newer)
        with closing(sqlite3.connect(f"{newer}/namespace.sqlite")) as database, database:
            database.execute("UPDATE meta SET value = 99 WHERE name = 'format'")
        new = "the store has format 99"
        self.refused("--from-data", self.data, "--to-data", newer, says=["cannot open the target", new])
        self.refused("--from-data", newer, "--to-data", str(self.folder / "x"), says=["cannot open the source", new])
        self.assertFalse((self.folder / "x").exists())
        self.start_again()

    def test_of_a_source_that_has_lost_changes(self) -> None:
        """The database of the source comes from before the last pass."""
        self.server.stop()
        old = self.folder / "old"
        shutil.copytree(self.data, old)
        self.start_again()
        self.rest.put("new", b"new")
        self.moved("--to-data", self.target)
        self.refused(
            "--from-data", str(old), "--to-data", self.target,
            says=["the source has fewer changes than when it was copied last", "name an empty target"],
        )
        self.assertEqual(self.moved("--to-data", self.target)["new_parts"], 0)

    def test_of_a_copy_that_was_changed(self) -> None:
        """A whole copy takes the next pass, until something else has changed it."""
        self.moved("--to-data", self.target)
        backup = str(self.folder / "one.imagestore")
        self.command("backup", backup, "--data", self.target)
        self.moved("--to-data", self.target)
        with closing(sqlite3.connect(f"{self.target}/namespace.sqlite")) as database, database:
            database.execute("UPDATE folder SET changes = changes + 1 WHERE id = 1")
        self.refused("--to-data", self.target, says=["the target was changed after it was copied"])
