"""The permissions of the data folder, of the files in it, and of the process."""

import os
import re
import stat
from pathlib import Path

from .server import Server, ServerCase


class Permissions(ServerCase):
    def make_server(self, data: Path) -> Server:
        # The usual mask, whatever that of the caller is.
        before = os.umask(0o022)
        self.addCleanup(os.umask, before)
        return Server(data)

    def paths(self) -> list[Path]:
        """The data folder, and all below it."""
        return [self.server.data, *self.server.data.rglob("*")]

    def others(self) -> list[Path]:
        """What is not for the user of the server alone."""
        return [path for path in self.paths() if stat.S_IMODE(path.stat().st_mode) & 0o077]

    def test_only_the_user_of_the_server_reads_the_store(self) -> None:
        self.rest.put("App/big", os.urandom(9 << 20))
        self.rest.put("App/small", b"1")
        self.assertEqual(self.others(), [])
        names = {path.name for path in self.paths()}
        self.assertLessEqual({"lock", "namespace.sqlite", "namespace.sqlite-wal", "blobs"}, names)

    def test_a_start_corrects_what_an_earlier_version_left_and_says_so(self) -> None:
        self.rest.put("App/big", os.urandom(9 << 20))
        self.server.stop()
        for path in self.paths():
            path.chmod(0o755 if path.is_dir() else 0o644)

        self.start_again()

        self.server.line(re.compile(r"took the permissions of group and others .*paths=[1-9]"))
        self.assertEqual(self.others(), [])
        self.restart()
        self.assertFalse([line for line in self.server.log if "took the permissions" in line])

    def test_the_process_makes_no_core_dump(self) -> None:
        limits = Path(f"/proc/{self.server.pid}/limits").read_text(encoding="utf-8")
        self.assertRegex(limits, r"Max core file size +0 +0 ")
