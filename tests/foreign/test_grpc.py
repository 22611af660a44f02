"""A grpcio client without generated code, which knows only what reflection returns."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo

from .reflection import Reflection, Service, as_dict, details
from .server import ServerCase

SERVICE = "imagestore.v1.ImageStore"
METHODS = {
    "Backup", "Copy", "WatchOperation", "WatchOperations", "ListOperations", "GetOperation",
    "CancelOperation", "List", "Stat", "Upload", "Download", "Delete", "UploadChunk",
    "GetUploadSession", "ListUploadSessions", "CommitUploadSession", "DeleteUploadSession",
    "GetStoreInfo", "Check", "Restore", "GetCaller", "CreateToken", "ListTokens", "RotateToken",
    "RevokeToken", "DownloadPackage", "CreateLink",
    "RotateLinkKey",
}
MESSAGE_BYTES = 256 * 1024
BLAKE3_OF_NOTHING = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
BLAKE3_OF_ABC = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
COUNTERS = ["files_done", "bytes_done", "files_skipped", "bytes_skipped"]


class GrpcCase(ServerCase):
    """A test with a client that uses reflection."""

    def setUp(self) -> None:
        super().setUp()
        self.reflection = Reflection(self.server.address)
        self.addCleanup(self.reflection.close)
        self.store = self.reflection.service(SERVICE)

    def upload(self, path: str, data: bytes = b"", **header: Any) -> Any:
        """Uploads a file and returns its entry."""
        return self.store.call("Upload", upload_messages(path, data, header)).entry

    def upload_all(self, files: dict[str, bytes]) -> None:
        """Uploads some files, in their order."""
        for path, data in files.items():
            self.upload(path, data)

    def download(self, path: str, **fields: Any) -> bytes:
        """Downloads a file, or a range of it."""
        return b"".join(part.data for part in self.store.call("Download", path=path, **fields))

    def assert_fails(
        self,
        code: grpc.StatusCode,
        reason: str,
        call: Callable[..., Any],
        *arguments: Any,
        field: str | None = None,
        **fields: Any,
    ) -> None:
        """Asserts that a call fails with this code and reason and, for an invalid argument, names the field."""
        with self.assertRaises(grpc.RpcError) as caught:
            answer = call(*arguments, **fields)
            if isinstance(answer, grpc.Call):
                list(answer)
        error = caught.exception
        self.assertEqual(error.code(), code, error.details())
        self.assertTrue(error.details())
        found = details(error)
        info = found[ErrorInfo]
        self.assertEqual((info.domain, info.reason), ("imagestore", reason))
        if field is not None:
            violations = [violation.field for violation in found[BadRequest].field_violations]
            self.assertEqual(violations, [field])


def upload_messages(path: str, data: bytes, header: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The messages of an upload: the header, then the bytes."""
    yield {"header": {"path": path, **header}}
    for start in range(0, len(data), MESSAGE_BYTES):
        yield {"data": data[start : start + MESSAGE_BYTES]}


class Discovery(GrpcCase):
    """The services and types that reflection describes."""

    def test_all_services_are_listed_by_both_versions(self) -> None:
        expected = {SERVICE, "grpc.health.v1.Health"}

        self.assertLessEqual(expected, self.reflection.services())
        self.assertLessEqual(expected, self.reflection.services_by_v1())

    def test_the_service_has_all_methods_and_every_imported_file(self) -> None:
        self.assertEqual(self.store.methods(), METHODS)
        for file in ["google/rpc/status.proto", "google/protobuf/timestamp.proto"]:
            self.assertEqual(self.reflection.pool.FindFileByName(file).name, file)

    def test_the_details_of_errors_are_described(self) -> None:
        for name in ["ErrorInfo", "BadRequest", "RetryInfo", "RequestInfo"]:
            found = self.reflection.pool.FindMessageTypeByName(f"google.rpc.{name}")
            self.assertEqual(found.file.name, "google/rpc/error_details.proto")

    def test_a_client_may_compress_all_that_it_sends(self) -> None:
        channel = grpc.insecure_channel(self.server.address, compression=grpc.Compression.Gzip)
        self.addCleanup(channel.close)
        data = bytes(range(256)) * 8_000
        store = Service(channel, self.reflection.pool, SERVICE)
        store.call("Upload", upload_messages("App/data.bin", data, {"size_bytes": len(data)}))
        self.assertTrue(self.download("App/data.bin") == data)
        self.assertEqual(store.call("List", path="App").entries[0].size_bytes, len(data))
        health = Service(channel, self.reflection.pool, "grpc.health.v1.Health")
        self.assertIn("status", as_dict(health.call("Check")))

    def test_the_server_is_healthy(self) -> None:
        health = self.reflection.service("grpc.health.v1.Health")

        for service in ["", SERVICE]:
            self.assertIn("status", as_dict(health.call("Check", service=service)))
            # On a machine with other load the database may not answer for a while.
            statuses = (as_dict(found)["status"] for found in health.call("Watch", service=service))
            self.assertIn("SERVING", statuses)


