"""`curl`: uploads with misleading headers, and bodies that are sent after 100-continue."""

import gzip
import subprocess

from .server import ServerCase

COMMAND_SECONDS = 60
# Longer than any response takes, so that curl sends a body only after 100-continue.
PATIENT_SECONDS = "30"
# From this size on curl sends `Expect: 100-continue`.
BIG_BYTES = 2 * 1024 * 1024


class Curl(ServerCase):
    """Runs curl."""

    def put(self, path: str, data: bytes, *options: str) -> tuple[str, int]:
        """Uploads a file. Returns the status and the number of bytes that curl has sent."""
        file = self.folder / "upload"
        file.write_bytes(data)
        url = f"{self.server.url}/ImageStore/{path}?api-version=6.0"
        done = subprocess.run(
            ["curl", "--silent", "--show-error", "--noproxy", "*", "--upload-file", str(file),
             "--expect100-timeout", PATIENT_SECONDS, "--output", str(self.folder / "answer"),
             "--write-out", "%{http_code} %{size_upload}", *options, url],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=COMMAND_SECONDS,
        )
        self.assertEqual(done.stderr, "")
        status, sent = done.stdout.split()
        return status, int(sent)

    def test_an_upload_that_is_continued_does_not_replace_the_file_by_its_rest(self) -> None:
        self.rest.put("App/f", b"whole")

        status, _ = self.put("App/f", b"whole", "--continue-at", "3")

        self.assertEqual(status, "400")
        self.assertIn("UploadChunk", (self.folder / "answer").read_text())
        self.assertEqual(self.rest.tree(), {"App/f": b"whole"})

    def test_compressed_bytes_are_not_taken_for_the_file(self) -> None:
        for header, expected in [
            ("Content-Encoding: gzip", "415"),
            ("Transfer-Encoding: gzip, chunked", "501"),
            ("Transfer-Encoding: chunked, chunked", "400"),
        ]:
            with self.subTest(header=header):
                status, _ = self.put("App/f", gzip.compress(b"text"), "--header", header)
                self.assertEqual(status, expected)
        self.assertEqual(self.rest.tree(), {})

    def test_a_large_file_is_sent_when_it_is_asked_for_and_else_not(self) -> None:
        data = bytes(BIG_BYTES)
        self.assertEqual(self.put("App/f", data), ("200", BIG_BYTES))
        for path, expected in [("App", "409"), ("App/f/g", "409"), ("a%22b", "400")]:
            with self.subTest(path=path):
                self.assertEqual(self.put(path, data), (expected, 0))
        self.assertEqual(self.rest.tree(), {"App/f": data})
