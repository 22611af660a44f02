"""The command line with servers that do not respond, and with time limits."""

import signal
import socket
import subprocess

from .command import CommandCase

BIG_BYTES = 40 * 1024 * 1024


class Silence(CommandCase):
    """A server that accepts connections and never responds."""

    def setUp(self) -> None:
        super().setUp()
        self.file = self.folder / "file"
        self.file.write_bytes(b"12345")
        self.deaf = self.enterContext(socket.create_server(("127.0.0.1", 0)))
        self.url = "http://{}:{}".format(*self.deaf.getsockname())

    def assert_ends(self, *arguments: str, says: str, **options: str) -> None:
        """Asserts that a command ends, and says what it waited for."""
        done = self.run_command("--server", self.url, *arguments, env=options)
        self.assert_error(done, self.url, says)

    def test_every_kind_of_command_ends_within_its_time(self) -> None:
        self.command("backup", str(self.folder / "backup"))
        for arguments, what in [
            (["ls"], 'list ""'),
            (["rm", "a", "b"], 'delete "a"'),
            (["put", str(self.file), "a"], 'store "a"'),
            (["put", str(self.folder), "a"], 'store "a/'),
            (["get", "a", str(self.folder / "out")], 'describe "a"'),
            (["cp", "a", "b"], 'copy "a" to "b"'),
            (["watch"], "tell of another operation"),
            (["check"], "begin a check"),
            (["backup", str(self.folder / "new")], "go on with the backup"),
            (["restore", str(self.folder / "backup")], "restore the backup"),
        ]:
            with self.subTest(arguments=arguments):
                says = f"did not {what}"
                self.assert_ends(*arguments, "--timeout", "500ms", says=says)
        self.assert_ends("info", says="within 500ms", IMAGESTORE_TIMEOUT="0.5")
        self.assertFalse((self.folder / "new").exists())

    def test_a_connection_that_is_not_taken_has_a_time(self) -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            self.url = "http://{}:{}".format(*full.getsockname())
            # One connection waits to be accepted, and the kernel accepts no other.
            with socket.create_connection(full.getsockname()):
                says = "did not accept a connection within 500ms"
                self.assert_ends("ls", "--timeout", "500ms", says=says)

    def test_an_input_that_does_not_end_has_a_time(self) -> None:
        put = self.start("put", "-", "a", "--timeout", "500ms", stdin=subprocess.PIPE)
        with put:
            # The standard input never ends.
            put.process.wait()
            self.assert_error(put.end(), 'did not store "a" within 500ms')
        self.assertFalse(self.rest.exists("a"))


class StopsMidway(CommandCase):
    """A server that stops while bytes are transferred."""

    def test_a_download_ends_within_its_time_and_leaves_nothing(self) -> None:
        self.rest.put("big", bytes(BIG_BYTES))
        out = self.folder / "out"
        out.mkdir()
        with self.start("get", "big", "-", "--timeout", "5s") as get:
            assert get.process.stdout is not None
            self.assertTrue(get.process.stdout.read(1))
            # The pipe and the flow-control windows hold far less than the rest.
            self.server.send(signal.SIGSTOP)
            self.addCleanup(self.server.send, signal.SIGCONT)
            done = get.end()
        self.assert_error(done, 'did not send "big" within 5s')
        self.assertLess(len(done.stdout), BIG_BYTES)

    def test_an_upload_ends_within_its_time(self) -> None:
        big = self.folder / "big"
        big.write_bytes(bytes(BIG_BYTES))
        self.server.send(signal.SIGSTOP)
        done = self.run_command("put", str(big), "big", "--timeout", "1")
        self.server.send(signal.SIGCONT)
        self.assert_error(done, 'did not store "big" within 1s')
        self.assertFalse(self.rest.exists("big"))
