"""Every image store operation of the Python package `azure-servicefabric`.

The SDK regards only status 200 as a success. Its upload calls have no argument for the bytes and send an empty body, so
these tests upload bytes by plain requests.
"""

import uuid
from collections.abc import Callable
from typing import Any

from azure.servicefabric import ServiceFabricClientAPIs
from azure.servicefabric.models import FabricErrorException, ImageStoreCopyDescription
from msrest.authentication import Authentication

from .server import ServerCase


class SdkCase(ServerCase):
    """A test with a client of the SDK."""

    def setUp(self) -> None:
        super().setUp()
        self.client = ServiceFabricClientAPIs(Authentication(), base_url=self.server.url)
        self.addCleanup(self.client.close)

    def assert_fails(
        self, status: int, code: str, value: str, call: Callable[..., Any], *arguments: Any
    ) -> None:
        """Asserts that a call fails with this status and code, and that its message names the value."""
        with self.assertRaises(FabricErrorException) as caught:
            call(*arguments)
        error = caught.exception
        self.assertEqual((error.response.status_code, error.error.error.code), (status, code))
        self.assertIn(value, error.error.error.message)

    def copy(
        self,
        source: str,
        destination: str,
        skip_files: list[str] | None = None,
        check_mark_file: bool | None = None,
    ) -> None:
        """Copies with the SDK."""
        self.client.copy_image_store_content(
            ImageStoreCopyDescription(
                remote_source=source,
                remote_destination=destination,
                skip_files=skip_files,
                check_mark_file=check_mark_file,
            )
        )


