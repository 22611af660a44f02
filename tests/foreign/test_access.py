"""Who may do what: tokens and the grants file, with foreign clients and the command line as processes."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import requests
from azure.servicefabric import ServiceFabricClientAPIs
from azure.servicefabric.models import FabricErrorException
from msrest.authentication import Authentication, BasicAuthentication, BasicTokenAuthentication

from .certificates import Authority
from .command import CommandCase, Running
from .reflection import Reflection, as_dict
from .rest import Rest
from .server import Server, environment
from .test_grpc import SERVICE, upload_messages
from .test_serve import ServeCase

COMMAND_SECONDS = 120
SOON_SECONDS = 60
SECRET = re.compile(r"imagestore_[0-9A-Za-z]{46}\n")
# The start of a secret names its token, and the database has it. The next characters are the secret itself.
ID_START, SECRET_START, SECRET_END = 11, 19, 51
NO_CREDENTIAL = "the call has no credential; send a token"
NOBODY = "nobody may do anything: create a token by 'imagestore token create --data DIR'"
READERS = '[[grant]]\nwho = ["anonymous"]\nrole = "reader"\npaths = ["App*"]\n'
WRITERS = READERS.replace("reader", "writer")
BAD_ROLE = READERS.replace("reader", "owner")
RELOADED = re.compile("the grants file has changed")
NOT_RELOADED = "the grants file is not reloaded"


class AccessCase(CommandCase):
    """A server that requires a right, with the token of an admin that was made before its first start."""

    def make_server(self, data: Path) -> Server:
        self.token = self.first_token(data)
        return Server(data, *self.options())

    def options(self) -> list[str]:
        """The flags of the server."""
        return ["--access", "required"]

    def first_token(self, data: Path) -> str:
        """Makes the token of an admin in the store of a stopped server."""
        arguments = ["token", "create", "admin", "--role", "admin", "--path", "/", "--data", str(data)]
        with Running(arguments, env=environment()) as running:
            done = running.end()
        self.assertEqual(done.returncode, 0, done.stderr)
        return self.keep("admin", done.stdout)

    def keep(self, name: str, printed: str) -> str:
        """Writes what a command printed to the token file of a name, and returns the secret."""
        self.assertRegex(printed, rf"\A{SECRET.pattern}\Z")
        file = self.folder / f"{name}.token"
        file.touch(0o600)
        file.write_text(printed)
        return printed.strip()

    def by(self, name: str) -> tuple[str, str]:
        """The flag for a command of the token of this name."""
        return "--token-file", str(self.folder / f"{name}.token")

    def create(self, name: str, role: str, path: str, *options: str) -> str:
        """Creates a token as the admin, and returns its secret."""
        arguments = [name, "--role", role, "--path", path, *options, *self.by("admin")]
        return self.keep(name, self.command("token", "create", *arguments))

    def write(self, name: str, text: str) -> str:
        """Writes a file that only its owner may read, at once as a whole, and returns its path."""
        file, new = self.folder / name, self.folder / f"{name}.new"
        new.touch(0o600)
        new.write_text(text)
        new.replace(file)
        return str(file)


class TlsAccessCase(AccessCase):
    """As `AccessCase`, with TLS."""

    def options(self) -> list[str]:
        authority = Authority(self.folder)
        self.authority, self.pair = authority.file, authority.server()
        self.trusted = self.authority
        certificate, key = map(str, self.pair)
        return [*super().options(), "--tls-cert", certificate, "--tls-key", key]

    def start(self, *arguments: str, **options: Any) -> Running:
        trust = {"IMAGESTORE_CA": str(self.authority)}
        return super().start(*arguments, env=trust | options.pop("env", {}), **options)


class FirstToken(AccessCase):
    """The first token, and how commands send it."""

    def test_a_command_sends_the_token_of_a_file_or_of_a_variable(self) -> None:
        assert self.token is not None
        file = self.folder / "f"
        file.write_bytes(b"1")
        by_variable = {"IMAGESTORE_TOKEN": self.token}
        by_file = {"IMAGESTORE_TOKEN_FILE": self.by("admin")[1]}
        for number, (flags, variables) in enumerate([
            (self.by("admin"), {}), ((), by_variable), ((), by_file),
        ]):
            path, copy = f"App/{number}", str(self.folder / f"copy-{number}")
            said = self.command("whoami", *flags, env=variables)
            self.assertRegex(said, r"\Atoken:admin\nadmin /\nexpires [-0-9]+T[:0-9]+Z\n\Z")
            self.command("put", str(file), path, *flags, env=variables)
            self.command("get", path, copy, *flags, env=variables)
            self.assertEqual(Path(copy).read_bytes(), b"1")
            self.assertEqual(self.command("ls", *flags, env=variables), "App/\n")

    def test_a_command_without_a_token_is_refused(self) -> None:
        file = self.folder / "f"
        file.write_bytes(b"1")
        for arguments in [["whoami"], ["ls"], ["put", str(file), "f"], ["get", "f", "-"], ["info"]]:
            self.assert_fails(*arguments, says=[NO_CREDENTIAL])
        # An empty variable is none.
        self.assert_error(self.run_command("ls", env={"IMAGESTORE_TOKEN": ""}), NO_CREDENTIAL)
        self.assertEqual(self.rest.tree(), {})

    def test_a_token_that_cannot_be_used_is_refused_with_the_reason(self) -> None:
        assert self.token is not None
        flag, path = self.by("admin")
        both = self.run_command("ls", flag, path, env={"IMAGESTORE_TOKEN": self.token})
        self.assert_error(both, "IMAGESTORE_TOKEN has a token", "--token-file", "give one of them")
        changed = self.token[:-1] + ("a" if self.token[-1] != "a" else "b")
        refused = self.run_command("ls", env={"IMAGESTORE_TOKEN": changed})
        self.assert_error(refused, "the token is malformed", "copy all of it")
        refused = self.run_command("ls", env={"IMAGESTORE_TOKEN": "password"})
        self.assert_error(refused, "the credential is no token of this server")
        for mode in [0o640, 0o604, 0o620]:
            Path(path).chmod(mode)
            self.assert_fails("ls", flag, path, says=[f"others may read the token file {path}",
                                                      f"run 'chmod 600 {path}'"])
        Path(path).chmod(0o400)
        self.command("ls", flag, path)
        empty, missing = self.write("empty", "\n"), str(self.folder / "none")
        self.assert_fails("ls", flag, empty, says=[f"no token is in the token file {empty}"])
        self.assert_fails("ls", flag, missing, says=[f"cannot read {missing}"])

    def test_the_store_of_a_running_server_is_not_opened_for_a_token(self) -> None:
        data = str(self.server.data)
        create = ["token", "create", "b", "--role", "admin", "--path", "/", "--data", data]
        self.assert_fails(*create, says=["another server has the data folder", data])
        self.server.stop()
        self.keep("b", self.command(*create))
        self.start_again()
        self.assertIn("token:b\n", self.command("whoami", *self.by("b")))

    def test_a_command_asks_what_it_may_do(self) -> None:
        self.create("ci", "writer", "App*")
        for role, path, answer, code in [
            ("writer", "App1/x", "yes\n", 0), ("reader", "App1/x", "yes\n", 0),
            ("admin", "App1", "no\n", 1), ("writer", "Other", "no\n", 1), ("monitor", "/", "no\n", 1),
        ]:
            done = self.run_command("whoami", "--may", role, path, *self.by("ci"))
            self.assertEqual((done.stdout, done.returncode, done.stderr), (answer, code, ""))


class Clients(TlsAccessCase):
    """Foreign clients over TLS, as callers with different rights."""

    # For each caller, the outcomes of a read of App, of a write there, and of a write to Other.
    OUTCOMES = {
        "admin": (200, 200, 200),
        "writer": (200, 200, 403),
        "reader": (200, 403, 403),
        "stranger": (403, 403, 200),
        "nobody": (401, 401, 401),
    }
    # The paths of the files that the callers write.
    WRITTEN = {"App/admin", "App/writer", "Other/admin", "Other/stranger"}

    def setUp(self) -> None:
        super().setUp()
        self.rest.put("App/f", b"1")
        for name, role, path in [
            ("writer", "writer", "App*"), ("reader", "reader", "App"), ("stranger", "writer", "Other"),
        ]:
            self.create(name, role, path)

    def secret(self, name: str) -> str | None:
        """The token of a caller; nobody has one."""
        file = self.folder / f"{name}.token"
        return file.read_text().strip() if file.exists() else None

    def assert_outcomes(
        self, read: Callable[[str, str], int], write: Callable[[str, str], int]
    ) -> None:
        """Asserts what comes of the calls of each caller. The functions get the caller and the path."""
        for name, expected in self.OUTCOMES.items():
            found = read(name, "App/f"), write(name, f"App/{name}"), write(name, f"Other/{name}")
            self.assertEqual(found, expected, name)
        self.assertEqual(set(self.rest.tree()), {"App/f"} | self.WRITTEN)

    def curl(self, path: str, *options: str) -> int:
        """Runs curl, and returns the status."""
        done = subprocess.run(
            ["curl", "--silent", "--show-error", "--noproxy", "*", "--cacert", self.authority,
             "--output", self.folder / "answer", "--write-out", "%{http_code}", *options,
             f"{self.server.url}/ImageStore/{path}?api-version=6.0"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=COMMAND_SECONDS,
        )
        self.assertEqual(done.stderr, "")
        return int(done.stdout)

    def test_curl_with_a_header(self) -> None:
        def options(name: str) -> list[str]:
            if (secret := self.secret(name)) is None:
                return []
            return ["--header", "@" + self.write("header", f"Authorization: Bearer {secret}\n")]

        upload = ["--upload-file", str(self.folder / "admin.token")]
        self.assert_outcomes(
            lambda name, path: self.curl(path, *options(name)),
            lambda name, path: self.curl(path, *upload, *options(name)),
        )

    def test_curl_with_netrc(self) -> None:
        def options(name: str) -> list[str]:
            if (secret := self.secret(name)) is None:
                return []
            return ["--netrc-file", self.netrc(secret)]

        upload = ["--upload-file", str(self.folder / "admin.token")]
        self.assert_outcomes(
            lambda name, path: self.curl(path, *options(name)),
            lambda name, path: self.curl(path, *upload, *options(name)),
        )

    def netrc(self, secret: str) -> str:
        """Writes a netrc file for the server, with the token as the password of any user."""
        host = self.server.endpoint[0]
        return self.write("netrc", f"machine {host} login anybody password {secret}\n")

    def test_the_command_line(self) -> None:
        def status(name: str, *arguments: str) -> int:
            flags = self.by(name) if self.secret(name) else ()
            done = self.run_command(*arguments, *flags)
            if done.returncode == 0:
                return 200
            said = "no credential" if name == "nobody" else f"'token:{name}' may not "
            self.assert_error(done, said)
            return 401 if name == "nobody" else 403

        file = str(self.folder / "admin.token")
        self.assert_outcomes(
            lambda name, path: status(name, "get", path, "-"),
            lambda name, path: status(name, "put", file, path),
        )

    def test_grpcio(self) -> None:
        trust = grpc.ssl_channel_credentials(self.authority.read_bytes())

        def status(name: str, method: str, request: Any = None, **fields: Any) -> int:
            credentials = trust
            if (secret := self.secret(name)) is not None:
                metadata = grpc.access_token_call_credentials(secret)
                credentials = grpc.composite_channel_credentials(trust, metadata)
            address = f"localhost:{self.server.endpoint[1]}"
            reflection = Reflection(address, grpc.secure_channel(address, credentials))
            try:
                reflection.service(SERVICE).call(method, request, **fields)
            except grpc.RpcError as error:
                codes = {grpc.StatusCode.PERMISSION_DENIED: 403, grpc.StatusCode.UNAUTHENTICATED: 401}
                return codes[error.code()]
            finally:
                reflection.close()
            return 200

        self.assert_outcomes(
            lambda name, path: status(name, "Stat", path=path),
            lambda name, path: status(name, "Upload", [*upload_messages(path, b"1", {})]),
        )

    def test_the_sdk(self) -> None:
        for bearer in [False, True]:
            with self.subTest(bearer=bearer):
                self.assert_outcomes(
                    lambda name, path: self.sdk(name, bearer, "get_image_store_content", path),
                    lambda name, path: self.sdk(name, bearer, "upload_file", path),
                )

    def sdk(self, name: str, bearer: bool, call: str, path: str) -> int:
        """Makes a call of the Python SDK with a token in a header or as a password. Returns the status."""
        secret = self.secret(name)
        credentials = Authentication()
        if secret is not None:
            token = {"access_token": secret}
            basic = BasicAuthentication("anybody", secret)
            credentials = BasicTokenAuthentication(token) if bearer else basic
        with ServiceFabricClientAPIs(credentials, base_url=self.server.url) as client:
            client.config.connection.verify = str(self.authority)
            try:
                getattr(client, call)(path)
            except FabricErrorException as error:
                return int(error.response.status_code)
        return 200

    def test_sfctl_finds_the_token_in_netrc(self) -> None:
        secret = self.secret("writer")
        assert secret is not None
        netrc, home, pem = self.netrc(secret), self.folder / "home", self.folder / "both.pem"
        home.mkdir()
        pem.write_bytes(b"".join(file.read_bytes() for file in self.pair))
        for name in ["App1", "Else"]:
            (self.folder / name / "Code").mkdir(parents=True)
            (self.folder / name / "Code" / "f").write_bytes(b"1")

        def sfctl(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
            own = {"HOME": str(home), "REQUESTS_CA_BUNDLE": str(self.authority)}
            return subprocess.run(
                [str(Path(sys.executable).parent / "sfctl"), *arguments],
                env=os.environ | own | variables,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                timeout=COMMAND_SECONDS,
            )

        stored = {"App/f": b"1"}
        package = {"App1/_.dir": b"", "App1/Code/_.dir": b"", "App1/Code/f": b"1"}
        # The selection needs no token. A token comes beside a certificate of the client.
        for options, place in [([], {"NETRC": netrc}), (["--pem", str(pem)], {})]:
            done = sfctl("cluster", "select", "--endpoint", self.server.url, *options)
            self.assertEqual(done.returncode, 0, done.stderr)
            done = sfctl("application", "upload", "--path", str(self.folder / "App1"), **place)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(self.rest.tree(), stored | package)
            self.rest.call("DELETE", "App1").raise_for_status()
            # Without the variable, the file is at its usual place.
            shutil.copy(netrc, home / ".netrc")
        refused = sfctl("application", "upload", "--path", str(self.folder / "Else"))
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("403 Client Error", refused.stderr)
        (home / ".netrc").unlink()
        refused = sfctl("application", "upload", "--path", str(self.folder / "App1"))
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("401 Client Error", refused.stderr)
        self.assertEqual(self.rest.tree(), stored)


class Ends(AccessCase):
    """How tokens end: rotation, revocation, expiry."""

    def test_both_secrets_are_taken_until_the_overlap_ends(self) -> None:
        self.create("first", "reader", "/")
        (self.folder / "first.token").rename(self.folder / "old.token")
        rotate = ["token", "rotate", "first", *self.by("admin")]
        self.keep("new", self.command(*rotate))
        for name in ["old", "new"]:
            self.assertIn("token:first\nreader /\n", self.command("whoami", *self.by(name)))

        self.keep("newer", self.command(*rotate, "--overlap", "0s"))

        # One secret before the current one is known.
        self.assert_fails("whoami", *self.by("old"), says=["no token has this secret"])
        self.assert_fails("whoami", *self.by("new"), says=["token 'first' was replaced, and ended at"])
        self.command("whoami", *self.by("newer"))
        self.keep("newest", self.command(*rotate, "--overlap", "2s"))
        self.assert_ends("newer", "the secret of the token 'first' was replaced, and ended at")
        self.command("whoami", *self.by("newest"))

    def assert_ends(self, name: str, reason: str) -> None:
        """Waits until a token is refused, for this reason."""
        until = time.monotonic() + SOON_SECONDS
        while (done := self.run_command("whoami", *self.by(name))).returncode == 0:
            self.assertLess(time.monotonic(), until)
        self.assert_error(done, reason)

    def test_a_revoked_token_is_refused_at_once_and_its_watch_ends(self) -> None:
        secret = self.create("ci", "writer", "App")
        self.rest.put("App/f", b"1")
        headers = {"Authorization": f"Bearer {secret}", "Accept": "text/event-stream"}
        url = f"{self.server.url}/ImageStore/$/Operations"
        watch = self.enterContext(self.start("watch", *self.by("ci"), "--json"))
        with requests.get(url, headers=headers, stream=True, timeout=SOON_SECONDS) as events:
            self.assertEqual(events.status_code, 200)
            self.command("cp", "App/f", "App/g", *self.by("ci"))
            # The watch has begun: it tells of the copy.
            self.assertEqual(watch.last_record()["destination"], "App/g")

            self.assertEqual(self.command("token", "revoke", "ci", *self.by("admin")), "revoked ci\n")

            self.assert_fails("ls", *self.by("ci"), says=["the token 'ci' was revoked at"])
            self.assert_error(watch.end(), "the credential of 'token:ci' was revoked")
            with self.assertRaises(requests.exceptions.ChunkedEncodingError):
                list(events.iter_lines())
        again = ["token", "revoke", "ci", *self.by("admin")]
        self.assert_fails(*again, says=["no token has the name \"ci\""])

    def test_an_expired_token_is_refused_and_its_watch_ends(self) -> None:
        self.create("ci", "reader", "/", "--life", "3s")
        watch = self.enterContext(self.start("watch", *self.by("ci")))
        self.assert_error(watch.end(), "expired")
        self.assert_fails("ls", *self.by("ci"), says=["the token 'ci' expired at"])

    def test_a_token_that_ends_soon_is_told_of_once(self) -> None:
        """Within 14 days of the end, on the standard error of each command and in a header."""
        for life, is_told in [("1d", True), ("13d", True), ("15d", False)]:
            secret = self.create(f"life-{life}", "admin", "/", "--life", life)
            for arguments in [["ls"], ["ls", "--json"], ["rm", "-f", "a", "b", "c"]]:
                done = self.run_command(*arguments, *self.by(f"life-{life}"))
                self.assertEqual(done.returncode, 0)
                notes = [line for line in done.stderr.splitlines() if "token" in line]
                self.assertEqual(len(notes), is_told, done.stderr)
                if is_told:
                    said = r"the token expires at [-0-9]+T[:0-9]+Z; .*'imagestore token rotate NAME'"
                    self.assertRegex(notes[0], said)
            rest = Rest(self.server.url, token=secret)
            self.addCleanup(rest.close)
            headers = rest.call("GET", "").headers
            self.assertEqual("x-imagestore-token-expires" in headers, is_told)

    def test_the_list_has_the_tokens_of_who_asks(self) -> None:
        self.create("lead", "admin", "App")
        self.create("ci", "reader", "App/x")
        self.command("token", "revoke", "ci", *self.by("lead"))
        for name, expected in [("admin", ["admin", "ci", "lead"]), ("lead", ["ci", "lead"])]:
            lines = self.command("token", "list", *self.by(name)).splitlines()
            self.assertEqual([line.split()[0] for line in lines], expected)
        self.assertRegex(lines[0], r"^ci  [0-9A-Za-z]{8}  reader App/x  revoked .*  never used$")
        create = ["token", "create", "more", "--role", "reader", "--path", "Other", *self.by("lead")]
        self.assert_fails(*create, says=["'token:lead' may not administer 'Other'"])


class Secrets(AccessCase):
    """Where the secret of a token is not."""

    def options(self) -> list[str]:
        return [*super().options(), "--log", "trace"]

    def setUp(self) -> None:
        super().setUp()
        assert self.token is not None
        self.secrets = {"admin": self.token, "ci": self.create("ci", "writer", "/")}
        rotated = self.command("token", "rotate", "ci", *self.by("admin"))
        self.secrets["rotated"] = self.keep("rotated", rotated)
        self.secrets["revoked"] = self.create("revoked", "reader", "/")
        self.command("token", "revoke", "revoked", *self.by("admin"))

    def assert_without(self, where: str, data: bytes, marks: list[str]) -> None:
        """Asserts that the data has these marks, so that it was looked through, and no secret."""
        for mark in marks:
            self.assertTrue(mark.encode() in data, f"{where} has no {mark}")
        for name, secret in self.secrets.items():
            # A header of Basic has the secret in Base 64.
            encoded = b64encode(f"anybody:{secret}".encode())
            for part in [secret[SECRET_START:SECRET_END].encode(), encoded]:
                self.assertFalse(part in data, f"{where} has the secret of {name}")

    def use(self) -> None:
        """Sends each secret, in every form, and a malformed one."""
        for name, secret in self.secrets.items():
            code = 1 if name == "revoked" else 0
            self.assertEqual(self.run_command("ls", *self.by(name)).returncode, code)
            for password, status in [(secret, 401 if code else 200), (secret[:-1], 401)]:
                answer = requests.get(
                    f"{self.server.url}/ImageStore?api-version=6.0",
                    auth=("anybody", password),
                    timeout=COMMAND_SECONDS,
                )
                self.assertEqual(answer.status_code, status, name)

    def test_it_is_not_in_the_log(self) -> None:
        self.use()
        self.server.stop()
        log = "\n".join(self.server.log).encode()
        self.assert_without("the log", log, ["TRACE", "received frame=Headers"])

    def test_it_is_not_in_the_list_of_processes(self) -> None:
        by_file = self.enterContext(self.start("watch", *self.by("ci")))
        variable = {"IMAGESTORE_TOKEN": self.secrets["admin"]}
        by_variable = self.enterContext(self.start("watch", env=variable))
        lines = b""
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                lines += file.read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                # The process has ended.
                continue
        self.assert_without("a command line", lines, ["serve\0", self.by("ci")[1]])
        for running in [by_file, by_variable]:
            own = Path(f"/proc/{running.process.pid}/cmdline").read_bytes()
            self.assert_without("the command line of a watch", own, ["watch\0"])

    def test_it_is_not_on_the_disk(self) -> None:
        self.use()
        marks = [secret[ID_START:SECRET_START] for secret in self.secrets.values()]
        for when in ["while the server runs", "after its stop"]:
            files = [file for file in self.server.data.rglob("*") if file.is_file()]
            self.assertIn(self.server.data / "namespace.sqlite", files)
            data = b"".join(file.read_bytes() for file in files)
            self.assert_without(when, data, [*marks, "admin /"])
            self.server.send(15)
            self.server.ended()
        self.start_again()

    def test_it_is_not_in_a_backup(self) -> None:
        self.rest.put("App/f", b"the bytes of a file")
        for target in ["all.imagestore", "backups/"]:
            self.command("backup", f"{self.folder}/{target}", *self.by("admin"))
            place = self.folder / target
            files = [file for file in [place, *place.rglob("*")] if file.is_file()]
            data = b"".join(file.read_bytes() for file in files)
            self.assert_without(f"the backup {target}", data, ["the bytes of a file"])
            # It has nothing of the tokens at all.
            for secret in self.secrets.values():
                self.assertNotIn(secret[ID_START:SECRET_START].encode(), data)
        self.server.stop()
        new = ["--data", str(self.folder / "new")]
        self.command("restore", f"{self.folder}/all.imagestore", *new)
        self.assertEqual(self.command("token", "list", *new), "")
        self.start_again()

    def test_it_is_not_in_what_commands_show(self) -> None:
        self.rest.put("App/f", b"1")
        self.command("cp", "App", "Copy", *self.by("ci"))
        for arguments, mark in [
            (["operations", "--json"], '"caller":"token:ci"'), (["token", "list", "--json"], '"name":"ci"'),
            (["whoami", "--json"], '"name":"token:admin"'), (["info", "--json"], "{"),
        ]:
            done = self.run_command(*arguments, *self.by("admin"))
            self.assert_without(arguments[0], (done.stdout + done.stderr).encode(), [mark])


class GrantsFile(AccessCase):
    """The grants file: what it gives to who sends no credential."""

    def options(self) -> list[str]:
        return ["--grants", self.write("grants.toml", READERS)]

    def setUp(self) -> None:
        super().setUp()
        self.rest.put_all({"App/f": b"1", "App2/f": b"2", "Other/f": b"3"})

    def replace(self, text: str) -> None:
        """Writes another grants file, and waits until it is in force."""
        self.server.log.clear()
        self.write("grants.toml", text)
        self.server.line(RELOADED)

    def test_it_gives_rights_to_who_sends_no_credential(self) -> None:
        self.assertEqual(self.command("whoami"), "anonymous\nreader App*\n")
        self.assertEqual(self.command("ls"), "App/\nApp2/\n")
        self.assertEqual(self.command("get", "App/f", "-"), "1")
        send = "send a credential that may"
        self.assert_fails("get", "Other/f", "-", says=["'anonymous' may not read 'Other/f'", send])
        self.assert_fails("rm", "App/f", says=["'anonymous' may not write 'App/f'", send])
        self.assertEqual(self.command("ls", *self.by("admin")), "App/\nApp2/\nOther/\n")
        # A credential that is refused is not passed over.
        refused = self.run_command("ls", env={"IMAGESTORE_TOKEN": "password"})
        self.assert_error(refused, "the credential is no token of this server")

    def test_another_file_is_taken_while_the_server_runs(self) -> None:
        self.replace(WRITERS)
        self.command("rm", "App2")
        self.replace(READERS.replace("App*", "/"))
        self.assertEqual(self.command("ls"), "App/\nOther/\n")
        self.assert_fails("rm", "App", says=["'anonymous' may not write 'App'"])
        self.replace("# nobody\n")
        self.assert_fails("ls", says=[NO_CREDENTIAL])
        # As Kubernetes does it: the name is a link, and the folder of its target is exchanged.
        for number, text in enumerate([READERS, WRITERS]):
            self.server.log.clear()
            version, link = self.folder / f"version-{number}", self.folder / "link"
            version.mkdir()
            (version / "grants.toml").touch(0o600)
            (version / "grants.toml").write_text(text)
            link.symlink_to(version)
            link.replace(self.folder / "current")
            if number == 0:
                (self.folder / "name").symlink_to("current/grants.toml")
                (self.folder / "name").replace(self.folder / "grants.toml")
            self.server.line(RELOADED)
        self.assertEqual(self.command("whoami"), "anonymous\nwriter App*\n")

    def test_a_wrong_file_is_told_and_leaves_the_old_one_in_force(self) -> None:
        file = self.folder / "grants.toml"

        def refuse(change: Callable[[], Any], why: str) -> None:
            self.server.log.clear()
            change()
            self.server.line(re.compile(f"{NOT_RELOADED}.*{re.escape(why)}"))
            self.assertEqual(self.command("whoami"), "anonymous\nreader App*\n")

        for text, why in [
            (BAD_ROLE, 'line 3, column 8: role \\"owner\\" is unknown'),
            (READERS.replace("anonymous", "everyone"), 'line 2, column 8: who \\"everyone\\"'),
        ]:
            refuse(lambda text=text: self.write("grants.toml", text), why)
        refuse(file.unlink, f"cannot read the grants file {file}")
        self.replace(READERS)
        refuse(lambda: file.chmod(0o620), f"others may write the grants file {file}")
        self.server.log.clear()
        file.chmod(0o644)
        self.server.line(RELOADED)
        self.assertEqual(self.command("whoami"), "anonymous\nreader App*\n")


class Refused(ServeCase):
    """Settings with which a server does not start. It prints one line, and leaves no file."""

    def setUp(self) -> None:
        super().setUp()
        self.authority = Authority(self.folder)
        certificate, key = map(str, self.authority.server())
        self.tls = ["--tls-cert", certificate, "--tls-key", key]
        self.grants = self.folder / "grants.toml"
        self.write(READERS)

    def write(self, text: str) -> None:
        """Writes the grants file."""
        self.grants.write_text(text)
        self.grants.chmod(0o600)

    def assert_no_start(self, *arguments: str, says: list[str], listen: str = "127.0.0.1:0") -> None:
        """Asserts that a server on an empty data folder does not start."""
        data = self.folder / "new"
        before = self.files()
        done = self.serve("--listen", listen, "--data", str(data), *arguments)
        self.assert_error(done, *says)
        self.assertEqual((done.stdout, len(done.stderr.splitlines())), ("", 1), done.stderr)
        self.assertEqual(self.files(), before)

    def test_flags_that_contradict_each_other(self) -> None:
        grants = ["--grants", str(self.grants)]
        for listen in ["127.0.0.1:0", "0.0.0.0:0"]:
            for flags, says in [
                (["--allow-anonymous", *grants], "omit it, or --grants"),
                (["--allow-anonymous", "--access", "required"], "omit it, or --access required"),
                (["--access", "open", *grants], "omit it, or --grants"),
            ]:
                self.assert_no_start(*flags, says=["gives every right to everyone", says], listen=listen)

    def test_an_address_that_others_reach(self) -> None:
        grants = ["--grants", str(self.grants)]
        ways = ["--tls-cert and --tls-key", "--trusted-proxy", "--allow-plaintext", "--allow-anonymous"]
        for flags, says in [
            ([], ways),
            (grants, ways),
            (["--access", "required"], ways),
            (["--access", "open"], ["--allow-anonymous instead of --access open"]),
            (["--access", "open", "--allow-plaintext"], ["instead of --access open"]),
            (["--access", "open", *self.tls], ["instead of --access open"]),
        ]:
            says = ["other machines reach --listen 0.0.0.0:0", *says]
            self.assert_no_start(*flags, says=says, listen="0.0.0.0:0")
        self.assert_no_start(
            "--access", "open", "--trusted-proxy", "127.0.0.1",
            says=["the clients of --trusted-proxy reach this server", "instead of --access open"],
        )

    def test_a_certificate_that_is_not_one(self) -> None:
        certificate, key = self.tls[:2], self.tls[2:]
        required = ["--grants", str(self.grants)]
        expired = [str(file) for file in self.authority.server("other")]
        self.assert_no_start(*required, *certificate, says=["--tls-cert needs --tls-key"])
        self.assert_no_start(*required, *key, says=["--tls-key needs --tls-cert"])
        other = ["--tls-cert", expired[0], *key]
        self.assert_no_start(*required, *other, says=["is not that of the certificate"])

    def test_a_grants_file_that_cannot_be_used(self) -> None:
        flags = ["--grants", str(self.grants)]
        for text, says in [
            (BAD_ROLE, 'line 3, column 8: role "owner" is unknown'),
            (READERS + "color = 1\n", "line 5, column 1: unknown field `color`"),
            ("[grant]\n", "line 1, column 1: invalid type: map"),
        ]:
            self.write(text)
            says = [f"the grants file {self.grants} is wrong: {says}"]
            self.assert_no_start(*flags, says=says)
        for mode in [0o620, 0o602]:
            self.write(READERS)
            self.grants.chmod(mode)
            self.assert_no_start(*flags, says=[f"others may write the grants file {self.grants}",
                                               f"run 'chmod go-w {self.grants}'"])
        self.grants.unlink()
        self.assert_no_start(*flags, says=[f"cannot read the grants file {self.grants}"])

    def test_a_store_that_nobody_may_use(self) -> None:
        self.write("# nobody\n")
        for listen, flags in [
            ("127.0.0.1:0", ["--access", "required"]),
            ("127.0.0.1:0", ["--grants", str(self.grants)]),
            ("0.0.0.0:0", self.tls),
            ("0.0.0.0:0", ["--allow-plaintext"]),
            ("0.0.0.0:0", ["--trusted-proxy", "192.0.2.1"]),
            ("127.0.0.1:0", ["--trusted-proxy", "127.0.0.1"]),
        ]:
            self.assert_no_start(*flags, says=[NOBODY, "--grants"], listen=listen)
        # What the message says helps.
        data = ["--data", str(self.folder / "new")]
        self.command("token", "create", "a", "--role", "admin", "--path", "/", *data)
        Server(self.folder / "new", "--access", "required").stop()

    def test_a_store_whose_tokens_have_ended(self) -> None:
        data = ["--data", str(self.folder / "ended")]
        create = ["--role", "admin", "--path", "/", *data]
        self.command("token", "create", "revoked", *create)
        self.command("token", "revoke", "revoked", *data)
        self.command("token", "create", "expired", *create, "--life", "1ms")
        self.assert_refused(*data, "--access", "required", says=[NOBODY])
        self.command("token", "create", "good", *create)
        Server(self.folder / "ended", "--access", "required").stop()


class Defaults(AccessCase):
    """When a right is required, and what needs none."""

    def test_a_right_is_required_where_others_reach_the_server_or_grants_are_given(self) -> None:
        grants = ["--grants", self.write("grants.toml", "# nobody\n")]
        certificate, key = map(str, Authority(self.folder).server())
        tls = ["--tls-cert", certificate, "--tls-key", key]
        self.server.stop()
        for listen, flags, status in [
            ("127.0.0.1:0", [], 200),
            ("127.0.0.1:0", tls, 200),
            ("127.0.0.1:0", ["--allow-plaintext"], 200),
            ("127.0.0.1:0", ["--access", "open"], 200),
            ("127.0.0.1:0", grants, 401),
            ("127.0.0.1:0", ["--access", "required", *tls], 401),
            ("0.0.0.0:0", ["--allow-anonymous"], 200),
            ("0.0.0.0:0", ["--allow-anonymous", *tls], 200),
            ("0.0.0.0:0", tls, 401),
            ("0.0.0.0:0", ["--allow-plaintext"], 401),
            ("0.0.0.0:0", ["--trusted-proxy", "192.0.2.1"], 401),
            ("127.0.0.1:0", ["--trusted-proxy", "127.0.0.1"], 401),
            ("127.0.0.1:0", ["--trusted-proxy", "127.0.0.1", "--allow-anonymous"], 200),
        ]:
            server = Server(self.server.data, *flags, listen=listen)
            self.addCleanup(server.stop)
            url = server.url.replace("0.0.0.0", "127.0.0.1")
            trusted = self.folder / "ca.pem"
            for token, expected in [(None, status), (self.token, 200)]:
                rest = Rest(url, trusted, token)
                self.assertEqual(rest.call("GET", "").status_code, expected, [listen, *flags])
                rest.close()
            server.stop()
        self.start_again()

    def test_a_token_is_looked_at_also_where_none_is_required(self) -> None:
        self.create("ci", "reader", "App")
        self.server.stop()
        server = Server(self.server.data)
        self.addCleanup(server.stop)
        to = ["--server", server.url]
        self.assertEqual(self.command("whoami", *to), "anonymous\nadmin /\n")
        self.assert_fails("rm", "App", *to, *self.by("ci"), says=["'token:ci' may not write 'App'"])
        self.command("token", "revoke", "ci", *to)
        self.assert_fails("ls", *to, *self.by("ci"), says=["the token 'ci' was revoked at"])
        server.stop()
        self.start_again()

    def test_the_page_and_the_health_are_served_without_a_credential(self) -> None:
        for headers in [{}, {"Authorization": "Bearer imagestore_wrong"}]:
            for path in ["/", "/page/main.js", "/health", "/health/live", "/$/GetClusterVersion"]:
                url = f"{self.server.url}{path}?api-version=6.0"
                answer = requests.get(url, headers=headers, timeout=COMMAND_SECONDS)
                self.assertEqual(answer.status_code, 200, path)
        reflection = Reflection(self.server.address)
        self.addCleanup(reflection.close)
        self.assertIn(SERVICE, reflection.services())
        for service in ["", SERVICE]:
            health = reflection.service("grpc.health.v1.Health").call("Check", service=service)
            self.assertEqual(as_dict(health)["status"], "SERVING")
        with self.assertRaises(grpc.RpcError) as refused:
            reflection.service(SERVICE).call("List")
        self.assertEqual(refused.exception.code(), grpc.StatusCode.UNAUTHENTICATED)

    def test_a_refusal_over_rest_asks_for_a_token(self) -> None:
        url = f"{self.server.url}/ImageStore?api-version=6.0"
        realm = 'Bearer realm="imagestore"'
        for headers, challenge in [
            ({}, realm), ({"Authorization": "Bearer x"}, f'{realm}, error="invalid_token"'),
        ]:
            answer = requests.get(url, headers=headers, timeout=COMMAND_SECONDS)
            code = answer.json()["Error"]["Code"]
            self.assertEqual(
                (answer.status_code, answer.headers["WWW-Authenticate"], code),
                (401, challenge, "FABRIC_E_SERVER_AUTHENTICATION_FAILED"),
            )
        rest = Rest(self.server.url, token=self.create("ci", "reader", "App"))
        self.addCleanup(rest.close)
        answer = rest.call("PUT", "App/f", b"1")
        self.assertEqual((answer.status_code, answer.json()["Error"]["Code"]), (403, "E_ACCESSDENIED"))

    def test_many_wrong_tokens_are_slowed_down(self) -> None:
        """Not the tokens that the server knows as good."""
        assert self.token is not None
        self.rest.put("a", b"1")
        wrong = Rest(self.server.url, token=self.token[:-1])
        self.addCleanup(wrong.close)
        answers = [wrong.call("GET", "") for _ in range(30)]
        self.assertEqual(answers[0].status_code, 401)
        last = next(answer for answer in answers if answer.status_code == 429)
        self.assertIn("Retry-After", last.headers)
        self.assertEqual(self.rest.content("a"), b"1")


class Sight(AccessCase):
    """What a caller sees of the store and of others."""

    def setUp(self) -> None:
        super().setUp()
        self.rest.put_all({"App/f": b"1", "App/sub/f": b"2", "Other/f": b"3"})
        self.create("ci", "writer", "App")
        self.create("deep", "reader", "App/sub")
        self.create("else", "admin", "Other")

    def test_a_list_above_a_grant_has_what_leads_there(self) -> None:
        for name, path, expected in [
            ("ci", "/", "App/\n"), ("deep", "/", "App/\n"), ("deep", "App", "sub/\n"),
            ("deep", "App/sub", "f\n"), ("else", "/", "Other/\n"),
        ]:
            self.assertEqual(self.command("ls", path, *self.by(name)), expected, (name, path))
        self.assert_fails("stat", "App", *self.by("deep"), says=["'token:deep' may not read 'App'"])
        self.assert_fails("ls", "Other", *self.by("ci"), says=["'token:ci' may not read 'Other'"])
        self.assert_fails("ls", "None", *self.by("ci"), says=["'token:ci' may not read 'None'"])

    def test_operations_have_their_caller_and_are_seen_by_who_may_read_their_paths(self) -> None:
        self.command("cp", "App/f", "App/g", *self.by("ci"))
        self.command("cp", "Other/f", "Other/g", *self.by("else"))
        callers = {}
        for name in ["admin", "ci", "deep", "else"]:
            lines = self.command("operations", "--json", *self.by(name)).splitlines()
            callers[name] = [json.loads(line)["caller"] for line in lines]
        self.assertEqual(callers, {
            "admin": ["token:else", "token:ci"], "ci": ["token:ci"], "deep": [], "else": ["token:else"],
        })
        (own,) = (json.loads(self.command("operations", "--json", *self.by("ci"))),)
        for name, says in [("else", "no operation"), ("deep", "no operation")]:
            self.assert_fails("watch", own["id"], *self.by(name), says=[own["id"], says])
        answer = self.rest.call("GET", f"$/Operations/{own['id']}")
        self.assertEqual(answer.json()["Caller"], "token:ci")

    def test_the_location_of_an_operation_is_for_who_may_see_it(self) -> None:
        body = {"RemoteSource": "App", "RemoteDestination": "Copy"}
        answer = self.rest.call("POST", "$/Copy", json.dumps(body).encode(),
                                headers={"Prefer": "respond-async"})
        self.assertEqual(answer.status_code, 202)
        url = requests.compat.urljoin(answer.url, answer.headers["Location"])
        for name, expected in [(None, 401), ("admin", 200), ("else", 404)]:
            secret = (self.folder / f"{name}.token").read_text().strip() if name else None
            headers = {"Authorization": f"Bearer {secret}"} if secret else {}
            found = requests.get(url, headers=headers, timeout=COMMAND_SECONDS)
            self.assertEqual(found.status_code, expected, name)

    def test_an_upload_session_of_others_is_unknown(self) -> None:
        session = "d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b11"
        self.rest.put_chunk("App/big", session, "bytes 0-1/4", b"12").raise_for_status()
        query = {"session-id": session}
        for name, statuses in [("ci", (200, 200)), ("else", (204, 404))]:
            secret = (self.folder / f"{name}.token").read_text().strip()
            rest = Rest(self.server.url, token=secret)
            self.addCleanup(rest.close)
            found = rest.call("GET", "$/GetUploadSession", query=query).status_code
            if name == "ci":
                self.assertEqual(found, statuses[0])
                continue
            deleted = rest.call("DELETE", "$/DeleteUploadSession", query=query).status_code
            self.assertEqual((found, deleted), statuses)
