"""A store whose parts are in a bucket of a real S3 server."""

import tempfile
import uuid
from pathlib import Path

from .command import CommandCase
from .s3 import S3
from .server import Server

MIB = 1 << 20
# Larger than a part, so the file has several.
LARGE = bytes(range(256)) * (9 * MIB // 256)
# Larger than what is kept in the database.
MEDIUM = b"m" * 100_000


class BucketCase(CommandCase):
    """One S3 server for all tests; each test has a bucket of its own."""

    s3: S3

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        folder = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="imagestore-"))
        cls.s3 = S3(Path(folder) / "s3")
        cls.addClassCleanup(cls.s3.stop)

    def make_server(self, data: Path) -> Server:
        self.bucket = f"b-{uuid.uuid4()}"
        self.s3.make_bucket(self.bucket)
        return Server(data, "--blobs", f"s3://{self.bucket}/parts", under=self.under(self.s3.variables()))

    @staticmethod
    def under(variables: dict[str, str]) -> tuple[str, ...]:
        """A command that sets variables for the command after it."""
        return ("env", *(f"{name}={value}" for name, value in variables.items()))

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
        data = ["--data", str(self.server.data), "--blobs", f"s3://{self.bucket}/parts"]
        done = self.run_command("check", "--deep", *data, env=self.s3.variables())
        self.assertEqual(done.returncode, 0, done.stderr)

    def refused(self, url: str, variables: dict[str, str], says: str) -> None:
        """A start on a new data folder ends with one line, and leaves nothing."""
        data = self.folder / "other"
        listen = ["--listen", "127.0.0.1:0", "--log", "off"]
        done = self.run_command("serve", "--data", str(data), *listen, "--blobs", url, env=variables)
        self.assert_error(done, says)
        self.assertFalse(data.exists())

    def test_buckets_that_cannot_be_used(self) -> None:
        good = f"s3://{self.bucket}/more"
        writer = self.s3.variables()
        for url, variables, says in [
            ("s3://no-such-bucket", writer, "cannot be listed: NoSuchBucket; create the bucket"),
            (good, self.s3.variables(secret="wrong"), "SignatureDoesNotMatch; give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
            (good, self.s3.variables("stranger"), "InvalidAccessKeyId; give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
            (good, self.s3.variables("reader"), f"--blobs {good} cannot be written: AccessDenied; give AWS_ACCESS_KEY_ID"),
            (
                good,
                writer | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
                "; look at the endpoint and the network",
            ),
            (f"s3://{self.bucket}/parts", writer, "name the database and the blob store of one store"),
            ("s3://writer:secret@bucket", writer, "give it by the environment"),
        ]:
            with self.subTest(says=says, url=url):
                self.refused(url, variables, says)
        # What was refused has written nothing.
        with self.subTest("a new store"):
            other = Server(self.folder / "new", "--blobs", good, under=self.under(writer))
            other.stop()
