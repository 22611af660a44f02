"""Uploads through proxies: some break off, which a proxy may turn into a clean end of the stream; some are refused
while their client still sends. Also REST calls through proxies, as a web page makes them.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from .proxy import INNER_NAME, PAGE_SETTINGS, SETTINGS, Proxy
from .reflection import Reflection, Service
from .rest import Rest
from .server import Server, ServerCase

SERVICE = "imagestore.v1.ImageStore"
WHOLE = bytes(range(256)) * 4_000
MESSAGE_BYTES = 64_000
# More bytes than all flow-control windows let through.
REFUSED_MESSAGES = 300
# Longer than the timeouts of the proxies, so that the proxies end the calls.
PATIENT_SECONDS = 60
HASTY_SECONDS = 0.5

# The ways in which a client can declare the end of its bytes.
HEADERS: dict[str, dict[str, Any]] = {
    "size": {"size_bytes": len(WHOLE)},
    "finish": {"ends_with_finish": True},
    "both": {"size_bytes": len(WHOLE), "ends_with_finish": True},
}


class Broken:
    """An upload that has sent three quarters of its bytes, and then sends nothing more."""

    def __init__(self, channel: grpc.Channel, reflection: Reflection, seconds: float) -> None:
        self._sent, self._over = threading.Event(), threading.Event()
        self.service = Service(channel, reflection.pool, SERVICE)
        self.service.deadline_seconds = seconds

    def start(self, path: str, header: dict[str, Any]) -> Any:
        """Starts the call, and returns when its bytes were handed to grpcio."""
        call = self.service.start("Upload", self._messages(path, header))
        call.add_done_callback(lambda _: self._over.set())
        if not self._sent.wait(PATIENT_SECONDS):
            raise AssertionError(f"the bytes were not taken: {call}")
        return call

    def _messages(self, path: str, header: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield {"header": {"path": path, **header}}
        for start in range(0, len(WHOLE) * 3 // 4, MESSAGE_BYTES):
            yield {"data": WHOLE[start : start + MESSAGE_BYTES]}
        self._sent.set()
        self._over.wait()
        # The call is over, so the exception reaches nobody; a normal return would end the stream cleanly.
        raise ConnectionError("the client is gone")


class BehindProxies(ServerCase):
    """The same interruptions behind each proxy."""

    def setUp(self) -> None:
        super().setUp()
        self.reflection = Reflection(self.server.address)
        self.addCleanup(self.reflection.close)
        self.proxies = {}
        for name in SETTINGS:
            proxy = Proxy(name, self.folder / name, self.server.address)
            self.addCleanup(proxy.stop)
            self.proxies[name] = proxy

    def connect(self, proxy: str) -> grpc.Channel:
        """Opens a separate connection through a proxy."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        channel = grpc.insecure_channel(self.proxies[proxy].address, options)
        self.addCleanup(channel.close)
        return channel

    def assert_breaks_leave_nothing(
        self, seconds: float, breaks: Callable[[Any, grpc.Channel], None]
    ) -> None:
        """Interrupts an upload with each header behind each proxy, and asserts that no file has changed."""
        calls, kept = [], {}
        for proxy in SETTINGS:
            for sort, header in HEADERS.items():
                path = f"{proxy}/{sort}"
                kept[path] = b"old"
                self.rest.put(path, b"old")
                channel = self.connect(proxy)
                call = Broken(channel, self.reflection, seconds).start(path, header)
                breaks(call, channel)
                calls.append(call)
        for call in calls:
            self.assertNotEqual(call.code(), grpc.StatusCode.OK)
        self.assertEqual(self.rest.tree(), kept)
        # After a restart no upload can still be in progress.
        self.restart()
        self.assertEqual(self.rest.tree(), kept)

    def test_a_whole_upload_arrives(self) -> None:
        for proxy in SETTINGS:
            service = Service(self.connect(proxy), self.reflection.pool, SERVICE)
            for sort, header in HEADERS.items():
                with self.subTest(proxy=proxy, sort=sort):
                    path = f"{proxy}/{sort}"
                    messages = [{"header": {"path": path, **header}}, {"data": WHOLE}]
                    if sort != "size":
                        messages.append({"finish": {"size_bytes": len(WHOLE)}})
                    entry = service.call("Upload", messages).entry
                    self.assertEqual((entry.path, entry.size_bytes), (path, len(WHOLE)))

    def test_an_upload_that_is_refused_early_is_told_why(self) -> None:
        self.rest.put("App/f", b"old")
        messages = [{"data": bytes(MESSAGE_BYTES)}] * REFUSED_MESSAGES
        for proxy in SETTINGS:
            service = Service(self.connect(proxy), self.reflection.pool, SERVICE)
            for path, code in [
                ("a/$", grpc.StatusCode.INVALID_ARGUMENT),
                ("App/f/g", grpc.StatusCode.ALREADY_EXISTS),
            ]:
                for size in [1, REFUSED_MESSAGES]:
                    with self.subTest(proxy=proxy, path=path, size=size):
                        header = {"header": {"path": path, "ends_with_finish": True}}
                        with self.assertRaises(grpc.RpcError) as refused:
                            service.call("Upload", [header, *messages[:size]])
                        self.assertEqual(refused.exception.code(), code)
                        self.assertIn(path, refused.exception.details())
        self.assertEqual(self.rest.tree(), {"App/f": b"old"})

    def test_a_cancelled_upload_leaves_nothing(self) -> None:
        self.assert_breaks_leave_nothing(PATIENT_SECONDS, lambda call, _: call.cancel())

    def test_an_upload_whose_deadline_passes_leaves_nothing(self) -> None:
        self.assert_breaks_leave_nothing(HASTY_SECONDS, lambda *_: None)

    def test_an_upload_whose_channel_is_closed_leaves_nothing(self) -> None:
        self.assert_breaks_leave_nothing(PATIENT_SECONDS, lambda _, channel: channel.close())

    def test_an_upload_that_the_proxy_gives_up_leaves_nothing(self) -> None:
        self.assert_breaks_leave_nothing(PATIENT_SECONDS, lambda *_: None)