class Content(SdkCase):
    """Listing, uploading, deleting and measuring."""

    def test_an_empty_store_has_an_empty_root(self) -> None:
        root = self.client.get_image_store_root_content()

        self.assertEqual((root.store_files, root.store_folders), ([], []))

    def test_a_listing_has_every_field(self) -> None:
        self.rest.put_all({"App/a.txt": b"one", "App/sub/b.txt": b"two", "App/sub/c/d.txt": b""})

        content = self.client.get_image_store_content("App")

        (file,) = content.store_files
        self.assertEqual((file.store_relative_path, file.file_size), ("App/a.txt", "3"))
        self.assertIsNotNone(file.modified_date)
        self.assertGreater(int(file.file_version.version_number), 0)
        int(file.file_version.epoch_data_loss_number)
        int(file.file_version.epoch_configuration_number)
        (folder,) = content.store_folders
        self.assertEqual((folder.store_relative_path, folder.file_count), ("App/sub", "2"))

    def test_a_listing_of_a_file_is_that_file(self) -> None:
        self.rest.put("App/a.txt", b"one")

        content = self.client.get_image_store_content("App/a.txt")

        self.assertEqual([file.store_relative_path for file in content.store_files], ["App/a.txt"])
        self.assertEqual(content.store_folders, [])

    def test_a_listing_of_nothing_fails(self) -> None:
        self.assert_fails(
            404, "FABRIC_E_DOES_NOT_EXIST", "No/Such",
            self.client.get_image_store_content, "No/Such",
        )

    def test_an_upload_without_bytes_makes_a_mark(self) -> None:
        self.client.upload_file("App/_.dir")

        self.assertEqual(self.rest.tree(), {"App/_.dir": b""})

    def test_an_upload_that_is_in_the_way_fails(self) -> None:
        self.rest.put("App/sub/a.txt", b"one")
        code = "FABRIC_E_NAME_ALREADY_EXISTS"

        self.assert_fails(409, code, "App/sub", self.client.upload_file, "App/sub")
        self.assert_fails(409, code, "App/sub/a.txt", self.client.upload_file, "App/sub/a.txt/b")

        self.assertEqual(self.rest.tree(), {"App/sub/a.txt": b"one"})

    def test_a_malformed_path_fails(self) -> None:
        for path in ["App/../b", "./a", "a\x01b", "a<b", 'a"b', "a|b"]:
            with self.subTest(path=path):
                self.assert_fails(400, "E_INVALIDARG", "", self.client.upload_file, path)
        self.assertEqual(self.rest.tree(), {})

    def test_both_separators_and_any_name_are_the_same_path(self) -> None:
        self.client.upload_file("App\\größe\\a b+c&d%.txt")

        content = self.client.get_image_store_content("/App//größe/")

        paths = [file.store_relative_path for file in content.store_files]
        self.assertEqual(paths, ["App/größe/a b+c&d%.txt"])

    def test_a_deleted_path_is_gone(self) -> None:
        self.rest.put_all({"App/a.txt": b"one", "App/b.txt": b"two", "Apple/c.txt": b"three"})

        self.client.delete_image_store_content("App/a.txt")
        self.assertEqual(self.rest.tree(), {"App/b.txt": b"two", "Apple/c.txt": b"three"})
        self.client.delete_image_store_content("App")
        self.assertEqual(self.rest.tree(), {"Apple/c.txt": b"three"})
        self.client.delete_image_store_content("App")

    def test_a_reserved_folder_is_not_deleted(self) -> None:
        self.rest.put("Store/a.txt", b"one")

        self.assert_fails(
            400, "FABRIC_E_IMAGEBUILDER_RESERVED_DIRECTORY_ERROR", "Store",
            self.client.delete_image_store_content, "Store",
        )

        self.assertEqual(self.rest.tree(), {"Store/a.txt": b"one"})

    def test_the_size_of_a_folder_counts_all_below(self) -> None:
        self.rest.put_all({"App/a.txt": b"one", "App/sub/b.txt": b"four", "Other/c.txt": b"12345"})

        root = self.client.get_image_store_root_folder_size()
        folder = self.client.get_image_store_folder_size("App")

        self.assertEqual(root.folder_size, "12")
        self.assertEqual((folder.store_relative_path, folder.folder_size), ("App", "7"))
        self.assert_fails(
            404, "FABRIC_E_DOES_NOT_EXIST", "No/Such",
            self.client.get_image_store_folder_size, "No/Such",
        )

    def test_the_info_has_every_field(self) -> None:
        self.rest.put("App/a.txt", b"one")

        info = self.client.get_image_store_info()

        self.assertGreater(int(info.disk_info.capacity), 0)
        self.assertLessEqual(int(info.disk_info.available_space), int(info.disk_info.capacity))
        usages = [
            info.used_by_metadata, info.used_by_staging, info.used_by_copy, info.used_by_register
        ]
        for usage in usages:
            self.assertGreaterEqual(int(usage.used_space), 0)
            self.assertGreaterEqual(int(usage.file_count), 0)

    def test_the_cluster_has_a_version(self) -> None:
        self.assertEqual(self.client.get_cluster_version().version, "9.1.0.0")