class Files(GrpcCase):
    """Uploading, listing, downloading and deleting."""

    def test_an_uploaded_file_is_downloaded_whole_and_in_ranges(self) -> None:
        data = bytes(range(256)) * 12_000

        entry = self.upload("App/data.bin", data, size_bytes=len(data))

        self.assertEqual((entry.path, entry.size_bytes), ("App/data.bin", len(data)))
        self.assertTrue(self.download("App/data.bin") == data)
        self.assertEqual(self.download("App/data.bin", offset=5, length=3), data[5:8])
        self.assertEqual(self.download("App/data.bin", offset=len(data) - 2), data[-2:])
        self.assertEqual(self.download("App/data.bin", offset=len(data)), b"")
        self.assert_fails(
            grpc.StatusCode.OUT_OF_RANGE, "UNSATISFIABLE_RANGE",
            self.store.call, "Download", path="App/data.bin", offset=len(data) + 1,
        )

    def test_the_digest_is_blake3(self) -> None:
        self.assertEqual(self.upload("empty").digest, BLAKE3_OF_NOTHING)
        self.assertEqual(self.upload("abc", b"abc", blake3=BLAKE3_OF_ABC).digest, BLAKE3_OF_ABC)

        stat = self.store.call("Stat", path="abc")

        self.assertEqual((stat.entry.digest, stat.entry.size_bytes), (BLAKE3_OF_ABC, 3))
        self.assertGreater(stat.entry.version.version_number, 0)
        self.assertTrue(stat.entry.etag)

    def test_an_upload_that_is_not_what_it_said_leaves_nothing(self) -> None:
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        lost = grpc.StatusCode.DATA_LOSS, "DATA_LOSS"

        self.assert_fails(*lost, self.upload, "a", b"abc", size_bytes=4)
        self.assert_fails(*lost, self.upload, "a", b"abc", blake3=BLAKE3_OF_NOTHING)
        self.assert_fails(*lost, self.upload, "a", b"abc", ends_with_finish=True)
        self.assert_fails(
            invalid, "INVALID_ARGUMENT", self.store.call, "Upload", [{"data": b"no header"}]
        )

        self.assertEqual(list(self.store.call("List").entries), [])

    def test_an_upload_that_its_client_drops_leaves_nothing(self) -> None:
        def messages() -> Iterator[dict[str, Any]]:
            yield from upload_messages("App/file.bin", bytes(2 * MESSAGE_BYTES), {})
            raise ConnectionError("the client is gone")

        # grpcio cancels the call, and logs the exception.
        with self.assertLogs("grpc"), self.assertRaises(grpc.RpcError):
            self.store.call("Upload", messages())

        self.restart()
        self.assertEqual(self.rest.tree(), {})

    def test_a_listing_comes_in_pages(self) -> None:
        self.upload_all({"App/b": b"12", "App/A": b"", "App/c/d/e": b"345", "App/c/f": b"6"})
        names, token = [], ""
        while True:
            page = self.store.call("List", path="App", page_size=2, page_token=token)
            self.assertLessEqual(len(page.entries), 2)
            names += [(entry.path, entry.size_bytes, entry.file_count) for entry in page.entries]
            token = page.next_page_token
            if not token:
                break

        self.assertEqual(names, [("App/A", 0, 1), ("App/b", 2, 1), ("App/c", 4, 2)])

    def test_a_folder_has_its_totals_and_mark(self) -> None:
        self.upload_all({"App/a": b"12", "App/c/d": b"345"})
        self.assertFalse(self.store.call("Stat", path="App").has_mark_file)
        self.upload("App/_.dir")

        stat = as_dict(self.store.call("Stat", path="App"))

        self.assertTrue(stat["has_mark_file"])
        self.assertEqual(stat["entry"]["kind"], "ENTRY_KIND_FOLDER")
        self.assertEqual((stat["entry"]["size_bytes"], stat["entry"]["file_count"]), ("5", "3"))

    def test_a_delete_says_what_is_gone(self) -> None:
        self.upload_all({"App/a": b"12", "App/c/d": b"345", "Apple": b"6"})

        gone = self.store.call("Delete", path="App")
        self.assertEqual((gone.files_deleted, gone.bytes_deleted), (2, 5))
        gone = self.store.call("Delete", path="App")

        self.assertEqual((gone.files_deleted, gone.bytes_deleted), (0, 0))
        self.assertEqual([entry.path for entry in self.store.call("List").entries], ["Apple"])

    def test_a_bad_path_is_refused_by_name(self) -> None:
        for path in ["a/../b", "a\x01b", "a<b", "$/x"]:
            with self.subTest(path=path):
                self.assert_fails(
                    grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT",
                    self.store.call, "Stat", path=path, field="path",
                )
        self.assert_fails(
            grpc.StatusCode.INVALID_ARGUMENT, "PATH_TOO_LONG",
            self.store.call, "Stat", path="a/" * 4096, field="path",
        )
        self.assert_fails(
            grpc.StatusCode.NOT_FOUND, "PATH_NOT_FOUND", self.store.call, "Stat", path="no/such"
        )

    def test_the_store_tells_its_space(self) -> None:
        self.upload_all({"a": b"12345", "b": b"12345"})

        info = self.store.call("GetStoreInfo")

        self.assertEqual((info.logical.used_bytes, info.logical.file_count), (10, 2))
        self.assertGreater(info.metadata_bytes, 0)
        self.assertGreater(info.disk_capacity_bytes, info.disk_available_bytes)

    def test_chunks_make_a_file(self) -> None:
        session = str(uuid.uuid4())
        header = {"session_id": session, "path": "App/big", "total_bytes": 10}
        for offset, data in [(6, b"ghij"), (0, b"abcdef")]:
            chunk = {"header": header | {"offset": offset, "length": len(data)}}
            self.store.call("UploadChunk", [chunk, {"data": data}])
            found = self.store.call("GetUploadSession", session_id=session)
            ranges = [(part.start, part.end) for part in found.expected_ranges]
            self.assertEqual(ranges, [(0, 5)] if offset else [])
        listed = self.store.call("ListUploadSessions", path="App/big").sessions
        self.assertEqual([each.session_id for each in listed], [session])

        entry = self.store.call("CommitUploadSession", session_id=session).entry

        self.assertEqual((entry.path, entry.size_bytes), ("App/big", 10))
        self.assertEqual(self.download("App/big"), b"abcdefghij")
        self.store.call("DeleteUploadSession", session_id=session)
        self.assert_fails(
            grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND",
            self.store.call, "GetUploadSession", session_id=session,
        )


