"""Copies on the page, and the operations of all clients."""

import json
import os

from foreign.command import StalledDisk

from .browser import BrowserCase

# A file of five parts, the last of which is the smallest: while the disk does not return it, the bar stands.
LAST_PART_BYTES = 1 << 20
LARGE_BYTES = (32 << 20) + LAST_PART_BYTES
PACKAGE = {
    "App/_.dir": b"",
    "App/Code/app.so": b"a" * 1000,
    "App/Code/app.pdb": b"p" * 500,
    "App/Config/Settings.xml": b"x",
}


class OperationsCase(BrowserCase):
    """Copies, and the list of all operations."""

    def copy(self, **body: object) -> None:
        """Copies over REST, as another client."""
        self.rest.call("POST", "$/Copy", json.dumps(body).encode()).raise_for_status()

    def test_a_copy_leaves_out_what_the_list_names(self) -> None:
        self.rest.put_all(PACKAGE)
        self.open()
        self.click("[aria-label='Copy App']")
        self.assertEqual(self.one("#copy-dialog [name=source]").get_attribute("value"), "App")
        self.fill("#copy-dialog [name=destination]", "App2")
        self.fill("#copy-dialog [name=skip]", "APP.PDB\nnone.such")
        self.click("#copy-dialog [name=mark]")
        self.screenshot("copy")
        self.click("#copy-dialog [type=submit]")
        card = self.wait_card(
            "Succeeded", "App", "App2", "3 files", "1 left out", "“none.such” left nothing out"
        )
        self.wait_names("App", "App2")
        kept = {path.replace("App/", "App2/", 1): data for path, data in PACKAGE.items()}
        del kept["App2/Code/app.pdb"]
        self.assertEqual(self.rest.tree("App2"), kept)
        card.find_element("css selector", "summary").click()
        self.wait(lambda: "501 B" not in card.text and "500 B left out" in card.text)

    def test_a_name_that_is_none_is_refused(self) -> None:
        self.rest.put_all(PACKAGE)
        self.open()
        self.click("[aria-label='Copy App']")
        self.fill("#copy-dialog [name=destination]", "App2")
        for names, says in [
            ("app.pdb\nCode/app.pdb", "“Code/app.pdb” has a separator"),
            ("Code\\app.pdb", "“Code\\app.pdb” has a separator"),
            ("*.pdb", "“*.pdb” is compared as a whole name"),
            ("a?", "“a?” is compared as a whole name"),
            ("a|b", "“a|b” is the name of no file"),
            ("..", "“..” is the name of no file"),
            (" ", "begins or ends with a space"),
            ("app.pdb ", "begins or ends with a space"),
            (r"a\u{9b}", r"“a\u{9b}” is the name of no file"),
            ("n" * 1025, "is longer than 1024 bytes"),
        ]:
            self.fill("#copy-dialog [name=skip]", names)
            self.click("#copy-dialog [type=submit]")
            self.wait(lambda says=says: says in self.text("#copy-dialog .error"))
        self.assertFalse(self.rest.exists("App2"))

    def test_a_star_is_a_name_where_that_is_said(self) -> None:
        self.rest.put_all({"App/a*b": b"1", "App/aXb": b"2"})
        self.open()
        self.click("[aria-label='Copy App']")
        self.fill("#copy-dialog [name=destination]", "App2")
        # Empty lines are ignored.
        self.fill("#copy-dialog [name=skip]", "A*B\n\n?\n")
        self.click("#copy-dialog [name=literal]")
        self.click("#copy-dialog [type=submit]")
        self.wait_card("Succeeded", "App2", "1 left out", "“?” left nothing out")
        self.assertEqual(self.rest.tree("App2"), {"App2/aXb": b"2"})

    def test_a_file_replaces_a_folder_only_where_that_is_said(self) -> None:
        self.rest.put_all(PACKAGE | {"Prod/a": b"1", "Prod/b": b"2", "file": b"3"})
        self.open()
        self.click("[aria-label='Copy file']")
        self.fill("#copy-dialog [name=destination]", "Prod")
        self.click("#copy-dialog [type=submit]")
        self.wait(lambda: "Prod" in self.text("#copy-dialog .error"))
        self.assertTrue(self.rest.exists("Prod/a"))
        # Into the folder.
        self.fill("#copy-dialog [name=destination]", "Prod/")
        self.click("#copy-dialog [type=submit]")
        self.wait_card("Succeeded", "Prod/file", "1 file")
        self.click("[aria-label='Copy file']")
        self.fill("#copy-dialog [name=destination]", "Prod")
        self.click("#copy-dialog [value=Overwrite]")
        self.click("#copy-dialog [type=submit]")
        self.wait_card("Succeeded", "Prod", "replaced 3 files")
        self.assertEqual(self.rest.tree("Prod"), {"Prod": b"3"})

    def test_a_copy_that_is_refused_says_why_and_can_be_corrected(self) -> None:
        self.rest.put_all(PACKAGE)
        self.open("App")
        self.click("#new-copy")
        self.fill("#copy-dialog [name=destination]", "App/Code/below")
        self.click("#copy-dialog [type=submit]")
        self.wait(lambda: "App/Code/below" in self.text("#copy-dialog .error"))
        self.screenshot("copy-refused")
        self.fill("#copy-dialog [name=destination]", "Kept")
        self.click("#copy-dialog [value=Echo]")
        self.click("#copy-dialog [type=submit]")
        self.wait_card("Succeeded", "Kept", "4 files")
        self.assertFalse(self.one("#copy-dialog").is_displayed())

    def test_the_bar_of_a_copy_moves_and_cancel_ends_it(self) -> None:
        self.rest.put("Large/data.bin", os.urandom(LARGE_BYTES))
        self.open()
        self.script(
            "window.seen = [];"
            "new MutationObserver(() => {"
            " const bar = document.querySelector('[data-state=Running] progress[value]');"
            " if (bar) seen.push(bar.value);"
            "}).observe(document.getElementById('operation-list'),"
            " { subtree: true, childList: true, attributes: true });"
        )
        with StalledDisk(self.server.data):
            self.verify_to("Ended")
            card = self.wait_card("Running", "Ended")
            read = (LARGE_BYTES - LAST_PART_BYTES) / LARGE_BYTES
            self.wait(lambda: self.script("return seen.at(-1)") == read)
            seen = self.script("return seen")
            self.assertEqual(seen, sorted(seen))
            self.screenshot("running")
            card.find_element("css selector", "button").click()
            card = self.wait_card("Cancelled", "Ended")
        self.assertNotIn("cannot be cancelled", card.text)
        self.assertFalse(self.rest.exists("Ended"))
        self.screenshot("cancelled")

        self.verify_to("Copied")
        self.wait_card("Succeeded", "Copied", "33.0 MiB")
        self.wait_names("Copied", "Large")

    def verify_to(self, destination: str) -> None:
        """Starts a verifying copy of the large file."""
        self.click("[aria-label='Copy Large']")
        self.fill("#copy-dialog [name=destination]", destination)
        self.click("#copy-dialog [name=verify]")
        self.click("#copy-dialog [type=submit]")

    def test_operations_of_other_clients_appear_by_themselves(self) -> None:
        self.rest.put_all(PACKAGE)
        self.open()
        self.assertTrue(self.one("#no-operations").is_displayed())
        self.copy(RemoteSource="App", RemoteDestination="Other")
        self.wait_card("Succeeded", "App", "Other", "4 files")
        self.wait_names("App", "Other")
        self.rest.call("DELETE", "Other").raise_for_status()
        self.wait_card("Succeeded", "Delete", "Other")
        self.wait_names("App")

    def test_past_operations_are_listed_the_newest_first(self) -> None:
        self.rest.put_all(PACKAGE)
        for number in range(105):
            self.copy(RemoteSource="App", RemoteDestination=f"Copies/{number}")
        self.open()
        self.wait(lambda: len(self.all("#operation-list > li")) == 100)
        self.assertIn("Copies/104", self.text("#operation-list > li:first-child"))
        self.click("#older")
        self.wait(lambda: len(self.all("#operation-list > li")) == 105)
        self.assertIn("Copies/0", self.text("#operation-list > li:last-child"))
        self.assertFalse(self.one("#older").is_displayed())
