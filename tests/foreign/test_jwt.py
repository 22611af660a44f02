"""JWTs: people and programs that sign in at an issuer, with foreign clients."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import yaml
from azure.servicefabric import ServiceFabricClientAPIs
from azure.servicefabric.models import FabricErrorException
from msrest.authentication import BasicTokenAuthentication

from .certificates import Authority
from .command import Running
from .issuer import JOB, JOB_SECRET, Issuer, SilentProxy, make_keys
from .reflection import Reflection
from .server import Server, binary
from .test_readme import TEXT
from .test_serve import ServeCase

COMMAND_SECONDS = 120
SERVICE = "imagestore.v1.ImageStore"
RELOADED = re.compile("the grants file has changed")
LOGIN = "https://login.microsoftonline.com"
AAD = f'aad = {{ login = "{LOGIN}", tenant = "T", client = "C", cluster = "api://store" }}'
GRANTS = """
[[grant]]
who   = ["team:group=Deployers"]
role  = "writer"
paths = ["App*"]

[[grant]]
who    = ["team:*"]
claims = { repository_id = "4711", ref = "refs/heads/main" }
role   = "reader"
paths  = ["App*"]
"""


class JwtCase(ServeCase):
    """A server with TLS that takes the JWTs of an issuer."""

    def make_server(self, data: Path) -> Server:
        authority = Authority(self.folder)
        self.trusted = authority.file
        self.issuer = Issuer(authority.server("issuer"), authority.file)
        self.addCleanup(self.issuer.stop)
        self.grants = self.folder / "grants.toml"
        self.grants.touch(0o600)
        self.write(self.table() + GRANTS)
        certificate, key = map(str, authority.server())
        self.flags = ["--tls-cert", certificate, "--tls-key", key, "--grants", str(self.grants)]
        self.audit = self.folder / "audit"
        self.flags += ["--audit", str(self.audit)]
        return Server(data, *self.flags)

    def table(self, *lines: str) -> str:
        """The table of the issuer in the grants file."""
        return self.issuer.table("team", 'groups = "roles"', *lines)

    def write(self, text: str) -> None:
        """Writes the grants file as a whole."""
        new = self.folder / "grants.new"
        new.touch(0o600)
        new.write_text(text)
        new.replace(self.grants)

    def start(self, *arguments: str, **options: Any) -> Running:
        trust = {"IMAGESTORE_CA": str(self.trusted)}
        return super().start(*arguments, env=trust | options.pop("env", {}), **options)

    def by(self, token: str) -> tuple[str, str]:
        """The flag for a command of a file with a JWT."""
        file = self.folder / "jwt"
        file.touch(0o600)
        file.write_text(token)
        return "--token-file", str(file)

    def deployer(self, algorithm: str = "ES256", **claims: Any) -> str:
        """The JWT of a person who may write."""
        return self.issuer.sign("anna@a.example", algorithm, **{"roles": ["Deployers"], **claims})

    def curl(self, token: str, path: str = "App/f/$/Content") -> tuple[str, str]:
        """Asks by curl. Returns the status and the body."""
        done = subprocess.run(
            ["curl", "--silent", "--show-error", "--noproxy", "*", "--cacert", str(self.trusted),
             "--header", f"Authorization: Bearer {token}", "--write-out", "\n%{http_code}",
             f"{self.server.url}/ImageStore/{path}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=COMMAND_SECONDS,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        body, _, status = done.stdout.rpartition("\n")
        return status, body

    def code(self, token: str, rpc: str, **fields: str) -> tuple[str, str]:
        """Calls an rpc by grpcio. Returns the code and the message."""
        assert self.trusted is not None
        credentials = grpc.composite_channel_credentials(
            grpc.ssl_channel_credentials(self.trusted.read_bytes()),
            grpc.access_token_call_credentials(token),
        )
        address = f"localhost:{self.server.endpoint[1]}"
        reflection = Reflection(address, grpc.secure_channel(address, credentials))
        self.addCleanup(reflection.close)
        try:
            reflection.service(SERVICE).call(rpc, **fields)
        except grpc.RpcError as error:
            return error.code().name, error.details()
        return "OK", ""

    def sfctl(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs sfctl with a home of its own, which trusts the authority of the test."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        trust = {"HOME": str(home), "REQUESTS_CA_BUNDLE": str(self.trusted)}
        return subprocess.run(
            [str(Path(sys.executable).parent / "sfctl"), *arguments],
            env=os.environ | trust | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=COMMAND_SECONDS,
        )


class Jwts(JwtCase):
    """What JWTs may do, and which are refused."""

    def test_each_client_sends_a_jwt_of_each_algorithm(self) -> None:
        source = self.folder / "f"
        source.write_bytes(b"content")
        for algorithm in self.issuer.keys:
            with self.subTest(algorithm):
                token = self.deployer(algorithm)
                self.command("put", str(source), "App/f", *self.by(token))
                said = self.command("whoami", *self.by(token))
                self.assertRegex(said, r"\Ateam:anna@a\.example\n(.*\n)*writer App\*\nexpires \S+\n\Z")
                self.assertEqual(self.curl(token), ("200", "content"))
                self.assertEqual(self.code(token, "Stat", path="App/f"), ("OK", ""))
                self.assertEqual(
                    self.code(token, "Stat", path="Other/f"),
                    ("PERMISSION_DENIED", "'team:anna@a.example' may not read 'Other/f'"),
                )
        lines = [json.loads(line) for line in self.audit.read_text(encoding="utf-8").splitlines()]
        uploads = [line for line in lines if line["call"] == "Upload"]
        self.assertEqual(len(uploads), len(self.issuer.keys))
        self.assertEqual({(line["caller"], line["via"]) for line in uploads}, {("team:anna@a.example", "jwt")})
        # The same user, whichever JWT it has sent.
        (credential,) = {line["credential"] for line in uploads}
        self.assertRegex(credential, r"\Ajwt:sha256=[0-9a-f]{64}\Z")
        credentials = BasicTokenAuthentication({"access_token": self.deployer()})
        credentials.signed_session().verify = str(self.trusted)
        client = ServiceFabricClientAPIs(credentials, self.server.url)
        client.config.connection.verify = str(self.trusted)
        listed = client.get_image_store_content("App")
        self.assertEqual([file.store_relative_path for file in listed.store_files], ["App/f"])
        with self.assertRaises(FabricErrorException) as refused:
            client.delete_image_store_content("Other")
        self.assertIn("may not write 'Other'", str(refused.exception))

    def test_a_program_needs_all_claims_of_the_grant(self) -> None:
        claims: dict[str, Any] = {"repository_id": "4711", "ref": "refs/heads/main"}
        subject = "repo:a/b:ref:refs/heads/main"
        token = self.issuer.sign(subject, **claims)
        self.assertIn("reader App*\n", self.command("whoami", *self.by(token)))
        self.assert_fails("rm", "App/f", *self.by(token), says=[f"'team:{subject}' may not write 'App/f'"])
        for other in [{"ref": "refs/heads/x"}, {"repository_id": "4712"}, {"ref": None}]:
            status, body = self.curl(self.issuer.sign(subject, **claims | other))
            self.assertEqual(status, "403")
            self.assertIn(f"no grant is for the JWT of 'team:{subject}'", body)

    def test_a_wrong_jwt_is_refused_with_the_reason(self) -> None:
        now = int(time.time())
        own, self.issuer.keys = self.issuer.keys, make_keys()
        foreign = self.deployer()
        self.issuer.keys = own
        for token, why in [
            (foreign, "the JWT has a wrong signature"),
            (self.issuer.unsigned("anna"), "the JWT is signed by 'none'"),
            (self.issuer.signed_with_public_key("anna"), "the JWT is signed by 'HS256'"),
            (self.deployer(exp=now - 3600), "the JWT has expired at "),
            (self.deployer(nbf=now + 3600), "the JWT is not valid before "),
            (self.deployer(aud=["other"]), "the JWT is for the audience 'other', not for 'store'"),
            (self.deployer(exp=str(now + 3600)), "the JWT has an 'exp' that is no number of seconds"),
            (self.deployer(sub=None), "the JWT has no 'sub'"),
        ]:
            with self.subTest(why):
                status, body = self.curl(token)
                self.assertEqual(status, "401", body)
                self.assertIn(why, body)
                self.assertNotIn(token, "".join(self.server.log) + self.audit.read_text(encoding="utf-8"))

    def test_the_keys_of_an_issuer_that_is_down_go_on(self) -> None:
        self.assertEqual(self.code(self.deployer(), "Delete", path="App/none"), ("OK", ""))
        self.issuer.stop()
        self.assertEqual(self.code(self.deployer("EdDSA"), "Delete", path="App/none"), ("OK", ""))
        # A server that starts meanwhile knows no key.
        self.server.expect("the keys of an issuer cannot be fetched")
        self.restart()
        code, message = self.code(self.deployer(), "Delete", path="App/none")
        self.assertEqual(code, "UNAVAILABLE")
        self.assertIn("the keys of the issuer 'team' are not known now", message)

    def test_a_file_that_names_what_is_not_there_is_refused(self) -> None:
        table, data = self.table(), str(self.folder / "other")
        line = table.count("\n")
        for text, why in [
            (table + GRANTS.replace("team:group", "tean:group"),
             f'line {line + 3}, column 10: who "tean:group=Deployers" is of "tean", which no [[issuer]] is'),
            (table + GRANTS.replace("team:*", "anonymous"),
             f'line {line + 8}, column 11: the grant has claims, which only a JWT has'),
            (table + GRANTS.replace("claims =", "#"),
             f'line {line + 8}, column 11: who "team:*" may be anyone who gets a token of the issuer'),
            (table.replace("https:", "ftp:") + GRANTS, 'line 3, column 7: url "ftp://localhost'),
        ]:
            self.write(text)
            self.assert_refused(*self.flags, "--data", data, says=[
                f"the grants file {self.grants} is wrong: {why}"
            ])
            self.server.expect("the grants file is not reloaded")
        self.write(self.table() + GRANTS)


class Aad(JwtCase):
    """`sfctl cluster select --aad`, up to the point where it leaves for its login host."""

    def test_sfctl_learns_where_to_sign_in(self) -> None:
        proxy = SilentProxy()
        self.addCleanup(proxy.close)
        away = {"HTTPS_PROXY": proxy.url, "https_proxy": proxy.url}
        select = ("cluster", "select", "--endpoint", self.server.url, "--aad")
        done = self.sfctl(*select, **away)
        self.assertIn("Not AAD cluster", done.stdout + done.stderr)
        self.assertEqual(proxy.asked, [])
        self.write(self.table(AAD) + GRANTS)
        self.server.line(RELOADED)
        done = self.sfctl(*select, **away)
        self.assertNotEqual(done.returncode, 0)
        asked = {line.rpartition(" ")[0] for line in proxy.asked}
        self.assertEqual(asked, {"CONNECT login.microsoftonline.com:443"})
        config = (self.folder / "home" / ".sfctl" / "config").read_text(encoding="utf-8")
        for line in [f"authority_uri = {LOGIN}/T", "aad_resource = api://store", "aad_client = C"]:
            self.assertIn(line, config)
        client = ServiceFabricClientAPIs(BasicTokenAuthentication({"access_token": "x"}), self.server.url)
        client.config.connection.verify = str(self.trusted)
        found = client.get_aad_metadata()
        self.assertEqual(found.type, "aad")
        self.assertEqual(found.metadata.as_dict(), {
            "authority": f"{LOGIN}/T", "client": "C", "cluster": "api://store", "login": LOGIN,
            "redirect": "", "tenant": "T",
        })


class Job(JwtCase):
    """A job of GitHub Actions, as the README has it."""

    def test_it_uploads_without_a_stored_secret(self) -> None:
        toml, job = (re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL) for kind in ["toml", "yaml"])
        url = "https://token.actions.githubusercontent.com"
        grants = toml[0].replace(f'"{url}"', f'"{self.issuer.url}"\nca = "{self.trusted}"')
        self.assertIn(self.issuer.url, grants)
        # Its other issuer is not on this machine.
        self.server.expect("the keys of an issuer cannot be fetched")
        self.write(grants)
        self.server.line(RELOADED)
        (step,) = yaml.safe_load(job[0])["steps"]
        package = self.folder / "CalcAppV1"
        package.mkdir()
        (package / "f").write_text("by a job")
        address = self.issuer.url.replace("/tenant/v2.0", JOB)
        variables = {
            "PATH": f"{Path(binary()).parent}:{os.environ['PATH']}",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": JOB_SECRET,
            "ACTIONS_ID_TOKEN_REQUEST_URL": address,
            "CURL_CA_BUNDLE": str(self.trusted),
            "IMAGESTORE_CA": str(self.trusted),
            "IMAGESTORE_SERVER": self.server.url,
            "no_proxy": "localhost,127.0.0.1",
        }

        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                ["bash", "-eo", "pipefail", "-c", step["run"]],
                cwd=self.folder,
                env=os.environ | variables,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                timeout=COMMAND_SECONDS,
            )

        subject = "repo:a/b:ref:refs/heads/main"
        self.issuer.job = {"user": subject, "repository_id": "4711", "ref": "refs/heads/main"}
        done = run()
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("uploaded CalcAppV1", done.stdout)
        self.issuer.job["repository_id"] = "4712"
        done = run()
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"no grant is for the JWT of 'github:{subject}'", done.stderr)
