"""The command `check`, against a server and on the data folder of a stopped server."""

from pathlib import Path

from .command import CommandCase


class CheckTest(CommandCase):
    """Checks of a store by the command line."""

    def setUp(self) -> None:
        super().setUp()
        self.rest.put_all({"app/_.dir": b"", "app/small": b"small", "app/large": bytes(100_000)})
        self.data = str(self.server.data)

    def test_a_store_that_is_well(self) -> None:
        """Exits with 0 against a server and on a stopped store, and prints what was checked."""
        self.assertRegex(self.command("check"), r"^clean: [0-9,]+ rows, 1 objects, 0 B read\n$")
        (report,) = self.records("check", "--deep")
        self.assertEqual((report["bytes_read"], report["findings_total"]), (100_005, 0))
        self.server.stop()
        self.assertIn("97.66 KiB read", self.command("check", "--deep", "--data", self.data))
        self.start_again()

    def test_a_server_that_runs_keeps_its_folder(self) -> None:
        """Refuses the folder of a running server, and a folder without a store, and changes neither."""
        self.assert_fails("check", "--data", self.data, says=["another server has the data folder"])
        nowhere = self.folder / "nowhere"
        self.assert_fails("check", "--data", str(nowhere), says=["no store is in"])
        self.assertFalse(nowhere.exists())

    def test_the_settings_of_a_server_are_not_those_of_its_clients(self) -> None:
        """Uses a server's environment variables only for a stopped store, and refuses its flags without `--data`."""
        blobs = f"file://{self.folder}/nowhere"
        for settings in [
            {"IMAGESTORE_DATABASE": "postgres://me:secret@127.0.0.1:1/none"},
            {"IMAGESTORE_BLOBS": blobs},
        ]:
            self.assertIn("clean", self.command("check", env=settings))
            self.command("backup", f"{self.folder}/backups/", env=settings)
            done = self.run_command("restore", f"{self.folder}/backups/", env=settings)
            self.assert_error(done, "the store holds files already")
        for flag in ["--database", "--blobs"]:
            done = self.run_command("check", flag, blobs)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertIn(f"{flag} is for a server that is stopped, and needs --data", done.stderr)
        self.server.stop()
        done = self.run_command("check", "--data", self.data, env={"IMAGESTORE_BLOBS": blobs})
        self.assert_error(done, "no store is in")
        self.start_again()

    def test_a_lost_object(self) -> None:
        """Exits with 1 and names the path, not the object, on a stopped store and on a running one."""
        self.server.expect("the bytes of a part are not well")
        (lost,) = (path for path in (Path(self.data) / "blobs").rglob("*-*") if path.is_file())
        self.server.stop()
        kept = lost.read_bytes()
        lost.unlink()
        for where in (["--data", self.data], []):
            if not where:
                self.start_again()
            done = self.run_command("check", *where)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stdout, r'^part_missing: "app/large": ')
            self.assertNotIn(lost.name, done.stdout)
            self.assertTrue(
                done.stderr.endswith(
                    "imagestore: the store is damaged: 1 findings, 0 repaired\n"
                ),
                done.stderr,
            )
        lost.write_bytes(kept)
        self.command("check", "--deep")
