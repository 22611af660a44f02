"""Browsing the store on the page."""

import zipfile

from selenium.webdriver.common.keys import Keys

from .browser import BrowserCase

PACKAGE = {
    "CalcApp/ApplicationManifest.xml": b"m" * 2048,
    "CalcApp/CalcService/Code/calc.so": b"c" * 1_500_000,
    "CalcApp/CalcService/ServiceManifest.xml": b"s" * 100,
    "CalcApp/_.dir": b"",
    "readme.txt": b"hello",
}
MANY = 100_000
# Markup, quotes, and all characters with a meaning in URLs.
HOSTILE = "&lt;b onclick='alert(1)'&gt; #?%2F%24;+=ü 漢.txt"


class FilesCase(BrowserCase):
    """Browsing, downloading, deleting."""

    def test_folders_are_browsed_by_links_and_by_the_browsers_buttons(self) -> None:
        self.rest.put_all(PACKAGE)
        self.open()
        self.wait_names("CalcApp", "readme.txt")
        self.wait(lambda: self.rows()["CalcApp"][:2] == ["1.43 MiB", "4"])
        size, count, date = self.rows()["readme.txt"]
        self.assertEqual((size, count), ("5 B", ""))
        self.assertRegex(date, r"^\d{4}-\d\d-\d\d \d\d:\d\d$")
        self.assertEqual(self.text("#shown"), "2 entries")
        self.wait(lambda: self.text("#total") == "1.43 MiB in all")
        self.assertRegex(self.text("#space"), r"^\S+ [KMGTP]iB free of \S+ [KMGTP]iB$")
        self.screenshot("files")

        self.click("a[title=CalcApp]")
        self.wait_names("_.dir", "ApplicationManifest.xml", "CalcService")
        self.assertEqual(self.text("#crumbs [aria-current=page]"), "CalcApp")
        self.assertIn("CalcApp", self.driver.title)
        self.driver.back()
        self.wait_names("CalcApp", "readme.txt")

        self.open("CalcApp/CalcService/Code")
        self.wait_names("calc.so")
        self.click("#crumbs li:nth-child(2) a")
        self.wait_names("_.dir", "ApplicationManifest.xml", "CalcService")

    def test_everything_is_reached_by_keyboard(self) -> None:
        self.rest.put_all(PACKAGE)
        self.open()
        self.wait_names("CalcApp", "readme.txt")
        for _ in range(9):
            self.keys(Keys.TAB)
            if self.focused() == "CalcApp":
                break
        self.assertEqual(self.focused(), "CalcApp")
        self.keys(Keys.ARROW_DOWN)
        self.assertEqual(self.focused(), "readme.txt")
        self.keys(Keys.TAB)
        self.assertEqual(self.focused(), "Download readme.txt")
        self.keys(Keys.HOME)
        self.assertEqual(self.focused(), "CalcApp")
        self.keys(Keys.ENTER)
        self.wait_names("_.dir", "ApplicationManifest.xml", "CalcService")
        self.wait(lambda: self.focused() == "_.dir")
        self.keys(Keys.END, Keys.ENTER)
        self.wait_names("Code", "ServiceManifest.xml")
        self.wait(lambda: self.focused() == "Code")
        self.keys(Keys.BACKSPACE)
        self.wait(lambda: self.focused() == "CalcService")
        self.screenshot("keyboard")

        self.keys(Keys.DELETE)
        self.wait(lambda: self.focused() == "Cancel")
        self.assertIn("2 files", self.text("#delete-text"))
        self.keys(Keys.ESCAPE)
        self.wait(lambda: self.focused() == "CalcService")
        self.assertTrue(self.rest.exists("CalcApp/CalcService"))
        self.keys(Keys.DELETE)
        self.wait(lambda: self.focused() == "Cancel")
        self.keys(Keys.TAB, Keys.ENTER)
        self.wait_names("_.dir", "ApplicationManifest.xml")
        self.wait(lambda: self.focused() == "ApplicationManifest.xml")
        self.assertFalse(self.rest.exists("CalcApp/CalcService"))

    def test_a_file_is_downloaded_under_its_name(self) -> None:
        self.rest.put_all(PACKAGE)
        self.open("CalcApp/CalcService/Code")
        self.click("[aria-label='Download calc.so']")
        stored = PACKAGE["CalcApp/CalcService/Code/calc.so"]
        file = self.downloads / "calc.so"
        self.wait(lambda: file.exists() and file.stat().st_size == len(stored))
        self.assertEqual(file.read_bytes(), stored)

    def test_a_folder_is_downloaded_as_an_archive(self) -> None:
        self.rest.put_all(PACKAGE)
        self.open()
        self.click("[aria-label='Download CalcApp']")
        archive = self.downloads / "CalcApp.zip"
        self.wait(lambda: zipfile.is_zipfile(archive))
        with zipfile.ZipFile(archive) as found:
            data = {f"CalcApp/{name}": found.read(name) for name in found.namelist()}
        expected = {
            path: data
            for path, data in PACKAGE.items()
            if path.startswith("CalcApp/") and not path.endswith("_.dir")
        }
        self.assertEqual(data, expected)

    def test_a_name_is_text_and_nothing_else(self) -> None:
        path = f"{HOSTILE}/{HOSTILE}"
        self.rest.put(path, b"bytes")
        self.open()
        self.wait_names(HOSTILE)
        self.click("#rows a")
        self.wait(lambda: self.text("#crumbs [aria-current=page]") == HOSTILE)
        self.wait(lambda: self.rows()[HOSTILE][0] == "5 B")
        bytes_of = "return fetch(document.querySelector('#rows a').href).then((a) => a.text());"
        self.assertEqual(self.script(bytes_of), "bytes")
        self.assertEqual(self.all("#rows b"), [])
        self.click("#rows button[aria-label^=Delete]")
        self.wait(lambda: self.text("#delete-path") == path)
        self.screenshot("delete")
        self.click("#delete-dialog [type=submit]")
        self.wait(lambda: self.text("#empty") != "")
        self.assertFalse(self.rest.exists(path))

    def test_a_folder_of_100_000_entries_stays_usable(self) -> None:
        self.rest.put("many/file-000000")
        self.multiply("many", MANY)
        self.open("many")
        self.wait(lambda: "file-000000" in self.rows())
        self.screenshot("many")
        self.assertLess(len(self.rows()), 100)
        # The last entry appears when all pages are loaded; each is loaded when the end of the list comes into view.
        self.script("document.querySelector('#rows a').focus()")
        last = f"file-{MANY - 1:06}"

        def at_the_end() -> bool:
            self.keys(Keys.END)
            return self.focused() == last

        self.wait(at_the_end)
        self.assertEqual(self.text("#shown"), "100,000 entries")
        self.assertLess(len(self.rows()), 100)
        self.keys(Keys.PAGE_UP)
        self.assertNotEqual(self.focused(), last)
        self.screenshot("many-end")
        self.fill("#filter", "77777")
        self.wait_names("file-077777")
        self.assertEqual(self.text("#shown"), "1 of 100,000 entries")
        self.assertLess(self.script("return document.querySelectorAll('*').length"), 1000)

    def test_an_empty_store_and_a_missing_folder_say_so(self) -> None:
        self.open()
        self.assertIn("Nothing is stored here", self.text("#empty"))
        self.driver.get(f"{self.server.url}/#/no/such")
        self.wait(lambda: "no/such" in self.text("#problem"))
        self.rest.put("no/such/file", b"now")
        self.click("#problem button")
        self.wait_names("file")
        self.assertFalse(self.one("#problem").is_displayed())

    def test_a_server_that_is_gone_is_reported(self) -> None:
        self.rest.put("file")
        self.open()
        self.server.stop()
        self.wait(lambda: self.text("#live") == "no connection")
        self.click("#refresh")
        self.wait(lambda: "cannot be reached" in self.text("#problem"))
        self.assertIn("file", self.rows())
        self.screenshot("gone")
