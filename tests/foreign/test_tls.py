"""TLS on the port: foreign clients over TLS and without it, renewed certificates, and a scan by sslyze."""

import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import grpc
import sslyze
from sslyze.mozilla_tls_profile.tls_config_checker import (
    MozillaTlsConfiguration,
    ServerNotCompliantWithTlsConfiguration,
    TlsConfigurationEnum,
    check_server_against_tls_configuration,
)

from .certificates import DAY, Authority, now
from .command import CommandCase
from .reflection import Reflection
from .server import Server

COMMAND_SECONDS = 60
SOCKET_SECONDS = 30
# How long the scan waits for each answer; for some that do not come, it waits so long.
SCAN_SECONDS = 10
# Suites with authenticated encryption.
STRONG = re.compile("_(GCM|CHACHA20_POLY1305)_SHA")


class Tls(CommandCase):
    """A server with a certificate that an authority of the test has signed."""

    def make_server(self, data: Path) -> Server:
        self.certificates = self.folder / "certificates"
        self.certificates.mkdir()
        self.authority = Authority(self.certificates)
        self.trusted = self.authority.file
        self.pair = self.authority.server()
        certificate, key = map(str, self.pair)
        return Server(data, "--tls-cert", certificate, "--tls-key", key)

    def curl(self, url: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Runs curl, which trusts the authority of the test."""
        return subprocess.run(
            ["curl", "--silent", "--show-error", "--noproxy", "*", "--cacert", self.authority.file,
             *options, url],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=COMMAND_SECONDS,
        )

    def connect(self, context: ssl.SSLContext, session: ssl.SSLSession | None) -> ssl.SSLSocket:
        """Connects, and asks for something, after which a client of TLS 1.3 has a ticket."""
        plain = socket.create_connection(self.server.endpoint, timeout=SOCKET_SECONDS)
        connection = context.wrap_socket(plain, server_hostname="localhost", session=session)
        self.addCleanup(connection.close)
        self.ask(connection)
        return connection

    def ask(self, connection: ssl.SSLSocket) -> None:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertTrue(connection.recv(4096).startswith(b"HTTP/1.1 200 "))

    def serial(self, connection: ssl.SSLSocket) -> object:
        """The number of the certificate of the server."""
        certificate = connection.getpeercert()
        assert certificate is not None
        return certificate["serialNumber"]

    def replace(self, certificate: Path, key: Path) -> None:
        """Puts other files in the place of the certificate and the key."""
        for source, target in zip((certificate, key), self.pair, strict=True):
            if source != target:
                shutil.copyfile(source, target)

    def test_rest_and_grpc_are_served_on_one_port(self) -> None:
        self.rest.put("App/f", b"over TLS")
        url = f"{self.server.url}/ImageStore/App/f/$/Content?api-version=6.0"
        for version, number in [("--http1.1", "1.1"), ("--http2", "2")]:
            done = self.curl(url, version, "--write-out", "\n%{http_version}")
            self.assertEqual((done.stdout, done.stderr), (f"over TLS\n{number}", ""))
        credentials = grpc.ssl_channel_credentials(self.authority.file.read_bytes())
        address = f"localhost:{self.server.endpoint[1]}"
        reflection = Reflection(address, grpc.secure_channel(address, credentials))
        self.addCleanup(reflection.close)
        stat = reflection.service("imagestore.v1.ImageStore").call("Stat", path="App/f")
        self.assertEqual(stat.entry.size_bytes, 8)

    def test_the_command_line_trusts_the_authority_that_it_is_given(self) -> None:
        file = self.folder / "file"
        file.write_bytes(b"over TLS")
        trust = ("--ca", str(self.authority.file))
        self.command("put", str(file), "App/f", *trust)
        self.assertIn("App/f", self.command("stat", "App/f", *trust))
        self.assert_fails("stat", "App/f", says=["UnknownIssuer"])
        self.assert_fails("stat", "App/f", "--ca", str(self.pair[1]), says=["no certificate in PEM"])
        missing = str(self.folder / "none")
        self.assert_fails("stat", "App/f", "--ca", missing, says=[f"cannot read {missing}"])

    def test_sfctl_takes_the_authority_from_its_environment(self) -> None:
        package = self.folder / "App"
        (package / "Code").mkdir(parents=True)
        (package / "Code" / "f").write_bytes(b"over TLS")
        home = self.folder / "home"
        home.mkdir()
        for arguments in [
            ("cluster", "select", "--endpoint", self.server.url),
            ("application", "upload", "--path", str(package)),
        ]:
            done = subprocess.run(
                [str(Path(sys.executable).parent / "sfctl"), *arguments],
                env=os.environ
                | {"HOME": str(home), "REQUESTS_CA_BUNDLE": str(self.authority.file)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                timeout=COMMAND_SECONDS,
            )
            self.assertEqual(done.returncode, 0, f"{done.stdout}{done.stderr}")
        self.assertEqual(self.rest.content("App/Code/f"), b"over TLS")

    def test_a_client_without_tls_is_told_to_use_it(self) -> None:
        plain = f"http://{self.server.address}"
        for version in ["--http1.1", "--http2-prior-knowledge"]:
            for path in ["/health/live", "/ImageStore/a?api-version=6.0"]:
                done = self.curl(plain + path, version, "--write-out", "\n%{http_code}")
                body, code = done.stdout.rsplit("\n", 1)
                self.assertEqual(code, "400")
                self.assertIn("https://", body)
        with grpc.insecure_channel(self.server.address) as channel:
            stat = channel.unary_unary("/imagestore.v1.ImageStore/Stat")
            with self.assertRaises(grpc.RpcError) as refused:
                stat(b"", timeout=SOCKET_SECONDS)
        self.assertEqual(refused.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertIn("https://", refused.exception.details() or "")
        self.assert_fails("ls", "--server", plain, says=["https://"])

    def test_a_renewed_certificate_is_taken_and_old_sessions_end(self) -> None:
        # The server may look at the files between the two.
        self.server.expect("the TLS certificate is not reloaded")
        for version in [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]:
            with self.subTest(version):
                context = ssl.create_default_context(cafile=self.authority.file)
                context.minimum_version = context.maximum_version = version
                first = self.connect(context, None)
                again = self.connect(context, first.session)
                self.assertTrue(again.session_reused)

                self.server.log.clear()
                self.replace(*self.authority.server("renewed"))
                self.server.line(re.compile("the TLS certificate has changed"))

                later = self.connect(context, again.session)
                self.assertFalse(later.session_reused)
                self.assertNotEqual(self.serial(later), self.serial(first))
                # The connections of before stay.
                self.ask(first)
                self.ask(again)

    def test_files_that_do_not_fit_leave_the_certificate_in_use(self) -> None:
        self.server.expect("the TLS certificate is not reloaded")
        context = ssl.create_default_context(cafile=self.authority.file)
        first = self.serial(self.connect(context, None))
        other = self.authority.server("other")
        expired = self.authority.server("expired", not_after=now() - DAY / 2)
        for certificate, key, why in [
            (other[0], self.pair[1], "is not that of the certificate"),
            (*expired, "expired at"),
            (other[1], other[1], "has no certificate in PEM"),
        ]:
            self.server.log.clear()
            self.replace(certificate, key)
            self.server.line(re.compile(f"is not reloaded.*{why}"))
            self.assertEqual(self.serial(self.connect(context, None)), first)

    def test_a_scan_finds_no_fault(self) -> None:
        host, port = self.server.endpoint
        location = sslyze.ServerNetworkLocation(hostname="localhost", ip_address=host, port=port)
        scanner = sslyze.Scanner()
        network = sslyze.ServerNetworkConfiguration("localhost", network_timeout=SCAN_SECONDS)
        scanner.queue_scans([sslyze.ServerScanRequest(location, network)])
        (result,) = scanner.get_results()
        assert result.scan_result is not None
        for version in ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"]:
            self.assertEqual(accepted(result.scan_result, version), set(), version)
        for version in ["tls_1_2", "tls_1_3"]:
            suites = accepted(result.scan_result, version)
            self.assertEqual({suite for suite in suites if not STRONG.search(suite)}, set())
            self.assertGreater(len(suites), 0, version)
        renegotiation = result.scan_result.session_renegotiation.result
        assert renegotiation is not None
        self.assertTrue(renegotiation.supports_secure_renegotiation)
        self.assertFalse(renegotiation.is_vulnerable_to_client_renegotiation_dos)
        profile = MozillaTlsConfiguration.get(TlsConfigurationEnum.MOZILLA_INTERMEDIATE)
        with self.assertRaises(ServerNotCompliantWithTlsConfiguration) as faults:
            check_server_against_tls_configuration(result, profile)
        # The authority of the test is not a public one.
        issues = faults.exception.issues
        self.assertEqual(list(issues), ["certificate_path_validation"], issues)


def accepted(scan: sslyze.AllScanCommandsAttempts, version: str) -> set[str]:
    """The names of the cipher suites that the server accepts in a version of the protocol."""
    result = getattr(scan, f"{version}_cipher_suites").result
    return {suite.cipher_suite.name for suite in result.accepted_cipher_suites}
