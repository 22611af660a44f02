"""A server that trusts a real nginx before it, which has TLS and a path prefix: the settings of the README."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import grpc
import requests

from .certificates import Authority
from .proxy import README_SOURCE, Proxy, readme_settings
from .reflection import Reflection, Service
from .rest import Rest
from .server import Server
from .test_access import AccessCase
from .test_grpc import SERVICE, upload_messages

SECONDS = 60
# More than nginx keeps of a body in memory.
LARGE = bytes(range(256)) * 20_000
SESSION = "00000000-0000-4000-8000-000000000001"
SPOOFED = "198.51.100.7"
HERE = "127.0.0.1"
# Another client, on this machine too.
THERE = "127.0.0.9"
# The name of the server that is allowed.
NAME = "store.example"


class From(requests.adapters.HTTPAdapter):
    """Connections from one address of this machine."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, source_address=(self._address, 0), **options)


class TrustedCase(AccessCase):
    """A server that requires a right and trusts a proxy with TLS, whose address is `url`."""

    def make_server(self, data: Path) -> Server:
        self.token = self.first_token(data)
        self.audit = self.folder / "audit.log"
        authority = Authority(self.folder)
        self.trusted, self.pair = authority.file, authority.server()
        flags = ["--trusted-proxy", README_SOURCE, "--allowed-host", NAME]
        flags += ["--audit", str(self.audit), "--audit-reads"]
        return Server(data, *self.options(), *flags)

    def setUp(self) -> None:
        super().setUp()
        self.proxy = self.start_proxy("tls", tls=True)
        self.url = f"https://{self.proxy}/store"
        self.store = Rest(self.url, self.trusted, self.token)
        self.addCleanup(self.store.close)

    def start_proxy(self, name: str, *, tls: bool) -> str:
        """Starts a proxy, and returns its address."""
        settings = readme_settings(*self.pair, tls=tls)
        proxy = Proxy("nginx", self.folder / f"nginx-{name}", self.server.address, settings)
        self.addCleanup(proxy.stop)
        return proxy.address

    def service(self, **metadata: str) -> Service:
        """The service over gRPC and TLS, through the proxy."""
        roots = self.trusted.read_bytes()
        credentials = grpc.ssl_channel_credentials(roots)
        bearer = grpc.access_token_call_credentials(self.token)
        channel = grpc.secure_channel(
            self.proxy,
            grpc.composite_channel_credentials(credentials, bearer),
            [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)],
        )
        channel = grpc.intercept_channel(channel, *([Metadata(metadata)] if metadata else []))
        reflection = Reflection(self.proxy, channel)
        self.addCleanup(channel.close)
        return reflection.service(SERVICE)

    def audited(self, call: str) -> list[dict[str, Any]]:
        """Stops the server, and returns what its audit log has of a call."""
        self.server.stop()
        lines = map(json.loads, self.audit.read_text().splitlines())
        return [dict(line) for line in lines if line["call"] == call]


class Metadata(grpc.UnaryUnaryClientInterceptor):
    """Adds metadata to each call."""

    def __init__(self, metadata: dict[str, str]) -> None:
        self._metadata = [(name.replace("_", "-"), value) for name, value in metadata.items()]

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """Makes a call with the metadata."""
        metadata = [*(details.metadata or []), *self._metadata]
        return continuation(details._replace(metadata=metadata), request)


