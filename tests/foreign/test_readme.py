"""The commands of the README, as a new user runs them."""

import os
import re
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

from .server import READY, ServerCase, binary

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh([^\n]*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
DEFAULT_ADDRESS = "127.0.0.1:19080"
BUILD_SECONDS = 1800


class Readme(ServerCase):
    def test_the_tour_can_be_pasted(self) -> None:
        blocks = [block for kind, block in BLOCKS if kind.strip() == "tour"]
        self.assertEqual(len(blocks), 3)
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
