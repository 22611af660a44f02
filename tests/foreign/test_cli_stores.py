"""Named stores of the command line."""

import stat
from pathlib import Path
from typing import Any

from .command import CommandCase
from .server import Server


class Stores(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.home = self.folder / "home"
        self.home.mkdir()
        self.config = self.home / ".config/imagestore/config.toml"
        self.other = Server(self.folder / "other")
        self.addCleanup(self.other.stop)
        self.rest.put("App/f", b"first")

    def start(self, *arguments: str, **options: Any) -> Any:
        """Starts a command of a user whose home is new, and whose environment names the other server."""
        home = {"HOME": str(self.home), "XDG_CONFIG_HOME": "", "IMAGESTORE_SERVER": self.other.url}
        return super().start(*arguments, env=home | options.pop("env", {}), **options)

    def test_a_store_is_known_by_its_name(self) -> None:
        said = self.command("store", "add", "prod", self.server.url)
        self.assertEqual(said, f"added prod to {self.config}\n")
        self.assertEqual(stat.S_IMODE(self.config.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.config.parent.stat().st_mode), 0o700)

        self.assertEqual(self.command("ls", "prod:"), "App/\n")
        self.assertEqual(self.command("ls"), "")
        self.assertEqual(self.command("ls", env={"IMAGESTORE_SERVER": "prod:"}), "App/\n")
        self.assertIn("kind       folder", self.command("stat", "prod:App"))
        self.command("cp", "prod:App", "prod:Again")
        self.command("get", "prod:App", "prod:Again", f"{self.folder}/here/")
        self.assertEqual((self.folder / "here/Again/f").read_bytes(), b"first")
        (self.folder / "a:b").write_bytes(b"mine")
        self.command("put", "a:b", "prod:", cwd=self.folder)
        self.assertEqual(self.command("get", "prod:a:b", "-"), "mine")
        self.command("rm", "prod:App", "prod:Again")
        self.assertEqual(self.rest.tree(), {"a:b": b"mine"})
        self.assertEqual(self.command("whoami", "--server", "prod:").splitlines()[0], "anonymous")

    def test_a_path_with_a_colon_is_not_taken_for_a_store(self) -> None:
        (self.folder / "f").write_bytes(b"mine")
        self.assert_fails("put", str(self.folder / "f"), "prod:App", says=[
            f"no store 'prod' is in the configuration file {self.config}", "with a / before it",
        ])
        self.command("put", str(self.folder / "f"), "/prod:App")
        self.assertEqual(self.command("ls"), "prod:App\n")
        self.assertEqual(self.command("get", "/prod:App", "-"), "mine")

    def test_a_line_that_names_two_servers_is_wrong(self) -> None:
        for arguments, says in [
            (["ls", "one:", "--server", self.other.url], "one: names a store; leave --server out"),
            (["ls", "https://here/a"], "https://here/a is an address, and a path is needed"),
        ]:
            done = self.run_command(*arguments)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertTrue(done.stderr.startswith(f"error: {says}"), done.stderr)

    def test_the_environment_gives_no_credential_to_a_named_store(self) -> None:
        self.command("store", "add", "prod", self.server.url)
        for name in ["IMAGESTORE_TOKEN", "IMAGESTORE_TOKEN_FILE", "IMAGESTORE_CA", "IMAGESTORE_CERT"]:
            # The value is wrong, so that a command that took it would fail.
            wrong = {name: "/not one"}
            with self.subTest(name=name):
                self.assertEqual(self.command("ls", "prod:", env=wrong), "App/\n")
                self.assertEqual(self.command("ls", "--server", "prod:", env=wrong), "App/\n")
                done = self.run_command("ls", env=wrong | {"IMAGESTORE_SERVER": "prod:"})
                self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        self.command("store", "add", "test", self.server.url, env={"IMAGESTORE_CA": "/none"})
        self.assertEqual(self.command("store", "list").splitlines()[1], f"test  {self.server.url}")

    def test_the_file_can_be_elsewhere(self) -> None:
        here = str(self.folder / "mine.toml")
        self.command("store", "add", "a", self.server.url, "--config", here)
        xdg = {"XDG_CONFIG_HOME": str(self.folder / "xdg")}
        self.command("store", "add", "b", self.server.url, env=xdg)
        self.assertEqual(self.command("ls", "a:", env={"IMAGESTORE_CONFIG": here}), "App/\n")
        self.assertEqual(self.command("ls", "b:", env=xdg), "App/\n")
        self.assertTrue((self.folder / "xdg/imagestore/config.toml").exists())
        self.assert_fails("ls", "b:", "--config", here, says=["no store 'b'", here])
        self.assertFalse(self.config.exists())

    def test_a_file_that_others_can_read_or_change_is_refused(self) -> None:
        self.command("store", "add", "prod", self.server.url)
        for mode in [0o640, 0o620, 0o604, 0o602]:
            self.config.chmod(mode)
            for command in [["ls", "prod:"], ["store", "list"], ["store", "add", "b", "http://b"]]:
                self.assert_fails(*command, says=[f"run 'chmod 600 {self.config}'"])
        # A command that names no store does not read the file.
        self.command("ls")
        self.config.chmod(0o600)
        self.config.write_text("[store.prod]\naddress = 'http://here'\npassword = 'x'\n")
        self.assert_fails("ls", "prod:", says=["line 3, column 1: unknown field `password`"])

    def test_a_token_file_is_stored_as_an_absolute_path(self) -> None:
        file = self.folder / "ci.token"
        file.write_text("imagestore_secret")
        file.chmod(0o644)
        add = ["store", "add", "prod", self.server.url]
        self.assert_fails(*add, "--token-file", str(file), says=["chmod 600"])
        file.chmod(0o600)
        self.command(*add, "--token-file", "ci.token", cwd=self.folder)
        text = self.config.read_text()
        self.assertIn(f'token-file = "{Path(file).resolve()}"', text)
        self.assertNotIn("imagestore_secret", text)
