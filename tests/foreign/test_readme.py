"""The commands of the README, as a new user runs them."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from .server import READY, ServerCase, binary, environment

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh([^\n]*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
DEFAULT_ADDRESS = "127.0.0.1:19080"
TEAM_PORT = "19443"
TEAM_SECONDS = 120
BUILD_SECONDS = 1800


class Readme(ServerCase):
    def test_the_tour_can_be_pasted(self) -> None:
        blocks = [block for kind, block in BLOCKS if kind.strip() == "tour"]
        self.assertEqual(len(blocks), 5)
        # The server of the test has another port, and its program is in another folder.
        script = "\n".join(blocks).replace(DEFAULT_ADDRESS, self.server.address)
        folder = self.folder / "tour"
        folder.mkdir()
        environment = {
            **os.environ,
            "PATH": f"{Path(binary()).parent}:{os.environ['PATH']}",
            "IMAGESTORE_SERVER": self.server.url,
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn('"Error":{', done.stdout)
        data = folder / "CalcAppV3" / "CalcService" / "Data"
        self.assertEqual((data / "constants.txt").read_text(), "pi = 3.14\n")
        self.assertFalse((data / "notes.txt").exists())
        self.assertTrue((data / "_.dir").exists())
        stored = {path.split("/")[0] for path in self.rest.tree()}
        self.assertEqual(stored, {"CalcAppV1", "CalcAppV4"})


class Team(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="imagestore-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_the_section_for_a_team_can_be_pasted(self) -> None:
        blocks = [block for kind, block in BLOCKS if kind.strip() == "team"]
        self.assertEqual(len(blocks), 8)
        with socket.create_server(("0.0.0.0", 0)) as free:
            port = str(free.getsockname()[1])
        script = "\n".join(blocks).replace(TEAM_PORT, port)
        folders = [Path(binary()).parent, Path(sys.executable).parent]
        variables = {
            **environment(),
            "PATH": ":".join([*map(str, folders), os.environ["PATH"]]),
            "HOME": str(self.folder),
            "XDG_CONFIG_HOME": "",
            "PYTHONWARNINGS": "ignore",
        }
        # Files instead of pipes, which the server would keep open after a command that fails.
        with (self.folder / "out").open("w") as out, (self.folder / "err").open("w") as err:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=self.folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        try:
            code = process.wait(timeout=TEAM_SECONDS)
        finally:
            # The server and a command that still runs.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        printed, noted = (self.folder / "out").read_text(), (self.folder / "err").read_text()
        self.assertEqual(code, 0, printed + noted)
        found = re.search(
            r"\Atoken:ci\nwriter CalcApp\*\nexpires \S+\n"
            r"no\nnot there\n"
            r"uploaded CalcAppV1: .*\n"
            r'.*"StoreRelativePath":"CalcAppV1/Code","FileCount":"1".*'
            r"pi = 3\.14\n"
            r"added prod to .*/\.config/imagestore/config\.toml\n"
            r"prod  https://localhost:\d+  --ca /.*/team/cert\.pem  --token-file /.*/team/ci\.token\n"
            r"_\.dir\nCode/\n"
            r"copied CalcAppV1 to CalcAppV2: 3 files, 10 B\n"
            r"token:ci\nwriter CalcApp\*\nexpires \S+\n"
            r"boss  .*\nci  .*\n"
            r"revoked ci\n"
            r"_\.dir\nconstants\.txt\n"
            r"cert:cn=ci\ncert:sha256=[0-9a-f]{64}\nwriter CalcApp\*\nexpires \S+\n"
            r'\{.*"caller":"cert:cn=ci".*\}\n\Z',
            printed,
        )
        self.assertIsNotNone(found, printed)
        self.assertEqual(noted.count("INFO imagestore::server: stopped"), 3, noted)


class TwoCommands(unittest.TestCase):
    def test_there_are_two_and_the_second_is_this_run(self) -> None:
        commands = [block.strip() for kind, block in BLOCKS if not kind.strip()]
        self.assertEqual(commands, ["cargo run --release -- serve", "tests/run"])
        self.assertTrue(os.access(ROOT / "tests" / "run", os.X_OK))

    def test_the_first_builds_and_runs_the_server(self) -> None:
        command = next(block.strip() for kind, block in BLOCKS if not kind.strip())
        with tempfile.TemporaryDirectory(prefix="imagestore-") as folder:
            environment = {
                **os.environ,
                "IMAGESTORE_LISTEN": "127.0.0.1:0",
                "IMAGESTORE_DATA": str(Path(folder) / "data"),
                # The command is tested, not its optimizer, which would take minutes of each run.
                "CARGO_PROFILE_RELEASE_OPT_LEVEL": "0",
                "CARGO_PROFILE_RELEASE_LTO": "off",
                "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
            }
            process = subprocess.Popen(
                ["timeout", str(BUILD_SECONDS), *command.split()],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                encoding="utf-8",
            )
            assert process.stderr is not None
            log = []
            try:
                for line in process.stderr:
                    log.append(line)
                    if READY.search(line):
                        break
                else:
                    self.fail(f"the server printed no ready line: {log}")
            finally:
                process.send_signal(signal.SIGTERM)
                process.communicate()
            # `timeout` forwards the signal to the server, and returns the server's exit code.
            self.assertEqual(process.returncode, 0, log)
