"""A gateway alone, before one server and before two: the calls of REST, credentials, and backends that come and go."""

import json
import re
import signal
import socket
import subprocess
from http.client import HTTPResponse, IncompleteRead
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import requests

from .certificates import Authority
from .command import StalledDisk
from .gateway import Gateway
from .rest import TIMEOUT_SECONDS, Rest
from .server import ServerCase, Server, binary, environment
from .test_access import AccessCase
from .test_watch import Events

COMMAND_SECONDS = 60
# Larger than all windows and buffers between a client and its server.
LARGE = bytes(range(256)) * 80_000
SERVES = re.compile("a backend serves")
LOST = re.compile("no backend serves")
# What a gateway logs whose backend is killed.
ALARMS = ["a backend does not serve", "no backend serves", "does not answer"]


class GatewayCase(ServerCase):
    """A test with a gateway before its server."""

    def setUp(self) -> None:
        super().setUp()
        self.gateway = self.start_gateway(self.server.url)
        self.store = self.through(self.gateway)

    def start_gateway(self, *backends: str, options: tuple[str, ...] = (), listen: str = "127.0.0.1:0") -> Gateway:
        """Starts a gateway."""
        gateway = Gateway(*backends, options=options, listen=listen)
        self.addCleanup(gateway.kill)
        return gateway

    def through(self, gateway: Gateway, token: str | None = None, trusted: Path | None = None) -> Rest:
        """A caller of a gateway."""
        rest = Rest(gateway.url, trusted, token)
        self.addCleanup(rest.close)
        return rest

    def get(self, path: str, **headers: str) -> requests.Response:
        """Gets a path of the gateway."""
        return requests.get(f"{self.gateway.url}{path}", headers=headers, timeout=TIMEOUT_SECONDS)


class BeforeOne(GatewayCase):
    """A gateway before one server."""

    def test_files_go_up_and_come_back(self) -> None:
        self.store.put("App/large", LARGE)
        self.store.put("App/empty", b"")
        self.assertEqual(self.store.tree(), self.rest.tree())
        self.assertTrue(self.store.content("App/large") == LARGE)
        part = self.get("/ImageStore/App/large/$/Content", Range="bytes=1000-4999999")
        self.assertEqual((part.status_code, len(part.content)), (206, 4_999_000))
        self.assertTrue(part.content == LARGE[1000:5_000_000])
        same = self.get("/ImageStore/App/large/$/Content", **{"If-None-Match": part.headers["ETag"]})
        self.assertEqual(same.status_code, 304)
        package = self.get("/Packages/App.sfpkg")
        self.assertEqual(package.content[:4], b"PK\x03\x04")
        direct = requests.get(f"{self.server.url}/Packages/App.sfpkg", timeout=TIMEOUT_SECONDS)
        self.assertTrue(package.content == direct.content)

    def test_errors_are_those_of_the_server(self) -> None:
        self.rest.put("App/f")
        for method, path in [
            ("GET", "none"), ("GET", "none/$/Content"), ("GET", "App/../x"), ("POST", "App"),
            ("PUT", "App"), ("GET", "$/Operations/x"),
        ]:
            headers = {"X-Request-Id": "same"}
            answers = [rest.call(method, path, b"", headers=headers) for rest in [self.store, self.rest]]
            found = [(answer.status_code, answer.reason, answer.json()) for answer in answers]
            self.assertEqual(*found)
            self.assertGreaterEqual(found[0][0], 400)

    def test_a_copy_sends_its_events(self) -> None:
        self.store.put("App/f", LARGE)
        events = Events(self.copy_events("App", "Copy"))
        done = events.done()
        self.assertEqual((done["State"], done["RemoteDestination"]), ("Succeeded", "Copy"))
        self.assertTrue(self.rest.content("Copy/f") == LARGE)

    def test_who_leaves_cancels_the_copy(self) -> None:
        self.store.put("App/small", b"1" * 20_000)
        self.store.put("App/large", LARGE)
        watch = Events(self.open("/ImageStore/$/Operations"))
        with StalledDisk(self.server.data):
            copy = self.copy_events("App", "Copy", Verify=True)
            name, operation = Events(copy).next()
            self.assertEqual((name, operation["State"]), ("progress", "Running"))
            copy.close()
            self.assertEqual(watch.done()["State"], "Cancelled")

    def test_the_page_is_served(self) -> None:
        page = self.get("/")
        self.assertEqual((page.status_code, page.headers["Content-Type"]), (200, "text/html; charset=utf-8"))
        self.assertEqual(page.text, requests.get(f"{self.server.url}/", timeout=TIMEOUT_SECONDS).text)
        for path in ["/health", "/health/live"]:
            self.gateway.line(SERVES)
            self.assertEqual(self.get(path).status_code, 200)

    def test_a_stop_ends_the_watches(self) -> None:
        watch = self.open("/ImageStore/$/Operations")
        self.assertEqual(watch.readline(), b":\n")
        self.gateway.stop()
        # A stream that breaks off: the client connects again.
        with self.assertRaises(IncompleteRead):
            watch.read()

    def test_a_stop_drains_first(self) -> None:
        self.gateway = self.start_gateway(self.server.url, options=("--drain-time", "1h"))
        self.gateway.line(SERVES)
        self.gateway.send(signal.SIGTERM)
        self.gateway.line(re.compile("draining"))
        self.assertEqual(self.get("/health").status_code, 503)
        self.assertEqual(self.get("/health/live").status_code, 200)
        # New connections are served.
        self.through(self.gateway).put("a", b"1")
        # A SIGINT during the drain ends the gateway at once.
        self.gateway.expect("interrupted during the stop, ending at once")
        self.gateway.send(signal.SIGINT)
        self.assertEqual(self.gateway.ended(), 1)

    def test_grpc_is_not_served(self) -> None:
        done = subprocess.run(
            [binary(), "ls", "--server", self.gateway.url],
            env=environment(), capture_output=True, encoding="utf-8", timeout=COMMAND_SECONDS,
        )
        self.assertEqual(done.returncode, 1)
        self.assertIn("a gateway serves REST only", done.stderr)

    def copy_events(self, source: str, destination: str, **more: Any) -> HTTPResponse:
        """Starts a copy with events."""
        body = {"RemoteSource": source, "RemoteDestination": destination} | more
        return self.open("/ImageStore/$/Copy?api-version=6.0", json.dumps(body).encode())

    def open(self, path: str, body: bytes | None = None) -> HTTPResponse:
        """Opens a stream of events."""
        request = Request(f"{self.gateway.url}{path}", body, {"Accept": "text/event-stream"})
        answer = urlopen(request, timeout=TIMEOUT_SECONDS)
        assert isinstance(answer, HTTPResponse)
        self.addCleanup(answer.close)
        return answer


