"""Uploads on the page."""

from pathlib import Path

from .browser import BrowserCase


class UploadsCase(BrowserCase):
    """Dropping and selecting files and folders."""

    def make(self, files: dict[str, bytes]) -> Path:
        """Writes files to a local folder."""
        root = self.folder / "local"
        for path, data in files.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        return root

    def test_a_folder_is_dropped_with_all_it_holds(self) -> None:
        files = {f"App/Code/part-{number:03}.so": b"x" * number for number in range(250)}
        files |= {"App/ApplicationManifest.xml": b"m", "loose file.txt": b"loose"}
        root = self.make(files)
        (root / "App" / "Empty").mkdir()
        self.rest.put("Target/there", b"before")
        self.open("Target")
        self.drop(root / "App", root / "loose file.txt")
        self.wait(lambda: self.text("#upload-text").startswith("252 files in 3 folders"))
        self.click("#upload-dialog [name=mark]")
        self.screenshot("upload")
        self.click("#upload-dialog [type=submit]")
        self.wait_card("Succeeded", "Upload", "Target", "255 of 255 files")
        self.wait_names("App", "loose file.txt", "there")
        stored = {f"Target/{path}": data for path, data in files.items()}
        stored |= {f"Target/App{folder}/_.dir": b"" for folder in ("", "/Code", "/Empty")}
        stored["Target/there"] = b"before"
        self.assertEqual(self.rest.tree("Target"), stored)
        # The mark file of a folder is written after all files below it.
        marked = [self.version(f"Target/App{folder}/_.dir") for folder in ("/Code", "/Empty", "")]
        self.assertEqual(max(marked), marked[2])
        self.screenshot("uploaded")

    def version(self, path: str) -> tuple[int, int]:
        """The version number of a file, which increases with every write to the store."""
        [file] = self.rest.call("GET", path).json()["StoreFiles"]
        version = file["FileVersion"]
        return int(version["EpochDataLossNumber"]), int(version["VersionNumber"])

    def test_files_are_picked_and_a_refused_one_is_named(self) -> None:
        root = self.make({"good.txt": b"good", "bad|name.txt": b"bad", "large.bin": b"l" * (40 << 20)})
        self.open()
        self.script(
            "window.seen = [];"
            "new MutationObserver(() => {"
            " const bar = document.querySelector('#upload-list progress');"
            " if (bar) seen.push(bar.value);"
            "}).observe(document.getElementById('uploads'),"
            " { subtree: true, childList: true, attributes: true });"
        )
        paths = sorted(str(path) for path in root.iterdir())
        self.one("#pick-files").send_keys("\n".join(paths))
        self.fill("#upload-dialog [name=folder]", "new/place")
        self.click("#upload-dialog [type=submit]")
        card = self.wait_card("Failed", "2 of 3 files", "bad|name.txt")
        self.screenshot("upload-failed")
        self.assertEqual(set(self.rest.tree("new")), {"new/place/good.txt", "new/place/large.bin"})
        seen = self.script("return seen")
        self.assertEqual(seen, sorted(seen))
        self.assertTrue(any(0 < value < 1 for value in seen), seen)

        card.find_element("xpath", ".//button[text()='Retry']").click()
        self.wait_card("Failed", "2 of 3 files", "bad|name.txt")
        self.wait_names("new")
        card.find_element("xpath", ".//button[text()='Clear']").click()
        self.wait(lambda: not self.one("#uploads").is_displayed())

    def test_a_file_replaces_a_folder_only_when_that_is_said(self) -> None:
        root = self.make({"App": b"a file", "loose": b"new"})
        self.rest.put_all({"App/a": b"a", "App/Code/b": b"b", "loose": b"old"})
        self.open()
        self.one("#pick-files").send_keys("\n".join(sorted(str(path) for path in root.iterdir())))
        self.click("#upload-dialog [type=submit]")
        card = self.wait_card("Failed", "1 of 2 files", "1 file replaced", "folder of 2 files")
        self.assertEqual(self.rest.tree(), {"App/a": b"a", "App/Code/b": b"b", "loose": b"new"})

        card.find_element("xpath", ".//button[text()='Replace']").click()

        self.wait_card("Succeeded", "2 of 2 files", "3 files replaced")
        self.assertEqual(self.rest.tree(), {"App": b"a file", "loose": b"new"})

    def test_a_picked_folder_keeps_its_shape(self) -> None:
        root = self.make({"App/Code/a.so": b"a", "App/b.xml": b"b"})
        self.open()
        self.one("#pick-folder").send_keys(str(root / "App"))
        self.wait(lambda: self.text("#upload-text").startswith("2 files in 2 folders"))
        self.click("#upload-dialog [type=submit]")
        self.wait_card("Succeeded", "2 of 2 files")
        self.assertEqual(self.rest.tree(), {"App/Code/a.so": b"a", "App/b.xml": b"b"})

    def test_a_cancelled_upload_leaves_no_file(self) -> None:
        root = self.make({})
        root.mkdir()
        with (root / "large.bin").open("wb") as file:
            file.truncate(4 << 30)
        self.open()
        self.one("#pick-files").send_keys(str(root / "large.bin"))
        self.click("#upload-dialog [type=submit]")
        self.wait_card("Running", "0 of 1 file").find_element("css selector", "button").click()
        self.wait_card("Cancelled", "0 of 1 file")
        self.assertEqual(self.rest.tree(), {})

    def test_nothing_is_uploaded_before_it_is_confirmed(self) -> None:
        root = self.make({"file.txt": b"x"})
        self.open()
        self.drop(root / "file.txt")
        self.wait(lambda: self.text("#upload-text") == "1 file, 1 B")
        self.click("#upload-dialog [value=cancel]")
        self.assertFalse(self.one("#upload-dialog").is_displayed())
        self.assertEqual(self.rest.tree(), {})
