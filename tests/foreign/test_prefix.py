"""The REST calls and the web page below the path prefix of a real nginx, with its default settings."""

from urllib.parse import urljoin

import requests

from .proxy import Proxy
from .server import ServerCase

SECONDS = 30


class BelowPrefix(ServerCase):
    """A store at `/store/`."""

    def setUp(self) -> None:
        super().setUp()
        proxy = Proxy("nginx with a prefix", self.folder / "nginx", self.server.address)
        self.addCleanup(proxy.stop)
        self.url = f"http://{proxy.address}/store/"

    def test_events_come_at_once(self) -> None:
        answer = requests.get(
            f"{self.url}ImageStore/$/Operations",
            headers={"Accept": "text/event-stream"},
            stream=True,
            timeout=SECONDS,
        )
        self.addCleanup(answer.close)
        lines = answer.iter_lines()
        # No operation runs, so a proxy that buffered the response would not pass this comment on.
        self.assertEqual(next(lines), b":")
        # The number of the last change before the stream: an id without data.
        self.assertEqual(next(line for line in lines if line), b"id: change-0")
        self.rest.put("App/a.txt", b"one")
        self.rest.call("DELETE", "App")
        self.assertEqual(next(line for line in lines if line), b"event: done")

    def test_addresses_hold_below_the_prefix(self) -> None:
        self.rest.put("App/a.txt", b"one")
        copied = requests.post(
            f"{self.url}ImageStore/$/Copy?api-version=6.0",
            json={"RemoteSource": "App", "RemoteDestination": "Copy"},
            headers={"Prefer": "respond-async"},
            timeout=SECONDS,
        )
        self.assertEqual(copied.status_code, 202)
        found = requests.get(urljoin(copied.url, copied.headers["Location"]), timeout=SECONDS)
        self.assertEqual((found.status_code, found.json()["Id"]), (200, copied.json()["Id"]))
        page = requests.get(self.url, timeout=SECONDS)
        for name in ["page/style.css", "page/main.js", "page/icon.svg"]:
            self.assertIn(f'"{name}"', page.text)
            self.assertEqual(requests.get(urljoin(page.url, name), timeout=SECONDS).status_code, 200)
