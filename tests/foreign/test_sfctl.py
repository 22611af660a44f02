"""`sfctl`, as an operator types it.

It requests `GET /` and the version of the cluster, uploads file by file from several processes (an empty file with
`Transfer-Encoding: chunked`), and writes the mark file of each folder itself.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from .server import ServerCase

COMMAND_SECONDS = 300
BIG_BYTES = 20 * 1024 * 1024
MARK = "_.dir"


def package() -> dict[str, bytes]:
    """The files of a package: nested, empty, large, and with names that need quoting."""
    return {
        "ApplicationManifest.xml": b"<ApplicationManifest/>",
        "CalcService/ServiceManifest.xml": b"<ServiceManifest/>",
        "CalcService/Code/calc.dll": random.Random(1).randbytes(BIG_BYTES),
        "CalcService/Code/empty.cfg": b"",
        "CalcService/Config/deep/er/Settings.xml": b"<Settings/>",
        "CalcService/Data/a b+c&d.txt": b"spaces and signs",
        "CalcService/Data/größe 数 🎉.txt": "größe".encode(),
        "CalcService/Data/100%.txt": b"a percent sign",
        "Empty (nothing in it)/" + MARK: b"",
    }


class Sfctl(ServerCase):
    """Runs sfctl with a home folder of its own."""

    def setUp(self) -> None:
        super().setUp()
        self.home = self.folder / "home"
        self.home.mkdir()
        self.sfctl("cluster", "select", "--endpoint", self.server.url)

    def run_sfctl(
        self, *arguments: str, warnings: str = "ignore"
    ) -> subprocess.CompletedProcess[str]:
        """Runs one command to its end."""
        return subprocess.run(
            [str(Path(sys.executable).parent / "sfctl"), *arguments],
            env=os.environ | {"HOME": str(self.home), "PYTHONWARNINGS": warnings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=COMMAND_SECONDS,
        )

    def sfctl(self, *arguments: str) -> str:
        """Runs one command, which must succeed, and returns what it printed."""
        done = self.run_sfctl(*arguments)
        self.assertEqual(done.returncode, 0, f"sfctl {arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def sfctl_json(self, *arguments: str) -> Any:
        """Runs one command, which must succeed and print JSON."""
        return json.loads(self.sfctl(*arguments, "--output", "json"))

    def write_package(self, name: str, files: dict[str, bytes]) -> Path:
        """Writes a package to disk, without its mark files, since sfctl creates them."""
        root = self.folder / name
        for path, data in files.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.name != MARK:
                target.write_bytes(data)
        return root

    def test_an_uploaded_package_arrives_whole(self) -> None:
        files = package()
        root = self.write_package("CalcAppV1", files)

        self.sfctl("application", "upload", "--path", str(root), "--show-progress",
                   "--imagestore-string", "fabric:ImageStore")

        folders = {folder for file in files for folder in Path(file).parents}
        marks = {(Path("CalcAppV1") / folder / MARK).as_posix(): b"" for folder in folders}
        expected = marks | {f"CalcAppV1/{path}": data for path, data in files.items()}
        stored = self.rest.tree()
        self.assertEqual(sorted(stored), sorted(expected))
        for path, data in expected.items():
            self.assertTrue(stored[path] == data, f"{path} has other bytes")

    def test_an_upload_again_replaces_the_files(self) -> None:
        first = self.write_package("App", {"a.txt": b"one", "b.txt": b"two"})
        self.sfctl("application", "upload", "--path", str(first))
        (first / "a.txt").write_bytes(b"")

        self.sfctl("application", "upload", "--path", str(first))

        self.assertEqual(
            self.rest.tree("App"), {"App/_.dir": b"", "App/a.txt": b"", "App/b.txt": b"two"}
        )

    def test_a_refused_upload_fails_and_changes_nothing(self) -> None:
        self.rest.put("App", b"a file where the package should go")
        root = self.write_package("App", {"a.txt": b"one"})

        done = self.run_sfctl("application", "upload", "--path", str(root))

        self.assertNotEqual(done.returncode, 0)
        self.assertIn("409", done.stdout + done.stderr)
        self.assertEqual(self.rest.tree(), {"App": b"a file where the package should go"})

    def test_store_stat_shows_one_level(self) -> None:
        self.rest.put_all({"App/_.dir": b"", "App/a.txt": b"one", "App/sub dir/b.txt": b"two"})

        stat = self.sfctl_json("store", "stat", "--content-path", "App")

        files = {file["storeRelativePath"]: file["fileSize"] for file in stat["storeFiles"]}
        folders = {folder["storeRelativePath"]: folder["fileCount"] for folder in stat["storeFolders"]}
        self.assertEqual(files, {"App/_.dir": "0", "App/a.txt": "3"})
        self.assertEqual(folders, {"App/sub dir": "1"})
        below = self.sfctl_json("store", "stat", "--content-path", "App/sub dir")
        self.assertEqual(below["storeFiles"][0]["storeRelativePath"], "App/sub dir/b.txt")

    def test_store_stat_of_nothing_fails_and_says_why(self) -> None:
        done = self.run_sfctl("store", "stat", "--content-path", "No/Such")

        self.assertNotEqual(done.returncode, 0)
        self.assertIn("FABRIC_E_DOES_NOT_EXIST", done.stderr)
        self.assertIn("No/Such", done.stderr)

    def test_store_root_info_shows_the_top(self) -> None:
        empty = self.sfctl_json("store", "root-info")
        self.assertEqual((empty["storeFiles"], empty["storeFolders"]), ([], []))
        self.rest.put_all({"AppV1/a.txt": b"one", "AppV2/x/y.txt": b"two", "AppV2/z.txt": b""})

        info = self.sfctl_json("store", "root-info")

        folders = {folder["storeRelativePath"]: folder["fileCount"] for folder in info["storeFolders"]}
        self.assertEqual(folders, {"AppV1": "1", "AppV2": "2"})

    def test_store_delete_removes_a_folder(self) -> None:
        self.rest.put_all({"App/a.txt": b"one", "App/x/y.txt": b"two", "Apple/z.txt": b"three"})

        self.sfctl("store", "delete", "--content-path", "App")

        self.assertEqual(self.rest.tree(), {"Apple/z.txt": b"three"})
        self.sfctl("store", "delete", "--content-path", "App")

    def test_the_version_of_the_cluster_is_one_that_it_knows(self) -> None:
        # sfctl warns about other versions only when it connects, which the other tests do not do.
        select = ["cluster", "select", "--endpoint", self.server.url]

        done = self.run_sfctl(*select, warnings="ignore,always::UserWarning")

        self.assertEqual(done.returncode, 0)
        self.assertNotIn("cluster version", done.stderr)
