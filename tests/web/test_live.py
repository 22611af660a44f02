"""Changes by other clients on the open page, and a server that stops and starts again."""

import json
import shutil

from .browser import BrowserCase

# The statuses of the page's requests for the listing of the root.
LOOKS = (
    "return performance.getEntriesByType('resource')"
    ".filter((it) => new URL(it.name).pathname.endsWith('/ImageStore'))"
    ".map((it) => it.responseStatus);"
)
ROWS = 300


class LiveCase(BrowserCase):
    """An open page without input from a user."""

    def wait_looks(self, status: int, count: int) -> None:
        """Waits until the page has received this many further responses with a status for the root."""
        self.script("performance.clearResourceTimings()")
        self.wait(lambda: self.script(LOOKS).count(status) >= count)

    def come_back(self) -> None:
        """Starts the server again at the same address after its end."""
        self.start_again(self.server.address)
        self.wait(lambda: self.text("#live") == "live")

    def test_what_others_upload_and_delete_is_seen(self) -> None:
        self.rest.put_all({"App/Code/a.so": b"a" * 1000, "file": b"f"})
        self.open()
        self.wait_names("App", "file")
        self.rest.put("other", b"new")
        self.wait_names("App", "file", "other")
        self.rest.call("DELETE", "file").raise_for_status()
        self.wait_names("App", "other")
        # The row of a folder shows the totals of all files below it.
        self.rest.put("App/Code/b.so", b"b" * 500)
        self.wait(lambda: self.rows()["App"][:2] == ["1.46 KiB", "2"])
        self.wait(lambda: self.text("#total") == "1.47 KiB in all")
        self.rest.put("other", b"newer")
        self.wait(lambda: self.rows()["other"][0] == "5 B")
        # If the shown folder is deleted, the page leaves it.
        self.click("a[title=App]")
        self.wait_names("Code")
        self.rest.call("DELETE", "App").raise_for_status()
        self.wait_names("other")

    def test_a_folder_that_has_not_changed_is_not_read_again(self) -> None:
        self.rest.put("file", b"f")
        self.open()
        self.wait_names("file")
        self.script("document.querySelector('#rows a').dataset.same = 'yes'")
        self.wait_looks(304, 2)
        self.assertNotIn(200, self.script(LOOKS))
        self.assertEqual(len(self.all("#rows a[data-same]")), 1)

    def test_a_look_leaves_everything_in_its_place(self) -> None:
        self.rest.put_all({f"file-{number:03}": b"" for number in range(ROWS)})
        self.open()
        self.fill("#filter", "file")
        self.script("document.querySelector('#entries').scrollTop = 3205")
        button = "[aria-label='Delete file-104']"
        self.wait(lambda: self.all(button))
        self.script("arguments[0].focus({ preventScroll: true })", self.one(button))
        self.script(
            "getSelection().selectAllChildren(document.querySelector('a[title=file-105]'));"
            "window.place = (title) => document.querySelector(`a[title=${title}]`)"
            ".getBoundingClientRect().top;"
        )
        place = self.script("return place('file-104')")
        # Before, after and among the visible rows.
        self.rest.put_all({"a file": b"", "file-110b": b"", "z file": b""})
        self.wait(lambda: "303 of 303" in self.text("#shown"))
        self.assertEqual(self.script("return place('file-104')"), place)
        self.assertEqual(self.focused(), "Delete file-104")
        self.assertEqual(self.script("return getSelection().toString()"), "file-105")
        self.assertEqual(self.one("#filter").get_attribute("value"), "file")
        # If the row itself is replaced, its button keeps the focus.
        self.rest.put("file-104", b"more")
        self.wait(lambda: self.rows()["file-104"][0] == "4 B")
        self.assertEqual(self.focused(), "Delete file-104")
        self.assertEqual(self.script("return place('file-104')"), place)
        # If the row is removed, the focus moves to a name, so that no other file is deleted by mistake.
        self.rest.call("DELETE", "file-104").raise_for_status()
        self.wait(lambda: "file-104" not in self.rows())
        self.assertEqual(self.focused(), "file-105")

    def test_a_dialog_stays_as_it_is(self) -> None:
        self.rest.put("file", b"f")
        self.open()
        self.click("[aria-label='Copy file']")
        self.fill("#copy-dialog [name=destination]", "elsewhere")
        self.rest.put("other", b"")
        self.wait_names("file", "other")
        self.assertTrue(self.one("#copy-dialog").is_displayed())
        self.assertEqual(self.focused(), "destination")
        self.assertEqual(self.one("#copy-dialog [name=destination]").get_attribute("value"), "elsewhere")

    def test_a_restart_leaves_nothing_red(self) -> None:
        self.rest.put("file", b"f")
        self.open()
        self.server.stop()
        self.wait(lambda: self.text("#live") == "no connection")
        self.wait(lambda: "cannot be reached" in self.text("#problem"))
        self.come_back()
        self.wait(lambda: not self.one("#problem").is_displayed())
        self.assertEqual(self.one("#live").get_attribute("data-state"), "open")
        self.wait(lambda: self.text("#space") != "")
        # The page continues without input.
        self.rest.put("other", b"")
        self.wait_names("file", "other")
        body = json.dumps({"RemoteSource": "file", "RemoteDestination": "copy"})
        self.rest.call("POST", "$/Copy", body.encode()).raise_for_status()
        self.wait_card("Succeeded", "file", "copy")
        self.wait_names("copy", "file", "other")

    def test_another_store_in_place_of_the_first_is_listed_anew(self) -> None:
        body = json.dumps({"RemoteSource": "a", "RemoteDestination": "b"})
        self.rest.put("a", b"1")
        self.open()
        self.rest.call("POST", "$/Copy", body.encode()).raise_for_status()
        self.wait_card("Succeeded", "a", "b")
        self.wait_names("a", "b")
        self.server.stop()
        address = self.server.address
        shutil.rmtree(self.folder / "data")
        # As many writes as in the first store, while the page is disconnected.
        self.start_again()
        self.rest.put_all({"c": b"1", "d": b"1"})
        self.server.stop()
        self.start_again(address)
        self.wait_names("c", "d")
        # The page shows no operations of the first store.
        self.wait(lambda: self.one("#no-operations").is_displayed())
        self.assertEqual(self.all("#operation-list > li"), [])