class ComesAndGoes(GatewayCase):
    """Backends that are killed."""

    def setUp(self) -> None:
        super().setUp()
        self.gateway.expect(*ALARMS)

    def test_a_backend_that_is_killed_comes_back(self) -> None:
        self.store.put("a", b"1")
        address = self.server.address
        self.server.send(signal.SIGKILL)
        self.gateway.line(LOST)
        answer = self.store.call("PUT", "b", b"2")
        self.assertEqual((answer.status_code, answer.headers["Retry-After"]), (503, "1"))
        error = answer.json()["Error"]
        self.assertEqual(error["Code"], "FABRIC_E_SERVICE_TOO_BUSY")
        self.assertIn("no server behind the gateway serves", error["Message"])
        self.assertEqual(self.get("/health").status_code, 503)
        self.assertEqual(self.get("/health/live").status_code, 200)
        self.assertEqual(self.get("/").status_code, 200)
        self.server.kill()
        self.gateway.log.clear()
        self.start_again(address)
        self.gateway.line(SERVES)
        self.assertEqual(self.store.content("a"), b"1")
        self.assertFalse(self.store.exists("b"))
        self.assertEqual(self.get("/health").status_code, 200)

    def test_of_two_backends_one_is_down(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
        gateway = self.start_gateway(nobody, self.server.url)
        gateway.expect(*ALARMS)
        store = self.through(gateway)
        for number in range(20):
            store.put(f"f{number}", b"1")
        self.assertEqual(len(store.listing().files), 20)

    def test_calls_go_to_both_backends_and_to_the_other_when_one_is_killed(self) -> None:
        other = Server(self.folder / "other")
        self.addCleanup(other.kill)
        for number, url in enumerate([self.server.url, other.url]):
            rest = Rest(url)
            self.addCleanup(rest.close)
            rest.put("which", str(number).encode())
        gateway = self.start_gateway(self.server.url, other.url)
        gateway.expect(*ALARMS)
        gateway.line(re.compile(rf"a backend serves.*{other.address}"))
        gateway.line(re.compile(rf"a backend serves.*{self.server.address}"))
        store = self.through(gateway)
        self.assertEqual({store.content("which") for _ in range(10)}, {b"0", b"1"})
        other.send(signal.SIGKILL)
        # Reads and uploads do not fail: they go to the server that is left.
        for number in range(20):
            self.assertEqual(store.content("which"), b"0") if number % 2 else store.put(f"f{number}", b"1")


class Judged(AccessCase):
    """A gateway with TLS before a server with TLS that requires a right and trusts the gateway."""

    def options(self) -> list[str]:
        authority = Authority(self.folder)
        self.trusted, self.pair = authority.file, authority.server()
        self.audit = self.folder / "audit.log"
        certificate, key = map(str, self.pair)
        return [
            "--tls-cert", certificate, "--tls-key", key, "--access", "required",
            "--trusted-proxy", "127.0.0.1", "--audit", str(self.audit), "--audit-reads",
        ]

    def before(self, *options: str, scheme: str = "https") -> Gateway:
        """Starts a gateway."""
        backend = f"{scheme}://{self.server.address}"
        gateway = Gateway(backend, options=options)
        self.addCleanup(gateway.kill)
        return gateway

    def test_a_token_is_passed_on(self) -> None:
        certificate, key = map(str, self.pair)
        gateway = self.before(
            "--backend-ca", str(self.trusted), "--tls-cert", certificate, "--tls-key", key
        )
        store = Rest(gateway.url, self.trusted, self.token)
        self.addCleanup(store.close)
        store.put("App/f", LARGE)
        self.assertTrue(store.content("App/f") == LARGE)
        for token, status, challenge in [
            (None, 401, 'Bearer realm="imagestore"'),
            ("imagestore_no", 401, 'Bearer realm="imagestore", error="invalid_token"'),
        ]:
            rest = Rest(gateway.url, self.trusted, token)
            self.addCleanup(rest.close)
            answers = [rest.call("GET", "App")]
            direct = Rest(self.server.url, self.trusted, token)
            self.addCleanup(direct.close)
            answers.append(direct.call("GET", "App"))
            for answer in answers:
                self.assertEqual((answer.status_code, answer.headers["WWW-Authenticate"]), (status, challenge))
            self.assertEqual(*[answer.json()["Error"]["Message"] for answer in answers])
        # What the client says of itself is not passed on.
        forged = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "http", "imagestore-link": "/x"}
        store.call("PUT", "App/g", b"1", headers=forged).raise_for_status()
        self.server.stop()
        lines = [json.loads(line) for line in self.audit.read_text().splitlines()]
        (line,) = [line for line in lines if line["call"] == "Upload" and line["destination"] == "App/g"]
        self.assertEqual((line["caller"], line["address"]), ("token:admin", "127.0.0.1"))

    def test_a_link_is_judged_by_the_backend(self) -> None:
        gateway = self.before("--backend-ca", str(self.trusted))
        store = Rest(gateway.url, None, self.token)
        self.addCleanup(store.close)
        store.put("App/f", b"12345")
        store.put("other", b"1")
        links = {
            target: store.call("POST", f"{path}/$/CreateLink", b"", query={"target": target}).json()["Link"]
            for target, path in [("content", "App/f"), ("sfpkg", "App")]
        }

        def get(link: str, **headers: str) -> requests.Response:
            return requests.get(f"{gateway.url}{link}", headers=headers, timeout=TIMEOUT_SECONDS)

        self.assertEqual(get(links["content"]).content, b"12345")
        self.assertEqual(get(links["content"], Range="bytes=1-2").content, b"23")
        self.assertEqual(get(links["sfpkg"]).content[:2], b"PK")
        for link in [
            links["content"].replace("App/f", "other"),
            links["content"].replace("expires=1", "expires=2"),
            links["content"].split("&")[0],
        ]:
            refused = get(link)
            self.assertEqual((refused.status_code, refused.reason), (403, "Access Denied"), link)

    def test_a_certificate_that_is_not_trusted_is_not_talked_to(self) -> None:
        (self.folder / "wrong").mkdir()
        wrong = Authority(self.folder / "wrong").file
        gateway = self.before("--backend-ca", str(wrong))
        gateway.expect(*ALARMS)
        gateway.line(re.compile("a backend does not serve.*UnknownIssuer|invalid peer certificate"))
        answer = requests.get(f"{gateway.url}/ImageStore?api-version=6.0", timeout=TIMEOUT_SECONDS)
        self.assertEqual(answer.status_code, 503)

    def test_a_gateway_does_not_start_with_what_cannot_be_used(self) -> None:
        none, empty = self.folder / "none.pem", self.folder / "empty.pem"
        empty.write_text("")
        https = ["--backend", "https://127.0.0.1:1"]
        for flags, why in [
            ([*https, "--backend-ca", str(none)], "cannot read the authorities"),
            ([*https, "--backend-ca", str(empty)], "has no certificate in PEM"),
            ([*https, "--listen", "0.0.0.0:0"], "other machines reach --listen 0.0.0.0:0; give --tls-cert"),
            ([*https, "--listen", self.server.address], "cannot listen on"),
        ]:
            done = self.run_command("gateway", *flags)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn(why, done.stderr)


class Open(GatewayCase):
    """A server that gives everyone every right."""

    def test_it_is_not_opened_to_others_by_mistake(self) -> None:
        flags = ("--allow-plaintext",)
        gateway = self.start_gateway(self.server.url, options=flags, listen="0.0.0.0:0")
        gateway.expect(*ALARMS)
        gateway.line(re.compile("a backend does not serve.*it gives everyone every right"))
        url = f"http://127.0.0.1:{gateway.endpoint[1]}/ImageStore?api-version=6.0"
        self.assertEqual(requests.get(url, timeout=TIMEOUT_SECONDS).status_code, 503)
        meant = self.start_gateway(
            self.server.url, options=(*flags, "--allow-anonymous"), listen="0.0.0.0:0"
        )
        url = f"http://127.0.0.1:{meant.endpoint[1]}/ImageStore?api-version=6.0"
        self.assertEqual(requests.get(url, timeout=TIMEOUT_SECONDS).status_code, 200)