class PagesBehindProxies(ServerCase):
    """The writes that each proxy allows to a page, by the headers that browsers send."""

    def setUp(self) -> None:
        super().setUp()
        trusted = ["--trusted-proxy", "127.0.0.1", "--allow-anonymous"]
        self.open = Server(self.folder / "open", "--allowed-host", INNER_NAME, *trusted)
        self.addCleanup(self.open.stop)
        self.proxies = {}
        for server in [self.server, self.open]:
            for name in PAGE_SETTINGS:
                folder = self.folder / f"{name} {server.pid}".replace(" ", "-")
                proxy = Proxy(name, folder, server.address)
                self.addCleanup(proxy.stop)
                self.proxies[name, server] = proxy.address

    def put(self, name: str, store: Server, headers: dict[str, str]) -> int:
        """Stores a file through a proxy, and returns the status."""
        address = self.proxies[name, store]
        rest = Rest(f"http://{address}")
        headers = {key: value.format(proxy=address) for key, value in headers.items()}
        answer = rest.call("PUT", "a", b"1", headers=headers)
        rest.close()
        return answer.status_code

    def test_a_page_writes_through_each_proxy(self) -> None:
        own = {"Origin": "http://{proxy}", "Sec-Fetch-Site": "same-origin"}
        for name in PAGE_SETTINGS:
            with self.subTest(name):
                self.assertEqual(self.put(name, self.open, own), 200)
                self.assertEqual(self.put(name, self.open, {}), 200)
                # A `Host` that is not allowed is refused.
                keeps = "keeps" in name
                self.assertEqual(self.put(name, self.server, {}), 200 if keeps else 403)

    def test_a_page_of_elsewhere_does_not(self) -> None:
        foreign = {"Host": "evil.example", "Origin": "http://evil.example"}
        for name in PAGE_SETTINGS:
            with self.subTest(name):
                site = {"Sec-Fetch-Site": "cross-site"}
                self.assertEqual(self.put(name, self.open, {"Origin": "http://evil.example"}), 403)
                self.assertEqual(self.put(name, self.open, site), 403)
                # A host name of the page that was rebound to the proxy's address.
                rebound = foreign | {"Sec-Fetch-Site": "same-origin"}
                self.assertEqual(self.put(name, self.open, rebound), 403)
        self.assertEqual(self.rest.tree(), {})

    def test_a_page_of_a_plain_name_writes_where_the_proxy_tells_it(self) -> None:
        # Browsers send no `Sec-Fetch-Site` if the page is neither on HTTPS nor on localhost.
        own = {"Origin": "http://{proxy}"}
        for name in PAGE_SETTINGS:
            with self.subTest(name):
                expected = 403 if "another" in name else 200
                self.assertEqual(self.put(name, self.open, own), expected)
