"""The documented REST calls in their simplest form, to prepare a store and to inspect it."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import requests

TIMEOUT_SECONDS = 60


@dataclass
class Listing:
    """One level of the store: sizes of files and file counts of folders, by path."""

    files: dict[str, int] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)


class Rest:
    """A caller of the REST interface."""

    def __init__(self, url: str, trusted: Path | None = None, token: str | None = None) -> None:
        self._url = url
        self._session = requests.Session()
        if token is not None:
            self._session.headers["Authorization"] = f"Bearer {token}"
        # Given with each request, because a variable of the environment precedes that of the session.
        self._verify = True if trusted is None else str(trusted)

    def close(self) -> None:
        """Closes the connection."""
        self._session.close()

    def call(
        self,
        method: str,
        path: str,
        data: bytes | None = None,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> requests.Response:
        """Sends one request below `/ImageStore/`; `path` may end in a `$/` call.

        `query` is sent as it is: a continuation token is escaped already.
        """
        pairs = {"api-version": "6.0"} | (query or {})
        return self._session.request(
            method,
            f"{self._url}/ImageStore/{quote(path, safe='/$')}"
            f"?{'&'.join(f'{name}={value}' for name, value in pairs.items())}",
            data=data,
            headers=headers,
            timeout=TIMEOUT_SECONDS,
            verify=self._verify,
        )

    def put(self, path: str, data: bytes = b"") -> None:
        """Stores a file."""
        self.call("PUT", path, data).raise_for_status()

    def put_all(self, files: dict[str, bytes]) -> None:
        """Stores some files, in their order."""
        for path, data in files.items():
            self.put(path, data)

    def put_chunk(
        self, path: str, session: str, content_range: str, data: bytes
    ) -> requests.Response:
        """Sends a chunk of an upload session."""
        return self.call(
            "PUT",
            f"{path}/$/UploadChunk",
            data,
            query={"session-id": session},
            headers={"Content-Range": content_range},
        )

    def content(self, path: str) -> bytes:
        """Returns the bytes of a file."""
        answer = self.call("GET", f"{path}/$/Content")
        answer.raise_for_status()
        return answer.content

    def listing(self, path: str = "") -> Listing:
        """Lists one level, with all its pages."""
        listing = Listing()
        token = ""
        while True:
            answer = self.call("GET", path, query={"ContinuationToken": token} if token else None)
            answer.raise_for_status()
            page = answer.json()
            for file in page["StoreFiles"]:
                listing.files[file["StoreRelativePath"]] = int(file["FileSize"])
            for folder in page["StoreFolders"]:
                listing.folders[folder["StoreRelativePath"]] = int(folder["FileCount"])
            token = page["ContinuationToken"]
            if not token:
                return listing

    def tree(self, path: str = "") -> dict[str, bytes]:
        """Returns every file below a path with its bytes."""
        listing = self.listing(path)
        files = {file: self.content(file) for file in listing.files}
        for folder, count in listing.folders.items():
            below = self.tree(folder)
            assert len(below) == count, f"{folder} counts {count} files and has {len(below)}"
            files |= below
        for file, size in listing.files.items():
            assert len(files[file]) == size, f"{file} has the size {size}, not its own"
        return files

    def exists(self, path: str) -> bool:
        """Whether anything exists at a path."""
        answer = self.call("GET", path)
        if answer.status_code != 404:
            answer.raise_for_status()
        return answer.status_code == 200
