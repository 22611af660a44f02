"""The server as a process: its start, its end, and the state after it."""

import re
import signal
import socket
import sqlite3
import subprocess
import time
import uuid
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import grpc
import requests

from .command import CommandCase, StalledDisk
from .reflection import Reflection
from .rest import Rest
from .server import Server
from .test_grpc import SERVICE

SOCKET_SECONDS = 30
SOON_SECONDS = 60
READY_LINE = re.compile(r"^listening on http://127\.0\.0\.1:[1-9][0-9]*$")
BIG = bytes(range(256)) * 1000
COPIES = 10
SERVING, NOT_SERVING = 1, 2


class ServeCase(CommandCase):
    """A test that starts servers, of which some must fail to start."""

    def serve(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a server to its end."""
        return self.run_command("serve", *arguments)

    def assert_refused(self, *arguments: str, says: list[str]) -> None:
        """Asserts that a server does not start, prints one line with the reason, and leaves no file."""
        before = self.files()
        done = self.serve("--listen", "127.0.0.1:0", *arguments)
        self.assert_error(done, *says)
        self.assertEqual((done.stdout, len(done.stderr.splitlines())), ("", 1), done.stderr)
        self.assertEqual(self.files(), before)

    def files(self) -> set[Path]:
        """Finds all files and folders of the test."""
        return set(self.folder.rglob("*"))

    def send(self, request: str) -> socket.socket:
        """Opens a connection and sends a request, or a part of one."""
        connection = socket.create_connection(self.server.endpoint, timeout=SOCKET_SECONDS)
        self.addCleanup(connection.close)
        connection.sendall(request.encode())
        return connection

    def events(self, call: str) -> socket.socket:
        """Opens a stream of events, and waits for its first bytes."""
        connection = self.send(
            f"GET /ImageStore/$/{call} HTTP/1.1\r\nHost: {self.server.address}\r\n"
            "Accept: text/event-stream\r\n\r\n"
        )
        self.assertIn(b"text/event-stream", connection.recv(4096))
        return connection


class Starting(ServeCase):
    """The requirements of a start, and the messages about them."""

    def test_it_says_that_it_is_ready_in_one_line(self) -> None:
        self.assertEqual(len(self.server.log), 1)
        self.assertRegex(self.server.log[0], READY_LINE)
        self.assertEqual({path.name for path in self.server.data.iterdir()}, {
            "blobs", "lock", "namespace.sqlite", "namespace.sqlite-shm", "namespace.sqlite-wal",
            "namespace.sqlite.lock", "server-id",
        })
        # The server also ends when it had no clients.
        self.restart()

    def test_its_settings_can_come_from_the_environment(self) -> None:
        data = self.folder / "from" / "environment"
        env = {"IMAGESTORE_LISTEN": "127.0.0.1:0", "IMAGESTORE_DATA": str(data)}
        with self.start("serve", env=env) as server:
            self.assertRegex(server.note(), READY_LINE)
            self.assertTrue((data / "namespace.sqlite").exists())
            server.interrupt()
            self.assertEqual(server.end().returncode, 0)

    def test_a_second_server_on_the_same_folder_is_refused(self) -> None:
        self.rest.put("a", b"1")
        data = str(self.server.data)

        self.assert_refused("--data", data, says=["another server", data, "--data"])

        self.assertEqual(self.rest.tree(), {"a": b"1"})

    def test_a_second_server_on_the_same_database_is_refused(self) -> None:
        self.rest.put("a", b"1")
        other = self.folder / "other"
        (self.folder / "link").symlink_to("data/namespace.sqlite")
        for name in ["data/namespace.sqlite", "data/../data/./namespace.sqlite", "link"]:
            path = f"{self.folder}/{name}"
            arguments = ["--data", str(other), "--database", f"sqlite://{path}"]
            says = [f"another server has the database {path} open", "another --database"]

            self.assert_refused(*arguments, says=says)
            # An offline command is refused like a server.
            other.joinpath("blobs").mkdir(parents=True, exist_ok=True)
            self.assert_fails("check", *arguments, says=says)
            self.assert_fails("backup", f"{self.folder}/backups/", *arguments, says=says)

        self.assertEqual(self.rest.tree(), {"a": b"1"})

    def test_two_data_folders_do_not_share_a_database(self) -> None:
        database = f"sqlite://{self.folder}/shared.sqlite"
        first = Server(self.folder / "first", "--database", database)
        self.addCleanup(first.kill)
        data = str(self.folder / "second")

        self.assert_refused(
            "--data", data, "--database", database, says=["another server has the database"]
        )
        # A killed server leaves no lock.
        first.kill()
        second = Server(self.folder / "second", "--database", database, "--blobs",
                        f"file://{self.folder}/first/blobs")
        second.stop()

    def test_a_second_server_on_the_same_blobs_is_refused(self) -> None:
        self.rest.put("a", BIG)
        (self.folder / "link").symlink_to("data/blobs")
        for name in ["data/blobs", "data/../data/./blobs", "link"]:
            path = f"{self.folder}/{name}"

            self.assert_refused(
                "--data", str(self.folder / "other"), "--blobs", f"file://{path}",
                says=[f"another server has the blob folder {path} open", "another --blobs"],
            )

        self.assertEqual(self.rest.tree(), {"a": BIG})

    def test_a_database_with_two_names_is_refused(self) -> None:
        self.rest.put("a", b"1")
        self.server.stop()
        second = self.folder / "second"
        second.hardlink_to(self.server.data / "namespace.sqlite")

        self.assert_refused("--data", str(self.server.data), says=["2 names (hard links)"])
        second.unlink()

        self.start_again()
        self.assertEqual(self.rest.tree(), {"a": b"1"})

    def test_a_port_that_is_taken_is_refused(self) -> None:
        before = self.files()

        done = self.serve("--listen", self.server.address, "--data", str(self.folder / "other"))

        self.assert_error(done, f"cannot listen on {self.server.address}", "in use")
        self.assertEqual(self.files(), before)

    def test_a_database_that_cannot_be_reached_is_refused(self) -> None:
        data = str(self.folder / "some" / "where")
        # The port of this connection has no listener.
        taken = self.send("")
        url = f"postgres://me:secret@127.0.0.1:{taken.getsockname()[1]}/store"

        self.assert_refused("--data", data, "--database", url, says=["cannot be reached"])
        self.assert_refused(
            "--data", data, "--database", url.replace("postgres", "mysql"), says=["--database"]
        )

    def test_the_parts_of_another_store_are_refused(self) -> None:
        self.server.stop()
        blobs = self.server.data / "blobs"
        says = ["the parts of files in the blob store belong to a store"]

        self.assert_refused(
            "--data", str(self.folder / "other"), "--blobs", f"file://{blobs}", says=says
        )

        self.start_again()

    def test_other_machines_are_let_in_only_when_it_is_meant(self) -> None:
        data = self.folder / "open"
        for address in ["0.0.0.0:0", "[::]:0"]:
            done = self.serve("--listen", address, "--data", str(data))
            self.assert_error(done, f"--listen {address}", "--allow-anonymous")
        self.assertFalse(data.exists())

    def test_requests_are_taken_under_names_that_are_known(self) -> None:
        """On a listener for other machines as on any other."""
        options = ["--allow-anonymous", "--allowed-host", "store.example"]
        server = Server(self.folder / "open", *options, listen="0.0.0.0:0")
        self.addCleanup(server.stop)
        machine = socket.gethostname()
        expected = {"store.example:80": 200, machine: 200, machine.split(".")[0]: 200, "10.9.8.7": 200}
        for host, status in (expected | {"evil.example": 403, "a@localhost": 400}).items():
            headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
            rest = Rest(f"http://127.0.0.1:{server.endpoint[1]}")
            answer = rest.call("PUT", "a", b"1", headers=headers)
            rest.close()
            self.assertEqual(answer.status_code, status, host)
            if status != 200:
                self.assertIn(f"'{host}'", answer.json()["Error"]["Message"])
            if status == 403:
                self.assertIn("--allowed-host evil.example", answer.json()["Error"]["Message"])
        with grpc.insecure_channel(f"127.0.0.1:{server.endpoint[1]}", [
            ("grpc.default_authority", "evil.example"), ("grpc.enable_http_proxy", 0),
        ]) as channel:
            stat = channel.unary_unary(f"/{SERVICE}/Stat")
            with self.assertRaises(grpc.RpcError) as refused:
                stat(b"")
            self.assertEqual(refused.exception.code(), grpc.StatusCode.PERMISSION_DENIED)
            self.assertIn("--allowed-host evil.example", refused.exception.details())

    def test_every_name_is_taken_where_it_is_meant_and_the_log_says_so(self) -> None:
        self.server.stop()
        self.server.expect("every host name is taken")
        self.server.start(IMAGESTORE_ALLOWED_HOST="*")
        with self.send("GET /health/live HTTP/1.1\r\nHost: any.example\r\n\r\n") as connection:
            self.assertIn(b" 200 OK\r\n", connection.recv(4096))
        self.assertTrue(any("every host name is taken" in line for line in self.server.log))

    def test_a_folder_that_cannot_be_one_is_refused(self) -> None:
        file = self.folder / "file"
        file.write_bytes(b"")

        self.assert_refused("--data", str(file), says=["cannot open the data folder", str(file)])

    def test_a_store_of_a_newer_format_is_refused_and_not_touched(self) -> None:
        self.rest.put("a", b"1")
        self.server.stop()
        newer = self.change_format(+1)
        data = str(self.server.data)

        self.assert_refused("--data", data, says=[f"format {newer}", "newer imagestore"])
        self.change_format(-1)

        self.start_again()
        self.assertEqual(self.rest.tree(), {"a": b"1"})

    def test_a_database_that_is_none_is_refused(self) -> None:
        data = self.folder / "broken"
        data.mkdir()
        (data / "namespace.sqlite").write_bytes(b"this is not a database" * 100)

        self.assert_refused(
            "--data", str(data), says=["cannot open the store", "not a database"]
        )

    def change_format(self, by: int) -> int:
        """Changes the format number of a stopped store, and returns the new one."""
        database = sqlite3.connect(self.server.data / "namespace.sqlite")
        with database:
            database.execute("UPDATE meta SET value = value + ? WHERE name = 'format'", [by])
        ((value,),) = database.execute("SELECT value FROM meta WHERE name = 'format'")
        database.close()
        return int(value)


class Health(ServeCase):
    """Readiness follows the database; liveness follows the process."""

    def wait_for(self, watches: list[Any], expected: int) -> None:
        """Waits until gRPC and REST report this readiness; liveness and reads work meanwhile."""
        for watch in watches:
            self.assertIn(expected, (found.status for found in watch))
        status = 200 if expected == SERVING else 503
        until = time.monotonic() + SOON_SECONDS
        # On a machine with other load the database may not answer for a while.
        while self.get("/health") != status:
            self.assertLess(time.monotonic(), until, f"not {status}")
        self.assertEqual(self.get("/health/live"), 200)
        self.assertEqual(self.get("/ImageStore?api-version=6.0"), 200)

    def get(self, path: str) -> int:
        """The status of a response."""
        return requests.get(self.server.url + path, timeout=SOCKET_SECONDS).status_code

    def test_a_locked_database_is_not_ready_and_comes_back(self) -> None:
        reflection = Reflection(self.server.address)
        self.addCleanup(reflection.close)
        health = reflection.service("grpc.health.v1.Health")
        watches = [health.call("Watch", service=service) for service in ["", SERVICE]]
        self.wait_for(watches, SERVING)
        database = sqlite3.connect(self.server.data / "namespace.sqlite", isolation_level=None)
        self.addCleanup(database.close)

        for lock in ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"]:
            database.execute(lock)
            # SQLite's readers do not wait for writers.
            self.wait_for(watches, NOT_SERVING)
            for service in ["", SERVICE]:
                answer = health.call("Check", service=service)
                self.assertEqual(answer.status, NOT_SERVING)

            database.execute("ROLLBACK")
            self.wait_for(watches, SERVING)


class Stopping(ServeCase):
    """SIGTERM and SIGINT end the server in time, whoever is connected."""

    def test_idle_connections_and_watchers_do_not_delay_sigterm(self) -> None:
        self.stop_with_an_audience(signal.SIGTERM)

    def test_idle_connections_and_watchers_do_not_delay_sigint(self) -> None:
        self.stop_with_an_audience(signal.SIGINT)

    def stop_with_an_audience(self, number: signal.Signals) -> None:
        """Stops the server while clients of every waiting kind are connected."""
        keep_alive = self.send(f"GET /health/live HTTP/1.1\r\nHost: {self.server.address}\r\n\r\n")
        answer = HTTPResponse(keep_alive)
        answer.begin()
        self.assertEqual((answer.status, bool(answer.read())), (200, False))
        silent = self.send("")
        half = self.send("PUT /ImageStore/a?api-version=6.0 HTTP/1.1\r\nHost: ")
        events = self.events("Operations")
        reflection = Reflection(self.server.address)
        self.addCleanup(reflection.close)
        watch = reflection.service(SERVICE).call("WatchOperations")
        health = reflection.service("grpc.health.v1.Health").call("Watch", service=SERVICE)
        next(health)
        watch.initial_metadata()

        self.server.stop(number)

        with self.assertRaises(grpc.RpcError) as ended:
            list(watch)
        self.assertEqual(ended.exception.code(), grpc.StatusCode.UNAVAILABLE)
        for connection in [keep_alive, silent, half, events]:
            self.assertEqual(rest_of(connection), b"")
        self.start_again()

    def test_sigint_during_a_stop_ends_it_at_once(self) -> None:
        self.server.expect("interrupted during the stop, ending at once")
        self.rest.put("a", b"1")
        upload = self.stop_with_an_upload()

        self.server.send(signal.SIGINT)

        # A stop that waits for the upload would have exit code 0.
        self.assertEqual(self.server.ended(), 1)
        self.assertEqual(rest_of(upload), b"")
        self.start_again()
        self.assertEqual(self.rest.tree(), {"a": b"1"})

    def test_sigterm_during_a_stop_changes_nothing(self) -> None:
        upload = self.stop_with_an_upload()

        for _ in range(10):
            self.server.send(signal.SIGTERM)
            upload.sendall(b"1")

        self.assertTrue(rest_of(upload).startswith(b"HTTP/1.1 200 "))
        self.assertEqual(self.server.ended(), 0)
        self.start_again()
        self.assertEqual(self.rest.tree(), {"b": b"1" * 10})

    def test_a_stop_drains_first(self) -> None:
        self.server.stop()
        self.server = Server(self.server.data, "--drain-time", "1h")
        self.addCleanup(self.server.kill)
        self._connect()
        health = Reflection(self.server.address)
        self.addCleanup(health.close)
        watch = health.service("grpc.health.v1.Health").call("Watch", service=SERVICE)
        self.assertEqual(next(watch).status, SERVING)

        self.server.send(signal.SIGTERM)

        self.assertEqual(next(watch).status, NOT_SERVING)
        for path, status in [("/health", 503), ("/health/live", 200)]:
            answer = requests.get(f"{self.server.url}{path}", timeout=SOCKET_SECONDS)
            self.assertEqual(answer.status_code, status)
        # New connections are served.
        self.rest.put("a", b"1")
        # Another SIGTERM ends no drain; a SIGINT ends the server at once.
        self.server.expect("interrupted during the stop, ending at once")
        self.server.send(signal.SIGTERM)
        self.assertEqual(self.rest.tree(), {"a": b"1"})
        self.server.send(signal.SIGINT)
        self.assertEqual(self.server.ended(), 1)

        self.server = Server(self.server.data, "--drain-time", "1ms")
        self.server.stop()

    def stop_with_an_upload(self) -> socket.socket:
        """Starts a stop that waits for an upload of 10 bytes to `b`, up to the time limit of a stop."""
        upload = self.send(
            f"PUT /ImageStore/b?api-version=6.0 HTTP/1.1\r\nHost: {self.server.address}\r\n"
            "Content-Length: 10\r\nExpect: 100-continue\r\n\r\n"
        )
        self.assertIn(b"100 Continue", upload.recv(4096))
        self.server.send(signal.SIGTERM)
        self.server.line(re.compile("stopping"))
        return upload

    def test_a_database_that_is_locked_does_not_delay_it(self) -> None:
        self.server.expect(
            "operations are left to the next start",
            "the database does not answer; calls are refused",
            'cause="database is locked"',
        )
        self.rest.put("V1/big", BIG)
        database = sqlite3.connect(self.server.data / "namespace.sqlite", isolation_level=None)
        self.addCleanup(database.close)
        with StalledDisk(self.server.data):
            for number in range(COPIES):
                self.records("cp", "V1", f"copies/{number}", "--verify", "--detach")
            database.execute("BEGIN IMMEDIATE")

            self.server.stop()

        database.execute("ROLLBACK")
        self.start_again()
        self.assertRegex(self.server.log[0], f"operations_failed={COPIES} ")
        states = {each["state"] for each in self.records("operations")}
        self.assertEqual(states, {"OPERATION_STATE_FAILED"})
        self.assertEqual(self.rest.tree(), {"V1/big": BIG})

    def test_a_running_copy_is_cancelled(self) -> None:
        self.rest.put_all({"V1/big": BIG, "V2/old": b"old"})
        with StalledDisk(self.server.data):
            copy = self.enterContext(self.start("cp", "V1", "V2", "--verify", "--json"))
            operation = copy.record()["id"]
            detached = self.enterContext(
                self.start("cp", "V1", "V3", "--verify", "--detach", "--json")
            )
            self.assertEqual(detached.end().returncode, 0)
            watch = self.enterContext(self.start("watch", operation, "--json"))
            watch.record()
            events = self.events(f"Operations/{operation}")

            self.server.stop()

            self.assert_error(copy.end(), "the server stopped")
            watched = watch.end()
            self.assert_error(watched, operation, "the server stopped")
            self.assertIn("OPERATION_STATE_CANCELLED", watched.stdout)
            self.assertRegex(rest_of(events), rb'event: done\n(?s:.*)"State":"Cancelled"')

        self.start_again()
        states = {each["state"] for each in self.records("operations")}
        self.assertEqual(states, {"OPERATION_STATE_CANCELLED"})
        self.assertEqual(self.rest.tree(), {"V1/big": BIG, "V2/old": b"old"})
        self.command("cp", "V1", "V2", "--verify")
        self.assertEqual(self.rest.tree("V2"), {"V2/big": BIG})


class Killed(ServeCase):
    """SIGKILL loses no acknowledged write."""

    def kill_and_start(self) -> None:
        """Kills the server and starts it again."""
        self.server.kill()
        self.start_again()

    def test_everything_acknowledged_is_there(self) -> None:
        session = str(uuid.uuid4())
        self.rest.put_all({"V1/big": BIG, "V1/small": b"1", "V1/gone": b"2", "Old/a": b"3"})
        self.command("cp", "V1", "V2", "--skip", "small")
        self.command("rm", "Old")
        self.command("rm", "V1/gone")
        self.assertTrue(self.rest.put_chunk("V1/chunks", session, "bytes 2-3/4", b"cd").ok)
        before = self.records("operations")

        self.kill_and_start()

        self.assertEqual(self.rest.tree(), {
            "V1/big": BIG, "V1/small": b"1", "V2/big": BIG, "V2/gone": b"2",
        })
        self.assertEqual(self.records("operations"), before)
        self.assertTrue(self.rest.put_chunk("V1/chunks", session, "bytes 0-1/4", b"ab").ok)
        commit = self.rest.call("POST", "$/CommitUploadSession", query={"session-id": session})
        self.assertEqual(commit.status_code, 200)
        self.kill_and_start()
        self.assertEqual(self.rest.content("V1/chunks"), b"abcd")

    def test_a_copy_that_ran_has_failed_and_changed_nothing(self) -> None:
        self.rest.put_all({"V1/big": BIG, "V2/old": b"old"})
        with StalledDisk(self.server.data):
            arguments = ["cp", "V1", "V2", "--verify", "--detach"]
            (begun,) = self.records(*arguments)
            self.server.kill()

        self.start_again()

        ((operation, state, error),) = [
            (each["id"], each["state"], each["error"]) for each in self.records("operations")
        ]
        self.assertEqual((operation, state), (begun["id"], "OPERATION_STATE_FAILED"))
        self.assertTrue(error["message"])
        self.assertEqual(self.rest.tree("V2"), {"V2/old": b"old"})
        # The operation can be requested again with the same id.
        self.command("cp", "V1", "V2", "--verify", "--operation-id", operation)
        self.assertEqual(self.rest.tree("V2"), {"V2/big": BIG})

    def test_the_next_start_says_in_one_line_what_it_cleared_away(self) -> None:
        self.rest.put("V1/big", BIG)
        blobs = self.server.data / "blobs"
        (part,) = (path for path in blobs.rglob("*-*") if path.is_file())
        with StalledDisk(self.server.data):
            for destination in ["V2", "V3"]:
                self.records("cp", "V1", destination, "--verify", "--detach")
            self.server.kill()
        # A staged file, as a put leaves it when the server is killed.
        part.with_name(f"{part.name}#1").write_bytes(BIG[:10])

        self.start_again()

        cleared, ready = self.server.log
        self.assertRegex(ready, READY_LINE)
        self.assertRegex(cleared, "INFO .*cleared away what an earlier run left unfinished ")
        self.assertTrue(
            cleared.endswith(" operations_failed=2 pins_dropped=2 leftovers_swept=1"), cleared
        )
        self.assertEqual([path for path in blobs.rglob("*-*") if path.is_file()], [part])

        # The cleanup is not logged again, and after a stop there is nothing to clean up.
        for end in [self.server.kill, self.server.stop]:
            end()
            self.start_again()
            self.assertEqual(len(self.server.log), 1, self.server.log)


def rest_of(connection: socket.socket) -> bytes:
    """Reads to the end of the stream; a reset is an end as well."""
    try:
        return b"".join(iter(lambda: connection.recv(4096), b""))
    except ConnectionResetError:
        return b""
