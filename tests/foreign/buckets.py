"""Real servers of buckets on this machine: S3 by SeaweedFS and Azure by Azurite.

No server of Google Cloud that the registries have takes the PUT of its XML API.

As a program, runs a command with one bucket of each, whose URLs are in the variable IMAGESTORE_TEST_BLOBS:

    python -m foreign.buckets COMMAND ARGUMENT...
"""

import base64
import email.utils
import hashlib
import hmac
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import requests

START_SECONDS = 60
# Who may do what in S3.
IDENTITIES = {
    "writer": ["Admin", "Read", "Write", "List", "Tagging"],
    "reader": ["Read", "List"],
}
# As tests/run installs it.
AZURITE = Path(__file__).parents[1] / ".cache/azurite-3.37.0/node_modules/.bin/azurite-blob"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and of which the one 10,000 above is free too, as SeaweedFS uses both."""
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


class BucketServer:
    """A server process in an empty folder."""

    def __init__(self, folder: Path, port: int, command: list[str], variables: dict[str, str] | None = None) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self._log_path = folder / "log"
        self._log = self._log_path.open("wb")
        self.process = subprocess.Popen(
            command, stdout=self._log, stderr=self._log, env=os.environ | (variables or {})
        )
        self._wait(port)

    def _wait(self, port: int) -> None:
        """Waits until the server listens; a connection is refused until then."""
        end = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < end:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS):
                    return
            except ConnectionRefusedError:
                time.sleep(0.05)
        self.stop()
        tail = "\n".join(self._log_path.read_text(encoding="utf-8").splitlines()[-5:])
        raise AssertionError(f"the server of buckets did not start: {tail}")

    def stop(self) -> None:
        """Ends the server. Nothing is read from its folder after that, so its own stop, of 25 s, is not awaited."""
        self.process.kill()
        self.process.wait(timeout=START_SECONDS)
        self._log.close()


class S3(BucketServer):
    """SeaweedFS in one process, with a user who may write and one who may only read."""

    scheme = "s3"

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._weed = str(Path(sys.executable).parent / "weed")
        self._master, volume, filer, port, lance, iceberg = free_ports(6)
        self._filer = f"http://127.0.0.1:{filer}"
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
        options = [f"-{name}={value}" for name, value in flags.items()]
        super().__init__(folder, port, [self._weed, "server", "-filer", "-s3", *options])

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

    def keys(self, bucket: str, prefix: str) -> set[str]:
        """The keys of all objects below a folder of a bucket, without that folder."""
        return set(self._files(f"/buckets/{bucket}/{prefix}", ""))

    def _files(self, root: str, below: str) -> Iterator[str]:
        url = f"{self._filer}{root}{below}?limit=100000"
        answer = requests.get(url, headers={"Accept": "application/json"}, timeout=START_SECONDS)
        if below and answer.status_code == 404:
            # The folder has gone with its last object.
            return
        answer.raise_for_status()
        for entry in answer.json()["Entries"] or []:
            name = below + entry["FullPath"].rsplit("/", 1)[1]
            if entry["Mode"] & 1 << 31:
                yield from self._files(root, f"{name}/")
            else:
                yield name

    def variables(self, user: str = "writer", secret: str | None = None) -> dict[str, str]:
        """What a client has in its environment."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": user,
            "AWS_SECRET_ACCESS_KEY": secret or f"{user}-secret",
        }


class Azure(BucketServer):
    """Azurite, with one account."""

    scheme = "az"
    account = "tests"
    key = base64.b64encode(b"the key of an account in a test").decode()

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (port,) = free_ports(1)
        flags = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder), "--silent"]
        flags += ["--skipApiVersionCheck", "--disableTelemetry"]
        super().__init__(folder, port, [str(AZURITE), *flags], {"AZURITE_ACCOUNTS": f"{self.account}:{self.key}"})

    def make_bucket(self, name: str) -> None:
        """Makes a container."""
        head = {
            "x-ms-date": email.utils.formatdate(usegmt=True),
            "x-ms-version": "2021-08-06",
        }
        # The signature of a request without a body: twelve empty standard headers after the method.
        lines = ["PUT", *[""] * 11, *(f"{name}:{value}" for name, value in sorted(head.items()))]
        lines += [f"/{self.account}/{self.account}/{name}", "restype:container"]
        mac = hmac.digest(base64.b64decode(self.key), "\n".join(lines).encode(), hashlib.sha256)
        head["Authorization"] = f"SharedKey {self.account}:{base64.b64encode(mac).decode()}"
        url = f"{self.endpoint}/{self.account}/{name}?restype=container"
        requests.put(url, headers=head, timeout=START_SECONDS).raise_for_status()

    def variables(self, key: str | None = None) -> dict[str, str]:
        """What a client has in its environment."""
        return {
            "AZURE_STORAGE_ACCOUNT": self.account,
            "AZURE_STORAGE_KEY": key or self.key,
            "AZURE_STORAGE_ENDPOINT": f"{self.endpoint}/{self.account}",
        }


SERVERS = (S3, Azure)


def main(command: list[str]) -> int:
    """Runs a command with a bucket of each server."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="imagestore-"))
        stack.callback(shutil.rmtree, folder)
        variables: dict[str, str] = {}
        urls = []
        for kind in SERVERS:
            server = kind(folder / kind.scheme)
            stack.callback(server.stop)
            server.make_bucket("tests")
            variables |= server.variables()
            urls.append(f"{kind.scheme}://tests")
        variables["IMAGESTORE_TEST_BLOBS"] = " ".join(urls)
        return subprocess.run(command, env=os.environ | variables, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