class Copy(SdkCase):
    """Copying."""

    def test_a_copy_replaces_the_whole_destination(self) -> None:
        self.rest.put_all({"V1/sub/a.txt": b"new", "V1/_.dir": b"", "V2/old.txt": b"old"})

        self.copy("V1", "V2")

        copied = {"V2/sub/a.txt": b"new", "V2/_.dir": b""}
        self.assertEqual(self.rest.tree("V2"), copied)
        self.rest.put("V1/sub/a.txt", b"newer")
        self.assertEqual(self.rest.tree("V2"), copied)

    def test_skipped_files_are_left_out_at_every_depth(self) -> None:
        self.rest.put_all({
            "V1/_.dir": b"", "V1/a.dll": b"1", "V1/keep.txt": b"2",
            "V1/x/A.DLL": b"3", "V1/x/_.dir": b"", "V1/x/y/keep.txt": b"4", "V1/z/a.dll": b"5",
        })

        self.copy("V1", "V2", skip_files=["a.dll", "_.dir", "no such name"])

        self.assertEqual(
            self.rest.tree("V2"),
            {"V2/_.dir": b"", "V2/keep.txt": b"2", "V2/x/y/keep.txt": b"4"},
        )

    def test_the_mark_is_asked_for_only_when_wanted(self) -> None:
        self.rest.put_all({"V1/a.txt": b"one", "V2/old.txt": b"old"})

        self.assert_fails(
            404, "FABRIC_E_FILE_NOT_FOUND", "V1", self.copy, "V1", "V2", None, True
        )
        self.assertEqual(self.rest.tree("V2"), {"V2/old.txt": b"old"})

        self.copy("V1", "V2", check_mark_file=False)
        self.assertEqual(self.rest.tree("V2"), {"V2/a.txt": b"one"})
        self.client.upload_file("V1/_.dir")
        self.copy("V1", "V2", check_mark_file=True)
        self.assertEqual(self.rest.tree("V2"), {"V2/a.txt": b"one", "V2/_.dir": b""})

    def test_a_file_is_copied_over_a_file(self) -> None:
        self.rest.put_all({"a.txt": b"new", "x/b.txt": b"old"})

        self.copy("a.txt", "x\\b.txt")

        self.assertEqual(self.rest.tree(), {"a.txt": b"new", "x/b.txt": b"new"})

    def test_a_missing_source_changes_nothing(self) -> None:
        self.rest.put("V2/old.txt", b"old")

        self.assert_fails(404, "FABRIC_E_FILE_NOT_FOUND", "V1", self.copy, "V1", "V2")

        self.assertEqual(self.rest.tree(), {"V2/old.txt": b"old"})

    def test_an_overlap_is_refused_and_the_same_path_is_not(self) -> None:
        files = {"App/_.dir": b"", "App/sub/_.dir": b"", "App/sub/a.txt": b"one"}
        self.rest.put_all(files)

        self.assert_fails(400, "E_INVALIDARG", "App", self.copy, "App", "App/sub/below")
        self.assert_fails(400, "E_INVALIDARG", "App/sub", self.copy, "App/sub", "App")
        self.copy("App", "App")

        self.assertEqual(self.rest.tree(), files)


