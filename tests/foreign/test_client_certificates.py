"""Client certificates: foreign clients that show good ones and others, and what changes while the server runs."""

import hashlib
import os
import re
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import grpc
from azure.servicefabric import ServiceFabricClientAPIs
from azure.servicefabric.models import FabricErrorException
from msrest.authentication import Authentication

from .certificates import DAY, Authority, now
from .command import CommandCase
from .reflection import Reflection
from .server import Server

COMMAND_SECONDS = 60
SOCKET_SECONDS = 30
SERVICE = "imagestore.v1.ImageStore"


class CertificateCase(CommandCase):
    """A server that takes certificates of an authority of clients, and of one client that is its own authority."""

    # Further flags of the server.
    flags: tuple[str, ...] = ()

    def make_server(self, data: Path) -> Server:
        folder = self.folder / "certificates"
        folder.mkdir()
        self.authority = Authority(folder)
        self.trusted = self.authority.file
        self.pair = self.authority.server()
        stranger = self.folder / "stranger"
        stranger.mkdir()
        self.other = Authority(stranger, "another authority")
        self.pinned = self.self_signed()
        self.grants = self.folder / "grants.toml"
        der = ssl.PEM_cert_to_DER_cert(self.pinned[0].read_text(encoding="ascii"))
        self.pin = f"cert:sha256={hashlib.sha256(der).hexdigest()}"
        self.clients = {
            stem: self.authority.client(stem) for stem in ["admin", "writer", "reader", "unnamed", "lost"]
        }
        self.revoked = self.authority.revoke(self.clients["lost"][0])
        self.grant({
            "cert:cn=admin": ("admin", "/"), "cert:cn=writer": ("writer", "App*"),
            "cert:cn=reader": ("reader", "App*"), "cert:cn=lost": ("reader", "App*"),
            self.pin: ("writer", "App*"),
        })
        certificate, key = map(str, self.pair)
        return Server(
            data, "--tls-cert", certificate, "--tls-key", key, "--grants", str(self.grants),
            "--client-ca", str(self.authority.file), "--client-crl", str(self.revoked), *self.flags,
        )

    def _connect(self) -> None:
        super()._connect()
        certificate, key = self.clients["admin"]
        self.rest._session.cert = (str(certificate), str(key))

    def grant(self, grants: dict[str, tuple[str, str]]) -> None:
        """Writes the grants file."""
        lines = [
            f'[[grant]]\nwho = ["{who}"]\nrole = "{role}"\npaths = ["{path}"]\n'
            for who, (role, path) in grants.items()
        ]
        self.grants.write_text("".join(lines), encoding="utf-8")
        self.grants.chmod(0o600)

    def self_signed(self) -> tuple[Path, Path]:
        """A certificate as `openssl req -x509` makes it, which is its own authority."""
        certificate, key = self.folder / "pinned.pem", self.folder / "pinned.key"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
             "-subj", "/CN=admin", "-days", "1"],
            check=True,
            capture_output=True,
        )
        return certificate, key

    def curl(self, pair: tuple[Path, Path] | None, *options: str) -> str:
        """Asks for a file with a certificate. Returns the body, the status and the reason phrase."""
        shown = [] if pair is None else ["--cert", str(pair[0]), "--key", str(pair[1])]
        done = subprocess.run(
            ["curl", "--silent", "--show-error", "--http1.1", "--noproxy", "*", "--cacert",
             self.authority.file, *shown, *options, "--dump-header", "-",
             f"{self.server.url}/ImageStore/App/f/$/Content?api-version=6.0"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=COMMAND_SECONDS,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def code(self, pair: tuple[Path, Path] | None, rpc: str, **fields: str) -> tuple[str, str]:
        """Calls an rpc with a certificate. Returns the code and the message."""
        files = (None, None) if pair is None else (pair[1].read_bytes(), pair[0].read_bytes())
        credentials = grpc.ssl_channel_credentials(self.authority.file.read_bytes(), *files)
        address = f"localhost:{self.server.endpoint[1]}"
        reflection = Reflection(address, grpc.secure_channel(address, credentials))
        self.addCleanup(reflection.close)
        try:
            reflection.service(SERVICE).call(rpc, **fields)
        except grpc.RpcError as error:
            return error.code().name, error.details()
        return "OK", ""


class ClientCertificates(CertificateCase):
    """Each client by its certificate."""

    def test_each_client_may_do_what_is_granted_to_its_certificate(self) -> None:
        self.rest.put("App/f", b"content")
        self.rest.put("Other/f", b"content")
        for stem, reads, writes, administers in [
            ("admin", "OK", "OK", "OK"),
            ("writer", "OK", "OK", "PERMISSION_DENIED"),
            ("reader", "OK", "PERMISSION_DENIED", "PERMISSION_DENIED"),
            ("unnamed", *["PERMISSION_DENIED"] * 3),
        ]:
            pair = self.clients[stem]
            with self.subTest(stem):
                self.assertEqual(self.code(pair, "Stat", path="App/f")[0], reads)
                self.assertEqual(self.code(pair, "Delete", path="App/none")[0], writes)
                self.assertEqual(self.code(pair, "Delete", path="Other/none")[0], administers)
                self.assertIn("content" if reads == "OK" else " 403 Access Denied", self.curl(pair))
        self.assertEqual(self.code(self.pinned, "Stat", path="App/f"), ("OK", ""))
        self.assertEqual(
            self.code(self.pinned, "Stat", path="Other/f"),
            ("PERMISSION_DENIED", f"'{self.pin}' may not read 'Other/f'"),
        )
        code, message = self.code(None, "Stat", path="App/f")
        self.assertEqual((code, "no credential" in message), ("UNAUTHENTICATED", True))

    def sdk(self, pair: tuple[Path, Path] | None, call: str, path: str) -> int:
        """Makes a call of the Python SDK with a certificate, and returns the status."""
        with ServiceFabricClientAPIs(Authentication(), base_url=self.server.url) as client:
            client.config.connection.verify = str(self.authority.file)
            if pair is not None:
                client.config.connection.cert = tuple(map(str, pair))
            try:
                getattr(client, call)(path)
            except FabricErrorException as error:
                return int(error.response.status_code)
        return 200

    def test_the_python_sdk_has_the_rights_of_its_certificate(self) -> None:
        self.rest.put("App/f", b"content")
        for pair, reads, writes in [
            (self.clients["admin"], 200, 200),
            (self.clients["writer"], 200, 200),
            (self.pinned, 200, 200),
            (self.clients["reader"], 200, 403),
            (self.clients["unnamed"], 403, 403),
            (self.other.client("stranger"), 403, 403),
            (None, 401, 401),
        ]:
            self.assertEqual(self.sdk(pair, "get_image_store_content", "App"), reads, pair)
            self.assertEqual(self.sdk(pair, "delete_image_store_content", "App/none"), writes, pair)

    def test_a_certificate_that_is_not_good_is_told_why(self) -> None:
        self.rest.put("App/f", b"content")
        for pair, why in [
            (self.other.client("admin"), "is of an unknown issuer"),
            (self.authority.client("old", not_before=now() - 2 * DAY, not_after=now() - DAY), "expired at"),
            (self.authority.client("new", not_before=now() + DAY / 2), "is not valid before"),
            (self.authority.client("server2", is_server=True), "is not for clients"),
            (self.clients["lost"], "is revoked"),
            (self.clients["unnamed"], "no grant names the client certificate 'cert:cn=unnamed'"),
        ]:
            with self.subTest(why):
                code, message = self.code(pair, "Stat", path="App/f")
                self.assertEqual(code, "PERMISSION_DENIED")
                self.assertIn(why, message)
                answer = self.curl(pair)
                self.assertIn("HTTP/1.1 403 ", answer)
                self.assertIn(why, answer)
        # What needs no right does not look at a certificate.
        done = subprocess.run(
            ["curl", "--silent", "--fail", "--cacert", self.authority.file, "--cert", self.clients["lost"][0],
             "--key", self.clients["lost"][1], f"{self.server.url}/health"],
            timeout=COMMAND_SECONDS,
        )
        self.assertEqual(done.returncode, 0)

    def test_a_resumed_session_is_judged_again(self) -> None:
        self.rest.put("App/f", b"content")
        context = ssl.create_default_context(cafile=str(self.authority.file))
        context.load_cert_chain(*map(str, self.clients["reader"]))
        first = self.ask(context, None)
        self.assertIn("200", first[0])
        second = self.ask(context, first[1])
        self.assertTrue(second[2], "the session is resumed")
        self.assertIn("200", second[0])
        self.grant({"cert:cn=admin": ("admin", "/")})
        self.server.line(re.compile("the grants file has changed"))
        status, _, is_resumed = self.ask(context, second[1])
        self.assertTrue(is_resumed)
        self.assertIn("403", status)
        # New lists are taken as well, for the connections that are open.
        self.authority.revoke(self.clients["lost"][0], self.clients["admin"][0])
        self.server.line(re.compile("the file of certificate authorities of clients has changed"))
        self.assertEqual(self.rest.call("GET", "App").status_code, 403)

    def ask(
        self, context: ssl.SSLContext, session: ssl.SSLSession | None
    ) -> tuple[str, ssl.SSLSession | None, bool]:
        """Asks for a file on a new connection. Returns the status line, the session, and whether it is resumed."""
        plain = socket.create_connection(self.server.endpoint, timeout=SOCKET_SECONDS)
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as connection:
            connection.sendall(
                b"GET /ImageStore/App/f/$/Content HTTP/1.1\r\nHost: localhost\r\n\r\n"
            )
            status = connection.recv(4096).split(b"\r\n")[0].decode()
            return status, connection.session, bool(connection.session_reused)

    def test_sfctl_and_the_command_line_show_a_certificate(self) -> None:
        package = self.folder / "App1"
        (package / "Code").mkdir(parents=True)
        (package / "Code" / "f").write_bytes(b"by sfctl")
        certificate, key = self.clients["writer"]
        pem = self.folder / "writer-both.pem"
        pem.write_bytes(certificate.read_bytes() + key.read_bytes())
        for shown in [("--pem", str(pem)), ("--cert", str(certificate), "--key", str(key))]:
            home = self.folder / f"home{len(shown)}"
            home.mkdir()
            for arguments in [
                ("cluster", "select", "--endpoint", self.server.url, *shown),
                ("application", "upload", "--path", str(package)),
                ("store", "stat", "--content-path", "App1"),
            ]:
                done = self.sfctl(home, *arguments)
                self.assertEqual(done.returncode, 0, f"{done.stdout}{done.stderr}")
            done = self.sfctl(home, "store", "delete", "--content-path", "Other")
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("may not write 'Other'", done.stdout + done.stderr)
        self.assertEqual(self.rest.content("App1/Code/f"), b"by sfctl")
        shown = ("--ca", str(self.authority.file), "--cert", str(certificate), "--key", str(key))
        self.assertIn("cert:cn=writer", self.command("whoami", *shown))
        self.assertIn("App1/Code/f", self.command("stat", "App1/Code/f", *shown))
        self.assert_fails("rm", "Other/f", *shown, says=["'cert:cn=writer' may not write 'Other/f'"])
        self.assert_fails("ls", *shown[:4], says=["--cert needs --key"])
        self.assert_fails("ls", *shown[:2], *shown[4:], says=["--key needs --cert"])
        self.assert_fails("ls", *shown[:4], "--key", str(certificate), says=["others may read the key"])
        key.chmod(0o640)
        self.assert_fails("ls", *shown, says=["others may read the key", "chmod 600"])

    def sfctl(self, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs sfctl, which trusts the authority of the test."""
        return subprocess.run(
            [str(Path(sys.executable).parent / "sfctl"), *arguments],
            env=os.environ | {"HOME": str(home), "REQUESTS_CA_BUNDLE": str(self.authority.file)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=COMMAND_SECONDS,
        )


class Required(CertificateCase):
    """Every caller has to show a certificate."""

    flags = ("--require-client-cert",)

    def test_who_shows_none_is_refused(self) -> None:
        self.rest.put("App/f", b"content")
        self.assertIn("content", self.curl(self.clients["reader"]))
        answer = self.curl(None)
        self.assertIn("HTTP/1.1 403 Client certificate required", answer)
        self.assertIn('"Code":"E_ACCESSDENIED"', answer)
        self.assertEqual(
            self.code(None, "Stat", path="App/f"), ("PERMISSION_DENIED", "Client certificate required")
        )
        # A token does not make up for a certificate that is not good.
        token = self.command(
            "token", "create", "ci", "--role", "reader", "--path", "App", "--ca",
            str(self.authority.file), "--cert", str(self.clients["admin"][0]), "--key",
            str(self.clients["admin"][1]),
        ).strip()
        bearer = ("--header", f"Authorization: Bearer {token}")
        self.assertIn("content", self.curl(self.clients["unnamed"], *bearer))
        for pair in [self.other.client("admin"), self.clients["lost"]]:
            self.assertIn("HTTP/1.1 403 ", self.curl(pair, *bearer))
        # Probes need none.
        done = subprocess.run(
            ["curl", "--silent", "--fail", "--cacert", self.authority.file, f"{self.server.url}/health/live"],
            timeout=COMMAND_SECONDS,
        )
        self.assertEqual(done.returncode, 0)
