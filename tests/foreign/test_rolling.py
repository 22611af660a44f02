"""The three servers and the haproxy of the documentation: its compose file, and a rolling restart that loses no call."""

import csv
import tempfile
import threading
import time
import unittest
from pathlib import Path
from typing import Any

import requests
import yaml

from .buckets import S3
from .cluster import Cluster, Postgres
from .proxy import Proxy
from .reflection import Reflection
from .rest import Rest
from .server import Server
from .test_grpc import SERVICE, upload_messages

FOLDER = Path(__file__).parents[2] / "docs/compose"
SETTINGS = FOLDER / "haproxy.cfg"
CLIENTS = 8
GRPC_CLIENTS = 4
SECONDS = 60


class Rolling(unittest.TestCase):
    """Every server is stopped and started again, twice, while clients call through the balancer."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="imagestore-", ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.folder.chmod(0o755)
        self.cluster = Cluster(self.folder, drain="3s")
        self.addCleanup(self.cluster.close)
        text = SETTINGS.read_text(encoding="utf-8").replace("{", "{{").replace("}", "}}")
        text = text.replace("bind :19080", "bind fd@{number}")
        for number, address in enumerate(self.cluster.addresses, 1):
            text = text.replace(f"store-{number}:19080", address)
        text = text.replace("default_backend", "stats enable\n    stats uri /stats\n    default_backend")
        self.proxy = Proxy("haproxy", self.folder / "proxy", "", text)
        self.addCleanup(self.proxy.stop)
        self.url = f"http://{self.proxy.address}"
        self.lost: list[str] = []
        self.calls = self.grpc_calls = 0
        self.over = threading.Event()

    def states(self) -> set[str]:
        """What haproxy says of the servers."""
        page = requests.get(f"{self.url}/stats;csv", timeout=SECONDS).text.removeprefix("# ")
        rows = csv.DictReader(page.splitlines())
        return {row["status"] for row in rows if row["svname"].startswith("store-")}

    def wait_for_all(self) -> None:
        """Waits until haproxy sends calls to every server."""
        end = time.monotonic() + SECONDS
        while self.states() != {"UP"}:
            self.assertLess(time.monotonic(), end, self.states())

    def client(self, number: int) -> None:
        """Writes and reads a file, again and again."""
        with requests.Session() as session:
            round_ = 0
            while not self.over.is_set():
                round_ += 1
                data = f"{number} {round_}".encode()
                url = f"{self.url}/ImageStore/f{number}"
                for call in (
                    lambda: session.put(f"{url}?api-version=6.0", data=data, timeout=SECONDS),
                    lambda: session.get(f"{url}/$/Content?api-version=6.0", timeout=SECONDS),
                ):
                    try:
                        answer = call()
                    except requests.RequestException as error:
                        self.lost.append(repr(error))
                        continue
                    self.calls += 1
                    if answer.status_code != 200 or answer.content not in (b"", data):
                        self.lost.append(f"{answer.status_code}: {answer.text}")

    def grpc_client(self, number: int) -> None:
        """The same over gRPC, on one connection to the balancer."""
        reflection = Reflection(self.proxy.address)
        round_ = 0
        while not self.over.is_set():
            round_ += 1
            data, path = f"{number} {round_}".encode(), f"g{number}"
            try:
                store = reflection.service(SERVICE)
                store.call("Upload", upload_messages(path, data, {}))
                found = b"".join(part.data for part in store.call("Download", path=path))
            except Exception as error:
                self.lost.append(repr(error))
                continue
            self.grpc_calls += 2
            if found != data:
                self.lost.append(f"{found!r} after {data!r}")
        reflection.close()

    def test_no_call_is_lost(self) -> None:
        """Each call is answered, and each read sees the write before it."""
        self.wait_for_all()
        clients = [threading.Thread(target=self.client, args=(number,)) for number in range(CLIENTS)]
        clients += [threading.Thread(target=self.grpc_client, args=(number,)) for number in range(GRPC_CLIENTS)]
        for client in clients:
            client.start()
        try:
            for _ in range(2):
                for number, server in enumerate(self.cluster.servers):
                    server.stop()
                    self.cluster.restart(number)
                    self.wait_for_all()
        finally:
            self.over.set()
            for client in clients:
                client.join()
        self.assertEqual(self.lost, [], f"{len(self.lost)} of {self.calls}")
        self.assertGreater(self.calls, 100)
        self.assertGreater(self.grpc_calls, 100)


class ComposedServer(Server):
    """A server with the command of a service of the compose file."""

    def __init__(self, data: Path, service: dict[str, Any], variables: dict[str, str]) -> None:
        self._command = [str(argument) for argument in service["command"]]
        under = ("env", *(f"{name}={value}" for name, value in variables.items()))
        super().__init__(data, under=under, listen="0.0.0.0:0")

    def arguments(self, listen: str) -> list[str]:
        """The command of the service, with a port and a folder of the test."""
        meant = {"--listen=0.0.0.0:19080": f"--listen={listen}", "--data=/data": f"--data={self.data}"}
        assert meant.keys() < set(self._command), self._command
        return [meant.get(argument, argument) for argument in self._command]


class Compose(unittest.TestCase):
    """The compose file."""

    def test_its_servers_are_one_store(self) -> None:
        """They start by its commands and variables, with the addresses and credentials of the test."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="imagestore-")))
        folder.chmod(0o755)
        database = Postgres(folder / "database")
        self.addCleanup(database.stop)
        buckets = S3(folder / "bucket")
        self.addCleanup(buckets.stop)
        buckets.make_bucket("imagestore")
        services = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"]
        self.assertIn('s3.bucket.create -name imagestore"', services["make-bucket"]["command"][0])
        text = SETTINGS.read_text(encoding="utf-8")
        servers = []
        for number in (1, 2, 3):
            service = services[f"store-{number}"]
            self.assertEqual(text.count(f"server store-{number} store-{number}:19080\n"), 2)
            variables = dict(service["environment"])
            self.assertEqual(variables["IMAGESTORE_BLOBS"], "s3://imagestore/parts")
            meant = {"IMAGESTORE_DATABASE": database.url, **buckets.variables()}
            self.assertLessEqual(meant.keys(), variables.keys())
            server = ComposedServer(folder / f"store-{number}", service, variables | meant)
            self.addCleanup(server.kill)
            servers.append(server)
        for number, server in enumerate(servers):
            rest = Rest(server.url)
            rest.put(f"f{number}", b"f")
            rest.close()
        for server in servers:
            rest = Rest(server.url)
            self.assertEqual([rest.content(f"f{number}") for number in range(3)], [b"f"] * 3)
            rest.close()
            server.stop()
