"""The memory that one request costs the server: little more than its bytes, whatever it contains."""

from collections.abc import Callable

import grpc

from .test_grpc import GrpcCase

# The largest body and the largest message: src/limits.rs.
BODY_BYTES_MAX = MESSAGE_BYTES_MAX = 4 << 20
# The most memory for the largest request: a few times its bytes. Its decoded objects would take ten times that.
REQUEST_KIB = 40 * 1024


class RequestMemoryTest(GrpcCase):
    """Requests that are small on the wire, and large if all that they contain is built in memory."""

    def test_a_copy_body_costs_no_more_than_its_bytes(self) -> None:
        self.server.expect("the body of a copy has unknown keys")
        self.rest.put("a/b", b"1")
        for key in ["SkipFiles", "RemoteSource", "CheckMarkFile", "CopyFlag", "Unknown"]:
            for element in [b'{"":0}', b"0"]:
                start = b'{"RemoteSource":"a","RemoteDestination":"b","' + key.encode() + b'":['
                count = (BODY_BYTES_MAX - len(start) - 2) // (len(element) + 1)
                body = start + b",".join([element] * count) + b"]}"
                expected = [200] if key == "Unknown" else [400, 413]
                with self.subTest(key=key, element=element):
                    grown = self.grown(lambda: self.answered(body, expected))
                    self.assertLess(grown, REQUEST_KIB)

    def test_a_list_costs_no_more_than_its_bytes(self) -> None:
        self.rest.put("a/b", b"1")
        # An element takes two bytes on the wire; a packed number takes one.
        many = MESSAGE_BYTES_MAX // 2 - 100
        header = {"header": {"path": "c", "if_match": [""] * many}}
        wants = [{"start": {}}, {"wants": {"parts": [1] * 2 * many}}]
        for method, reason, request, fields in [
            ("Copy", "TOO_LARGE", None, {"source": "a", "destination": "c", "skip_files": [""] * many}),
            ("Delete", "TOO_LARGE", None, {"path": "a", "if_none_match": [""] * many}),
            ("Upload", "TOO_LARGE", [header], {}),
            # The messages of this stream have a lower bound.
            ("Backup", "MESSAGE_TOO_LARGE", wants, {}),
            ("Backup", "TOO_LARGE", [{"start": {}}, {"wants": {"parts": [1] * 600}}], {}),
        ]:
            with self.subTest(method=method, fields=list(fields)):
                grown = self.grown(
                    lambda: self.assert_fails(
                        grpc.StatusCode.RESOURCE_EXHAUSTED,
                        reason,
                        self.store.call,
                        method,
                        request,
                        **fields,
                    )
                )
                self.assertLess(grown, REQUEST_KIB)

    def answered(self, body: bytes, expected: list[int]) -> None:
        """Posts the body of a copy."""
        answer = self.rest.call("POST", "$/Copy", body)
        self.assertIn(answer.status_code, expected, answer.text)

    def grown(self, call: Callable[[], None]) -> int:
        """The largest growth of the server's memory during a call, in KiB."""
        self.server.forget_peak()
        before = self.server.memory("VmRSS")
        call()
        return self.server.memory() - before
