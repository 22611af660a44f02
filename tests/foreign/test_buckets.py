"""Stores whose parts are in a bucket of a real server, or in memory."""

import tempfile
import uuid
from pathlib import Path

from .buckets import S3, Azure
from .command import CommandCase
from .server import Server

MIB = 1 << 20
# Larger than a part, so the file has several.
LARGE = bytes(range(256)) * (9 * MIB // 256)
# Larger than what is kept in the database.
MEDIUM = b"m" * 100_000


class Buckets:
    """One server of buckets for all tests; each test has a bucket of its own."""

    class Case(CommandCase):
        """The tests of every server of buckets."""

        kind: type[S3] | type[Azure]
        buckets: S3 | Azure

        @classmethod
        def setUpClass(cls) -> None:
            super().setUpClass()
            folder = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="imagestore-"))
            cls.buckets = cls.kind(Path(folder) / "buckets")
            cls.addClassCleanup(cls.buckets.stop)

        def make_server(self, data: Path) -> Server:
            self.bucket = f"b-{uuid.uuid4()}"
            self.buckets.make_bucket(self.bucket)
            return Server(data, "--blobs", self.url("parts"), under=self.under(self.buckets.variables()))

        def url(self, prefix: str) -> str:
            return f"{self.buckets.scheme}://{self.bucket}/{prefix}"

        @staticmethod
        def under(variables: dict[str, str]) -> tuple[str, ...]:
            """A command that sets variables for the command after it."""
            return ("env", *(f"{name}={value}" for name, value in variables.items()))

        def refused(self, url: str, variables: dict[str, str], says: str, *before: str) -> None:
            """A start on a new data folder ends with one line, and leaves nothing."""
            data = self.folder / "other"
            listen = ["--listen", "127.0.0.1:0", "--log", "off"]
            with self.subTest(says=says, url=url):
                options = ["--data", str(data), *listen, "--blobs", url]
                done = self.run_command("serve", *options, env=variables, under=before)
                self.assert_error(done, says)
                self.assertFalse(data.exists())

        def test_a_store_in_a_bucket(self) -> None:
            files = {"app/large": LARGE, "app/medium": MEDIUM, "app/small": b"small"}
            self.rest.put_all(files)
            self.command("cp", "app", "copy", "--verify", "--skip", "small")
            kept = {"copy/large": LARGE, "copy/medium": MEDIUM}
            self.assertEqual(self.rest.tree(), files | kept)

            self.restart()

            self.assertEqual(self.rest.tree(), files | kept)
            part = self.rest.call("GET", "app/large/$/Content", headers={"Range": "bytes=8388600-8388615"})
            self.assertEqual((part.status_code, part.content), (206, LARGE[8388600:8388616]))
            self.command("rm", "app")
            self.command("check", "--deep")
            self.assertEqual(self.rest.tree(), kept)
            # The sweep lists the bucket, and finds nothing that is not known.
            self.server.stop()
            variables = self.buckets.variables()
            data = ["--data", str(self.server.data), "--blobs", self.url("parts")]
            done = self.run_command("check", "--deep", *data, env=variables)
            self.assertEqual(done.returncode, 0, done.stderr)
            # An empty bucket has not the parts of this store.
            data = ["--data", str(self.server.data), "--blobs", self.url("empty")]
            done = self.run_command("check", *data, env=variables)
            self.assert_error(done, "the blob store belongs to no store, and the store in the database has parts")


class S3Buckets(Buckets.Case):
    """Stores in S3."""

    kind = S3
    buckets: S3

    def test_buckets_that_cannot_be_used(self) -> None:
        good = self.url("more")
        writer = self.buckets.variables()
        keys = "give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        self.refused("s3://no-such-bucket", writer, "cannot be listed: NoSuchBucket; create the bucket")
        self.refused(good, self.buckets.variables(secret="wrong"), f"SignatureDoesNotMatch; {keys}")
        self.refused(good, self.buckets.variables("stranger"), f"InvalidAccessKeyId; {keys}")
        reader = self.buckets.variables("reader")
        self.refused(good, reader, f"--blobs {good} cannot be written: AccessDenied; {keys}")
        nobody = writer | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
        self.refused(good, nobody, "; look at the endpoint and the network")
        self.refused(self.url("parts"), writer, "name the database and the blob store of one store")
        self.refused(f"s3://writer:secret@{self.bucket}", writer, "give it by the environment")
        clock = ("faketime", "-f", "+1h")
        self.refused(good, writer, "the clock of this machine differs from that of the bucket", *clock)
        # What was refused has written nothing.
        other = Server(self.folder / "new", "--blobs", good, under=self.under(writer))
        other.stop()


class AzureBuckets(Buckets.Case):
    """Stores in Azure."""

    kind = Azure
    buckets: Azure

    def test_buckets_that_cannot_be_used(self) -> None:
        good = self.url("more")
        variables = self.buckets.variables()
        self.refused("az://no-such-container", variables, "cannot be listed: ContainerNotFound; create the bucket")
        keys = "give AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY"
        self.refused(good, self.buckets.variables(key="d3Jvbmc="), keys)


class MemoryBlobs(CommandCase):
    """A store whose parts are in the memory of the server."""

    def make_server(self, data: Path) -> Server:
        return Server(data, "--blobs", "memory://")

    def test_parts_are_gone_with_the_server(self) -> None:
        self.rest.put_all({"small": b"small"})
        self.restart()
        self.assertEqual(self.rest.tree(), {"small": b"small"})
        self.rest.put_all({"medium": MEDIUM})
        self.assertEqual(self.rest.tree(), {"small": b"small", "medium": MEDIUM})
        self.server.stop()
        options = ["--data", str(self.server.data), "--blobs", "memory://"]
        done = self.run_command("serve", *options, "--listen", "127.0.0.1:0", "--log", "off")
        self.assert_error(done, "the store in the database has parts of files elsewhere")