class Copies(GrpcCase):
    """Copying with progress, and operations."""

    def setUp(self) -> None:
        super().setUp()
        self.upload_all({
            "V1/_.dir": b"", "V1/a.dll": bytes(3_000_000), "V1/sub/b.txt": b"four",
            "V1/sub/deep/A.DLL": b"12", "V2/old": b"old",
        })

    def copy(self, **fields: Any) -> list[Any]:
        """Copies, and returns all messages after checking that their counters are consistent."""
        messages = list(self.store.call("Copy", **fields))
        first = messages[0]
        for earlier, later in zip(messages, messages[1:]):
            self.assertEqual(later.id, first.id)
            for counter in COUNTERS:
                self.assertGreaterEqual(getattr(later, counter), getattr(earlier, counter))
        for message in messages:
            self.assertEqual(message.files_total, first.files_total)
            self.assertEqual(message.bytes_total, first.bytes_total)
            self.assertLessEqual(message.files_done + message.files_skipped, message.files_total)
            self.assertLessEqual(message.bytes_done + message.bytes_skipped, message.bytes_total)
        last = messages[-1]
        self.assertEqual(as_dict(last)["state"], "OPERATION_STATE_SUCCEEDED")
        self.assertEqual(last.files_done + last.files_skipped, last.files_total)
        self.assertEqual(last.bytes_done + last.bytes_skipped, last.bytes_total)
        return messages

    def test_a_copy_tells_its_progress_and_is_found_later(self) -> None:
        last = self.copy(source="V1", destination="V2", check_mark_file=True)[-1]

        self.assertEqual((last.files_total, last.bytes_total), (4, 3_000_006))
        self.assertEqual((last.source, last.destination), ("V1", "V2"))
        self.assertEqual(sorted(self.rest.tree("V2")), [
            "V2/_.dir", "V2/a.dll", "V2/sub/b.txt", "V2/sub/deep/A.DLL",
        ])
        self.assertEqual(as_dict(self.store.call("GetOperation", id=last.id)), as_dict(last))
        watched = list(self.store.call("WatchOperation", id=last.id))
        self.assertEqual([as_dict(message) for message in watched], [as_dict(last)])
        newest = self.store.call("ListOperations", page_size=1).operations
        self.assertEqual([operation.id for operation in newest], [last.id])
        for state, ids in [("SUCCEEDED", [last.id]), ("FAILED", []), ("RUNNING", [])]:
            found = self.store.call("ListOperations", state=f"OPERATION_STATE_{state}").operations
            self.assertEqual([operation.id for operation in found], ids, state)

    def test_a_copy_leaves_out_and_verifies(self) -> None:
        last = self.copy(source="V1", destination="V3", skip_files=["a.dll"], verify=True)[-1]

        self.assertEqual((last.files_done, last.files_skipped), (2, 2))
        self.assertEqual((last.bytes_done, last.bytes_skipped), (4, 3_000_002))
        self.assertEqual(self.rest.tree("V3"), {"V3/_.dir": b"", "V3/sub/b.txt": b"four"})

    def test_a_kept_destination_is_not_changed(self) -> None:
        self.copy(source="V1", destination="V2", if_exists="IF_EXISTS_KEEP")

        self.assertEqual(self.rest.tree("V2"), {"V2/old": b"old"})

    def test_a_repeated_copy_is_the_same_operation(self) -> None:
        operation = str(uuid.uuid4())
        first = self.copy(source="V1", destination="V3", operation_id=operation)[-1]
        self.store.call("Delete", path="V3")

        again = self.copy(source="V1", destination="V3", operation_id=operation)[-1]

        self.assertEqual((first.id, as_dict(again)), (operation, as_dict(first)))
        self.assertFalse(self.rest.exists("V3"))
        self.assert_fails(
            grpc.StatusCode.ALREADY_EXISTS, "WRITE_CONFLICT",
            self.store.call, "Copy", source="V1", destination="V4", operation_id=operation,
        )

    def test_a_copy_that_fails_says_why_and_changes_nothing(self) -> None:
        not_found = grpc.StatusCode.NOT_FOUND
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        copy = self.store.call

        self.assert_fails(
            not_found, "FILE_NOT_FOUND", copy, "Copy", source="no/such", destination="V2"
        )
        self.assert_fails(
            not_found, "FILE_NOT_FOUND",
            copy, "Copy", source="V2", destination="V1", check_mark_file=True,
        )
        self.assert_fails(
            invalid, "INVALID_ARGUMENT", copy, "Copy", source="V1", destination="V1/sub/x"
        )
        self.assert_fails(
            invalid, "INVALID_ARGUMENT",
            copy, "Copy", source="../x", destination="V2", field="source",
        )
        self.assert_fails(
            invalid, "INVALID_ARGUMENT", copy, "Copy", source="V1", field="destination"
        )

        self.assertEqual(self.rest.tree("V2"), {"V2/old": b"old"})
        self.assertEqual(len(self.rest.tree("V1")), 4)

    def test_an_operation_that_has_ended_or_never_was_is_not_cancelled(self) -> None:
        last = self.copy(source="V1", destination="V3")[-1]
        cancel = self.store.call

        self.assert_fails(
            grpc.StatusCode.FAILED_PRECONDITION, "FINISHED", cancel, "CancelOperation", id=last.id
        )
        self.assert_fails(
            grpc.StatusCode.NOT_FOUND, "OPERATION_NOT_FOUND",
            cancel, "CancelOperation", id=str(uuid.uuid4()),
        )
        self.assert_fails(
            grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT",
            cancel, "CancelOperation", id="no uuid", field="id",
        )

        self.assertTrue(self.rest.exists("V3"))
