"""A real S3 server on this machine: SeaweedFS in one process, with a user who may write and one who may only read."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

START_SECONDS = 60
IDENTITIES = {
    "writer": ["Admin", "Read", "Write", "List", "Tagging"],
    "reader": ["Read", "List"],
}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and of which the one 10,000 above is free too, as the server uses both."""
    ports: list[int] = []
    while len(ports) < count:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = int(first.getsockname()[1])
        if port > 50_000 or port in ports:
            continue
        try:
            with socket.create_server(("127.0.0.1", port + 10_000)):
                ports.append(port)
        except OSError:
            continue
    return ports


class S3:
    """The server, in an empty folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._weed = str(Path(sys.executable).parent / "weed")
        self._master, volume, filer, port, lance, iceberg = free_ports(6)
        self.endpoint = f"http://127.0.0.1:{port}"
        config = folder / "identities.json"
        identities = [
            {
                "name": name,
                "credentials": [{"accessKey": name, "secretKey": f"{name}-secret"}],
                "actions": actions,
            }
            for name, actions in IDENTITIES.items()
        ]
        config.write_text(json.dumps({"identities": identities}), encoding="utf-8")
        flags = {
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "dir": str(folder),
            "master.port": self._master,
            "master.volumeSizeLimitMB": 64,
            "volume.port": volume,
            "volume.max": 100,
            "filer.port": filer,
            "s3.port": port,
            "s3.port.lance": lance,
            "s3.port.iceberg": iceberg,
            "s3.config": str(config),
        }
        self._log_path = folder / "log"
        self._log = self._log_path.open("wb")
        self._process = subprocess.Popen(
            [self._weed, "server", "-filer", "-s3", *[f"-{name}={value}" for name, value in flags.items()]],
            stdout=self._log,
            stderr=self._log,
        )
        self._wait(port)

    def _wait(self, port: int) -> None:
        """Waits until the server listens; a connection is refused until then."""
        end = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < end:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS):
                    return
            except ConnectionRefusedError:
                time.sleep(0.05)
        self.stop()
        raise AssertionError(f"the S3 server did not start: {self._tail()}")

    def _tail(self) -> str:
        return "\n".join(self._log_path.read_text(encoding="utf-8").splitlines()[-5:])

    def make_bucket(self, name: str) -> None:
        """Makes a bucket."""
        done = subprocess.run(
            [self._weed, "shell", f"-master=127.0.0.1:{self._master}"],
            input=f"s3.bucket.create -name {name}\n",
            capture_output=True,
            encoding="utf-8",
            check=True,
            timeout=START_SECONDS,
        )
        assert re.search(f"created bucket {name}", done.stdout + done.stderr), done

    def variables(self, user: str = "writer", secret: str | None = None) -> dict[str, str]:
        """What a client has in its environment."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": user,
            "AWS_SECRET_ACCESS_KEY": secret or f"{user}-secret",
        }

    def stop(self) -> None:
        """Ends the server."""
        self._process.terminate()
        self._process.wait(timeout=START_SECONDS)
        self._log.close()