class UploadSessions(SdkCase):
    """Uploading in chunks."""

    def setUp(self) -> None:
        super().setUp()
        self.session = str(uuid.uuid4())

    def put_chunk(self, content_range: str, data: bytes) -> None:
        """Stores a chunk of `App/big.bin`."""
        answer = self.rest.put_chunk("App/big.bin", self.session, content_range, data)
        self.assertEqual((answer.status_code, answer.content), (200, b""), answer.text)

    def expected_ranges(self) -> list[tuple[str, str]]:
        """The missing ranges of the session."""
        (session,) = self.client.get_image_store_upload_session_by_id(self.session).upload_sessions
        return [(part.start_position, part.end_position) for part in session.expected_ranges]

    def test_chunks_in_any_order_make_a_file(self) -> None:
        self.put_chunk("bytes 6-9/10", b"ghij")
        self.assertEqual(self.expected_ranges(), [("0", "5")])
        self.put_chunk("bytes 0-1/10", b"ab")
        self.put_chunk("bytes 0-1/10", b"ab")
        self.assertEqual(self.expected_ranges(), [("2", "5")])
        self.assert_fails(
            400, "E_INVALIDARG", self.session,
            self.client.commit_image_store_upload_session, self.session,
        )
        self.put_chunk("bytes 2-5/10", b"cdef")
        self.assertEqual(self.rest.tree(), {})

        self.client.commit_image_store_upload_session(self.session)

        self.assertEqual(self.rest.tree(), {"App/big.bin": b"abcdefghij"})
        self.assertEqual(self.expected_ranges(), [])
        self.client.commit_image_store_upload_session(self.session)

    def test_a_session_is_found_by_id_and_by_path(self) -> None:
        self.put_chunk("bytes 0-3/10", b"abcd")

        by_id = self.client.get_image_store_upload_session_by_id(self.session)
        by_path = self.client.get_image_store_upload_session_by_path("App/big.bin")

        self.assertEqual(by_id.as_dict(), by_path.as_dict())
        (session,) = by_id.upload_sessions
        self.assertEqual(
            (session.store_relative_path, session.session_id, session.file_size),
            ("App/big.bin", self.session, "10"),
        )
        self.assertIsNotNone(session.modified_date)

    def test_an_unknown_session_is_no_content(self) -> None:
        # The SDK treats 204 as an error, and then cannot build its exception without an error body.
        for call, value in [
            (self.client.get_image_store_upload_session_by_id, self.session),
            (self.client.get_image_store_upload_session_by_path, "No/Such"),
        ]:
            with self.assertRaisesRegex(TypeError, "FabricError"):
                call(value)
        query = {"session-id": self.session}
        answers = [
            self.rest.call("GET", "$/GetUploadSession", query=query),
            self.rest.call("GET", "No/Such/$/GetUploadSession"),
        ]
        self.assertEqual([(a.status_code, a.content) for a in answers], [(204, b"")] * 2)

    def test_an_empty_file_needs_one_empty_chunk(self) -> None:
        self.client.upload_file_chunk("App/empty", self.session, "bytes 0-0/0")

        self.client.commit_image_store_upload_session(self.session)

        self.assertEqual(self.rest.tree(), {"App/empty": b""})

    def test_a_chunk_of_another_length_than_its_range_is_refused(self) -> None:
        code = "FABRIC_E_UPLOAD_SESSION_RANGE_NOT_SATISFIABLE"
        chunk = self.client.upload_file_chunk

        self.assert_fails(400, code, "", chunk, "App/big.bin", self.session, "bytes 0-3/10")
        self.assert_fails(400, code, "", chunk, "App/big.bin", self.session, "bytes 8-10/10")
        self.assert_fails(400, code, "", chunk, "App/big.bin", self.session, "bytes 3-1/10")

        answer = self.rest.call("GET", "$/GetUploadSession", query={"session-id": self.session})
        self.assertEqual(answer.status_code, 204)

    def test_a_session_keeps_its_path_and_size(self) -> None:
        self.put_chunk("bytes 0-3/10", b"abcd")

        other_path = self.rest.put_chunk("App/other", self.session, "bytes 4-9/10", b"efghij")
        other_size = self.rest.put_chunk("App/big.bin", self.session, "bytes 4-5/11", b"ef")

        code = other_path.json()["Error"]["Code"]
        self.assertEqual(
            (other_path.status_code, code), (409, "FABRIC_E_UPLOAD_SESSION_ID_CONFLICT")
        )
        code = other_size.json()["Error"]["Code"]
        self.assertEqual((other_size.status_code, code), (400, "E_INVALIDARG"))
        self.assertEqual(self.expected_ranges(), [("4", "9")])

    def test_a_deleted_session_is_gone(self) -> None:
        self.put_chunk("bytes 0-3/10", b"abcd")

        self.client.delete_image_store_upload_session(self.session)

        self.assert_fails(
            404, "NotFound", self.session,
            self.client.delete_image_store_upload_session, self.session,
        )
        self.assert_fails(
            400, "E_INVALIDARG", self.session,
            self.client.commit_image_store_upload_session, self.session,
        )
        self.assertEqual(self.rest.tree(), {})

    def test_a_malformed_session_id_is_refused(self) -> None:
        bad = "not-a-guid"
        invalid_id = "FABRIC_E_INVALID_UPLOAD_SESSION_ID"
        client = self.client

        self.assert_fails(
            400, invalid_id, bad, client.upload_file_chunk, "App/big.bin", bad, "bytes 0-0/0"
        )
        self.assert_fails(400, invalid_id, bad, client.get_image_store_upload_session_by_id, bad)
        self.assert_fails(400, "E_INVALIDARG", bad, client.commit_image_store_upload_session, bad)
        self.assert_fails(400, "E_INVALIDARG", bad, client.delete_image_store_upload_session, bad)

    def test_a_session_outlives_a_restart(self) -> None:
        self.put_chunk("bytes 4-9/10", b"efghij")

        self.restart()

        self.put_chunk("bytes 0-3/10", b"abcd")
        answer = self.rest.call(
            "POST", "$/CommitUploadSession", query={"session-id": self.session}
        )
        self.assertEqual(answer.status_code, 200)
        self.assertEqual(self.rest.tree(), {"App/big.bin": b"abcdefghij"})
