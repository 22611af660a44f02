"""The page of one server on a store that several servers have."""

import json
import os
import signal
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foreign.cluster import Cluster
from foreign.rest import Rest
from foreign.server import Server

from .browser import WAIT_SECONDS, BrowserCase

LARGE_BYTES = 1 << 20
# No server is declared dead in a test, however slow the machine is.
LEASE_SECONDS = 600.0


class ServersCase(BrowserCase):
    """Three servers on one store; the page is that of the second one."""

    def make_server(self, data: Path) -> Server:
        # The owner of the database reads its folder in this one.
        self.folder.chmod(0o755)
        self.cluster = Cluster(self.folder, lease=LEASE_SECONDS)
        self.addCleanup(self.cluster.close)
        return self.cluster.servers[1]

    def caller(self, number: int) -> Rest:
        """A caller of one of the servers."""
        rest = Rest(self.cluster.servers[number].url)
        self.addCleanup(rest.close)
        return rest

    @contextmanager
    def copying(self, number: int, destination: str) -> Iterator[str]:
        """A copy that one of the servers runs as long as the bucket does not answer. Its id."""
        identifier = str(uuid.uuid4())
        body = {"RemoteSource": "Large", "RemoteDestination": destination, "Verify": True, "OperationId": identifier}
        call = ("POST", "$/Copy", json.dumps(body).encode())
        copy = threading.Thread(target=self.caller(number).call, args=call)
        bucket = self.cluster.buckets.process
        bucket.send_signal(signal.SIGSTOP)
        copy.start()
        try:
            yield identifier
        finally:
            bucket.send_signal(signal.SIGCONT)
            copy.join(timeout=WAIT_SECONDS)
        self.assertFalse(copy.is_alive())

    def test_an_operation_of_another_server_is_shown_and_cancelled(self) -> None:
        self.rest.put("Large/data.bin", os.urandom(LARGE_BYTES))
        self.open()
        with self.copying(0, "First") as identifier:
            self.wait_card("Running", "Large", "First")
            cancelled = self.caller(2).call("POST", f"$/Operations/{identifier}/$/Cancel")
            cancelled.raise_for_status()
            self.wait_card("Cancelled", "First")
        with self.copying(2, "Second"):
            self.wait_card("Running", "Large", "Second").find_element("css selector", "button").click()
            self.wait_card("Cancelled", "Second")
        self.assertFalse(self.rest.exists("First") or self.rest.exists("Second"))

    def test_what_another_server_has_changed_appears_by_itself(self) -> None:
        self.open()
        self.caller(0).put("App/file", b"1")
        body = {"RemoteSource": "App", "RemoteDestination": "Copied"}
        self.caller(2).call("POST", "$/Copy", json.dumps(body).encode()).raise_for_status()
        self.wait_card("Succeeded", "App", "Copied", "1 file")
        self.wait_names("App", "Copied")
