"""A test case with a server that asks for a token, over TLS."""

import base64
import hashlib
import json
import tempfile
from pathlib import Path

import requests
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from foreign.certificates import Authority
from foreign.command import CommandCase, Running
from foreign.rest import Rest
from foreign.server import Server, environment

from .browser import BrowserCase


class TokenRest(Rest):
    """A caller with a token."""

    def __init__(self, url: str, trusted: Path | None, token: str) -> None:
        super().__init__(url, trusted)
        self._token = token

    def call(
        self,
        method: str,
        path: str,
        data: bytes | None = None,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> requests.Response:
        known = {"Authorization": f"Bearer {self._token}"} | (headers or {})
        return super().call(method, path, data, query=query, headers=known)


class AccessCase(BrowserCase, CommandCase):
    """A server that everybody needs a token for, and the token of an admin."""

    options: tuple[str, ...] = ("--access", "required")

    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory(prefix="imagestore-certificates-")
        cls.addClassCleanup(folder.cleanup)
        authority = Authority(Path(folder.name))
        cls.trusted = authority.file
        cls.pair = authority.server()
        key = x509.load_pem_x509_certificate(cls.pair[0].read_bytes()).public_key()
        digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
        pin = base64.b64encode(digest.digest()).decode()
        cls.flags = (f"--ignore-certificate-errors-spki-list={pin}",)
        super().setUpClass()

    def make_server(self, data: Path) -> Server:
        self.admin = self.first_token(data)
        certificate, key = map(str, self.pair)
        options = ["--tls-cert", certificate, "--tls-key", key, "--log", "debug", *self.options]
        return Server(data, *options)

    def first_token(self, data: Path) -> str:
        """Makes the token of an admin on the store of a stopped server."""
        arguments = ["token", "create", "boss", "--role", "admin", "--path", "/", "--data", str(data)]
        with Running(arguments, env=environment()) as running:
            return running.end().stdout.strip()

    def _connect(self) -> None:
        self.rest = TokenRest(self.server.url, self.trusted, self.admin)
        self.addCleanup(self.rest.close)

    def tokens(self, *arguments: str) -> str:
        """Runs a command for tokens, as the admin."""
        variables = {"IMAGESTORE_TOKEN": self.admin, "IMAGESTORE_SERVER": self.server.url}
        done = self.run_command("token", *arguments, "--ca", str(self.trusted), env=variables)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def visit(self, path: str = "") -> None:
        """Opens the page, without waiting for anything."""
        self.driver.get(f"{self.server.url}/#/{path}")

    def wait_question(self, *words: str) -> None:
        """Waits until the page asks for a token, and gives this reason."""
        self.wait(lambda: self.one("#token-dialog").is_displayed())
        for word in words:
            self.wait(lambda word=word: word in self.text("#token-dialog .error"))
        self.assertEqual(len(self.all("dialog[open]")), 1)

    def give(self, token: str, keep: bool = False) -> None:
        """Answers the question."""
        self.fill("#token-dialog [name=token]", token)
        if keep != self.one("#token-dialog [name=keep]").is_selected():
            self.click("#token-dialog [name=keep]")
        self.click("#token-dialog [type=submit]")

    def sign_in(self, token: str, keep: bool = False) -> None:
        """Answers the question with a token that is good."""
        self.wait_question()
        self.give(token, keep)
        self.wait(lambda: not self.one("#token-dialog").is_displayed())
        self.wait(lambda: self.text("#live") == "live")

    def copy(self, source: str, destination: str) -> None:
        """Copies over REST, and waits until the page shows it."""
        body = json.dumps({"RemoteSource": source, "RemoteDestination": destination})
        self.rest.call("POST", "$/Copy", body.encode()).raise_for_status()
        self.wait_card("Succeeded", source, destination)

    def assert_kept_nowhere(self, token: str, in_session: bool = False) -> None:
        """Asserts that a token is in no URL, no cookie, no storage that is not meant, no field and not in the log."""
        found = self.script(
            "return {"
            " cookie: document.cookie, local: { ...localStorage }, session: { ...sessionStorage },"
            " urls: [location.href, ...performance.getEntries().map(({ name }) => name)],"
            " fields: [...document.querySelectorAll('input')].map(({ value }) => value),"
            " page: document.documentElement.outerHTML };"
        )
        self.assertEqual((found["cookie"], found["local"]), ("", {}))
        self.assertEqual(list(found["session"].values()), [token] if in_session else [])
        rest = json.dumps([found["urls"], found["fields"], found["page"]])
        self.assertIn("/ImageStore", rest)
        self.assertNotIn(token, rest)
        self.assertFalse([line for line in self.server.log if token in line])
