"""Signed links: on the command line, by makers with certificates, in the audit log, and for a cluster."""

import http.server
import io
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import requests

from .command import CommandCase
from .proxy import Proxy
from .rest import TIMEOUT_SECONDS
from .server import Server, environment
from .test_client_certificates import CertificateCase
from .test_readme import BLOCKS

COMMAND_SECONDS = 120
WAIT_SECONDS = 60


class Cluster(http.server.ThreadingHTTPServer):
    """A cluster that provisions from an external store: it downloads the package by a plain GET."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Requests)
        self.asked: list[dict[str, Any]] = []
        self.packages: list[bytes] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Requests(http.server.BaseHTTPRequestHandler):
    """The requests of `sfctl` to a cluster."""

    server: Cluster

    def do_GET(self) -> None:
        self._answer(b'{"Version": "9.1.0.0"}')

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append({"path": self.path.split("?")[0]} | body)
        with urllib.request.urlopen(body["ApplicationPackageDownloadUri"], timeout=TIMEOUT_SECONDS) as answer:
            self.server.packages.append(answer.read())
        self._answer(b"{}")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class Links(CommandCase):
    """`imagestore link`, and what a cluster does with a link."""

    def make_server(self, data: Path) -> Server:
        self.audit = self.folder / "audit.log"
        return Server(data, "--log", "debug", "--audit", str(self.audit), "--audit-reads")

    def setUp(self) -> None:
        super().setUp()
        self.rest.put_all({
            "CalcAppV1/ApplicationManifest.xml": b"<App/>", "CalcAppV1/Code/f": b"1" * 100_000,
        })

    def get(self, link: str) -> requests.Response:
        """Downloads a link, without any credential."""
        return requests.get(link, timeout=TIMEOUT_SECONDS)

    def test_a_link_is_printed_alone(self) -> None:
        done = self.run_command("link", "CalcAppV1", "--for", "10m")
        link = done.stdout.removesuffix("\n")
        self.assertTrue(link.startswith(f"{self.server.url}/Packages/CalcAppV1.sfpkg?link-expires="), link)
        self.assertRegex(done.stderr, r"^whoever has this link may use it until 20\S+\n$")
        with zipfile.ZipFile(io.BytesIO(self.get(link).content)) as archive:
            self.assertEqual(archive.namelist(), ["ApplicationManifest.xml", "Code/f"])
        packed = self.command("link", "CalcAppV1", "--format", "zip", "--compress").strip()
        self.assertIn("/Packages/CalcAppV1.zip?compress=deflate&link-expires=", packed)
        self.assertLess(len(self.get(packed).content), 10_000)
        (record,) = self.records("link", "CalcAppV1/ApplicationManifest.xml")
        self.assertEqual(self.get(record["link"]).content, b"<App/>")
        self.assertEqual(set(record), {"link", "expiresAt"})

        self.assert_fails("link", "nothing", says=['"nothing" does not exist'])
        self.assert_fails("link", "CalcAppV1", "--for", "8d", says=["a link lives 1 second to 7 days"])
        self.assertEqual(self.run_command("link").returncode, 2)
        self.assertEqual(self.command("link", "--rotate-key"), "all links have ended\n")
        for ended in [link, packed, record["link"]]:
            answer = self.get(ended)
            self.assertEqual(answer.status_code, 403)
            self.assertIn("all links were ended", answer.json()["Error"]["Message"])

    def test_a_link_begins_with_the_address_that_others_have(self) -> None:
        proxy = Proxy("nginx with a prefix", self.folder / "nginx", self.server.address)
        self.addCleanup(proxy.stop)
        base = f"http://{proxy.address}/store"
        for end in ["", "/"]:
            link = self.command("link", "CalcAppV1", "--base", base + end).strip()
            self.assertTrue(link.startswith(f"{base}/Packages/CalcAppV1.sfpkg?link-expires="), link)
            with zipfile.ZipFile(io.BytesIO(self.get(link).content)) as archive:
                self.assertEqual(archive.namelist(), ["ApplicationManifest.xml", "Code/f"])
        done = self.run_command("link", "CalcAppV1", "--base", "there")
        self.assertEqual(done.returncode, 2)
        self.assertIn("'there' is no address", done.stderr)

    def test_links_are_in_no_log(self) -> None:
        link = self.command("link", "CalcAppV1").strip()
        signature = link.split("link-signature=")[1]
        self.assertEqual(self.get(link).status_code, 200)
        altered = self.get(f"{link}x")
        self.assertEqual(altered.status_code, 403)
        self.assertNotIn(signature, altered.text)
        self.server.stop()
        self.assertFalse([line for line in self.server.log if signature in line or "link-maker" in line])
        audit = self.audit.read_text(encoding="utf-8")
        self.assertNotIn(signature, audit)
        lines = [json.loads(line) for line in audit.splitlines()]
        calls = [(line["call"], line["caller"], line["via"], line["outcome"], line["destination"]) for line in lines]
        self.assertIn(("CreateLink", "anonymous", "none", "done", "CalcAppV1"), calls)
        self.assertIn(("DownloadPackage", "link:anonymous", "link", "done", "CalcAppV1"), calls)
        (refused,) = [line for line in lines if line["outcome"] == "refused"]
        self.assertEqual((refused["via"], refused["caller"]), ("refused", None))
        self.start_again()

    def test_a_restored_store_has_a_key_of_its_own(self) -> None:
        link = self.command("link", "CalcAppV1").strip()
        backup, data = self.folder / "all.imagestore", self.folder / "restored"
        self.command("backup", str(backup))
        self.command("restore", str(backup), "--data", str(data))
        other = Server(data)
        self.addCleanup(other.stop)
        url = link.replace(self.server.url, other.url)
        own = self.command("--server", other.url, "link", "CalcAppV1").strip()
        self.assertEqual((self.get(own).status_code, self.get(url).status_code), (200, 403))
        self.assertEqual(self.get(link).status_code, 200)
        # The key outlives a stop.
        self.restart()
        self.assertEqual(self.get(link.replace(link.split("/Packages")[0], self.server.url)).status_code, 200)

    def test_a_cluster_provisions_from_here(self) -> None:
        (block,) = [block for kind, block in BLOCKS if kind.strip() == "provision"]
        cluster = Cluster()
        self.addCleanup(cluster.server_close)
        thread = threading.Thread(target=cluster.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(cluster.shutdown)
        folders = [Path(os.environ["IMAGESTORE_BINARY"]).parent, Path(sys.executable).parent]
        variables = environment() | {
            "PATH": ":".join([*map(str, folders), os.environ["PATH"]]),
            "HOME": str(self.folder), "PYTHONWARNINGS": "ignore", "IMAGESTORE_SERVER": self.server.url,
        }
        script = f"sfctl cluster select --endpoint {cluster.url}\n{block}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], env=variables, stdin=subprocess.DEVNULL,
            capture_output=True, encoding="utf-8", timeout=COMMAND_SECONDS, check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        (asked,) = cluster.asked
        uri = asked.pop("ApplicationPackageDownloadUri")
        self.assertTrue(uri.startswith(f"{self.server.url}/Packages/CalcAppV1.sfpkg?"), uri)
        self.assertEqual(asked, {
            "path": "/ApplicationTypes/$/Provision", "Kind": "ExternalStore", "Async": False,
            "ApplicationTypeName": "CalcApp", "ApplicationTypeVersion": "1.0.0",
        })
        with zipfile.ZipFile(io.BytesIO(cluster.packages[0])) as archive:
            self.assertEqual(archive.read("ApplicationManifest.xml"), b"<App/>")


class Certificates(CertificateCase):
    """Links of makers with certificates."""

    def test_a_link_ends_when_its_maker_is_granted_nothing_any_more(self) -> None:
        self.rest.put_all({"App/f": b"1", "Other/f": b"2"})
        certificate, key = map(str, self.clients["reader"])
        pair = ["--ca", str(self.trusted), "--cert", certificate, "--key", key]
        link = self.command("link", "App/f", *pair).strip()
        self.assertTrue(link.startswith("https://"), link)
        answer = requests.get(link, verify=str(self.trusted), timeout=TIMEOUT_SECONDS)
        self.assertEqual(answer.content, b"1")
        self.assert_fails("link", "Other/f", *pair, says=["'cert:cn=reader' may not read 'Other/f'"])
        self.grant({"cert:cn=admin": ("admin", "/")})
        end = time.monotonic() + WAIT_SECONDS
        while (answer := requests.get(link, verify=str(self.trusted), timeout=TIMEOUT_SECONDS)).ok:
            self.assertLess(time.monotonic(), end)
        self.assertEqual(answer.status_code, 403)
        self.assertEqual(answer.json()["Error"]["Message"], "'link:cert:cn=reader' may not read 'App/f'")