class BehindNginx(TrustedCase):
    def test_rest_works_below_the_prefix(self) -> None:
        self.store.put("App/large", LARGE)
        self.assertEqual(self.store.tree(), {"App/large": LARGE})
        chunk = self.store.put_chunk("App/b", SESSION, "bytes 0-0/1", b"1")
        self.assertEqual(chunk.status_code, 200, chunk.text)
        copied = self.store.call(
            "POST", "$/Copy", json.dumps({"RemoteSource": "App", "RemoteDestination": "Copy"}).encode(),
            headers={"Prefer": "respond-async"},
        )
        self.assertEqual(copied.status_code, 202, copied.text)
        location = copied.headers["Location"]
        self.assertEqual(location, f"/store/ImageStore/$/Operations/{copied.json()['Id']}")
        bearer = {"Authorization": f"Bearer {self.token}"}
        found = requests.get(
            urljoin(copied.url, location), headers=bearer, verify=str(self.trusted), timeout=SECONDS
        )
        self.assertEqual((found.status_code, found.json()["Id"]), (200, copied.json()["Id"]))
        page = requests.get(f"{self.url}/", verify=str(self.trusted), timeout=SECONDS)
        for name in ["page/style.css", "page/main.js", "page/icon.svg"]:
            self.assertIn(f'"{name}"', page.text)
            asset = requests.get(urljoin(page.url, name), verify=str(self.trusted), timeout=SECONDS)
            self.assertEqual(asset.status_code, 200)

    def test_grpc_works_over_tls(self) -> None:
        service = self.service()
        messages = upload_messages("App/f", LARGE, {"size_bytes": len(LARGE)})
        entry = service.call("Upload", messages).entry
        self.assertEqual((entry.path, entry.size_bytes), ("App/f", len(LARGE)))
        copied = list(service.call("Copy", source="App", destination="Copy"))
        self.assertEqual(copied[-1].destination, "Copy")
        received = b"".join(part.data for part in service.call("Download", path="Copy/f"))
        self.assertTrue(received == LARGE)
        with self.assertRaises(grpc.RpcError) as refused:
            service.call("Stat", path="none")
        self.assertEqual(refused.exception.code(), grpc.StatusCode.NOT_FOUND)

    def test_the_command_line_works_over_tls(self) -> None:
        flags = ["--server", f"https://{self.proxy}", "--ca", str(self.trusted), *self.by("admin")]
        (self.folder / "f").write_bytes(LARGE)
        self.command("put", str(self.folder / "f"), "App/f", *flags)
        self.assertEqual(self.command("ls", "App", *flags), "f\n")

    def test_the_audit_log_has_the_address_of_the_client(self) -> None:
        self.store.put("mine", b"1")
        # nginx appends the address of the client to what the client has sent.
        self.store.call("PUT", "spoofed", b"1", headers={"X-Forwarded-For": SPOOFED}).raise_for_status()
        with requests.Session() as session:
            session.mount("https://", From(THERE))
            there = session.put(
                f"{self.url}/ImageStore/there?api-version=6.0", data=b"1", verify=str(self.trusted),
                headers={"Authorization": f"Bearer {self.token}"}, timeout=SECONDS,
            )
            self.assertEqual(there.status_code, 200, there.text)
        self.rest.call("PUT", "direct", b"1", headers={"X-Forwarded-For": SPOOFED}).raise_for_status()
        self.service(x_forwarded_for=SPOOFED).call("Delete", path="mine")

        addresses = {line["destination"]: line["address"] for line in self.audited("Upload")}
        self.assertEqual(addresses, {"mine": HERE, "spoofed": HERE, "there": THERE, "direct": HERE})
        (deleted,) = self.audited("Delete")
        self.assertEqual((deleted["interface"], deleted["address"]), ("grpc", HERE))

    def test_refused_credentials_count_for_the_client_alone(self) -> None:
        bearer = {"Authorization": f"Bearer {self.token[:-1]}"}

        def wrong(session: requests.Session) -> int:
            return session.get(
                f"{self.url}/ImageStore?api-version=6.0", headers=bearer, verify=str(self.trusted),
                timeout=SECONDS,
            ).status_code

        with requests.Session() as here, requests.Session() as there:
            there.mount("https://", From(THERE))
            self.assertEqual(wrong(here), 401)
            while wrong(here) != 429:
                pass
            self.assertEqual(wrong(there), 401)

    def test_a_credential_without_tls_is_refused(self) -> None:
        plain = self.start_proxy("plain", tls=False)
        rest = Rest(f"http://{plain}/store", None, self.token)
        self.addCleanup(rest.close)
        refused = rest.call("GET", "")
        self.assertEqual(refused.status_code, 403)
        self.assertIn("a credential over plain HTTP is refused", refused.json()["Error"]["Message"])
        # A client cannot say that it has TLS: nginx replaces the header.
        self.assertEqual(rest.call("GET", "", headers={"X-Forwarded-Proto": "https"}).status_code, 403)
        self.assertEqual(self.rest.call("GET", "").status_code, 200)
        (line, *_) = [line for line in self.audited("/ImageStore/") if line["code"] == 403]
        self.assertEqual((line["outcome"], line["address"]), ("refused", HERE))

    def test_a_name_has_to_be_known_also_with_tls(self) -> None:
        self.assertEqual(self.store.call("GET", "", headers={"Host": NAME}).status_code, 200)
        refused = self.store.call("GET", "", headers={"Host": "evil.example"})
        self.assertEqual(refused.status_code, 403)
        self.assertIn("--allowed-host evil.example", refused.json()["Error"]["Message"])
        # A page that reaches the server itself, from an address of the proxy, and sends the headers of the proxy.
        with requests.Session() as session:
            session.mount("http://", From(README_SOURCE))
            for told in ["evil.example", "localhost", NAME]:
                answer = session.get(
                    f"http://{self.server.address}/ImageStore?api-version=6.0", timeout=SECONDS,
                    headers={"Host": "evil.example", "X-Forwarded-Host": told, "X-Forwarded-Proto": "https",
                             "Authorization": f"Bearer {self.token}"},
                )
                self.assertEqual(answer.status_code, 403, answer.text)
                self.assertIn("the host 'evil.example", answer.text)

    def test_a_page_of_elsewhere_does_not_write(self) -> None:
        own = {"Origin": f"https://{self.proxy}", "Sec-Fetch-Site": "same-origin"}
        self.assertEqual(self.store.call("PUT", "a", b"1", headers=own).status_code, 200)
        for foreign in [
            {"Origin": "https://evil.example"}, {"Origin": f"http://{self.proxy}"},
            {"Origin": f"https://{self.server.address}"}, {"Sec-Fetch-Site": "cross-site"},
            {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example"},
        ]:
            with self.subTest(foreign=foreign):
                self.assertEqual(self.store.call("PUT", "b", b"1", headers=foreign).status_code, 403)
        # What is refused for its host or its page is in the audit log.
        refused = [line for line in self.audited("/ImageStore/b") if line["outcome"] == "refused"]
        self.assertTrue(refused)
        self.assertEqual({(line["address"], line["code"]) for line in refused}, {(HERE, 403)})
