"""A rolling restart of three servers behind the haproxy of the documentation: no call is lost."""

import csv
import tempfile
import threading
import time
import unittest
from pathlib import Path

import grpc
import requests

from .cluster import Cluster
from .proxy import Proxy
from .reflection import Reflection
from .test_grpc import SERVICE, upload_messages

SETTINGS = Path(__file__).parents[2] / "docs/compose/haproxy.cfg"
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
        self.calls = 0
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
        store = reflection.service(SERVICE)
        round_ = 0
        while not self.over.is_set():
            round_ += 1
            data, path = f"{number} {round_}".encode(), f"g{number}"
            try:
                store.call("Upload", upload_messages(path, data, {}))
                found = b"".join(part.data for part in store.call("Download", path=path))
            except grpc.RpcError as error:
                self.lost.append(repr(error))
                continue
            self.calls += 2
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
