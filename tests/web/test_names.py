"""Names with invisible or misleading characters: the page shows them escaped, and works with the true names."""

import json

from .browser import BrowserCase

# Names with a character that reverses the direction of the text, and with invisible characters.
FOLDER = "app\u202egpj"
FILE = "a\u200bb\u2066c\u3164.txt"
SHOWN_FOLDER = r"app\u{202e}gpj"
SHOWN_FILE = r"a\u{200b}b\u{2066}c\u{3164}.txt"
HIDING = "\u202e\u200b\u2066\u3164"
# All text on the page, including tooltips and labels for screen readers.
ALL_TEXT = """
  const texts = [document.title, document.documentElement.textContent];
  for (const element of document.querySelectorAll('*')) {
    for (const name of ['title', 'aria-label', 'placeholder']) {
      texts.push(element.getAttribute(name) ?? '');
    }
    texts.push(element.value ?? '');
  }
  return texts.join('\\n');
"""


class NamesCase(BrowserCase):
    """Names that look like other names."""

    def assert_shown(self) -> None:
        """Asserts that no misleading character is anywhere on the page."""
        text = self.script(ALL_TEXT)
        self.assertEqual([hex(ord(letter)) for letter in text if letter in HIDING], [])

    def submit(self, dialog: str) -> None:
        """Submits a dialog, and waits until it is closed."""
        self.click(f"#{dialog} [type=submit]")
        self.wait(lambda: not self.one(f"#{dialog}").is_displayed())

    def test_what_hides_is_shown_and_the_true_name_is_used(self) -> None:
        self.rest.put(f"{FOLDER}/{FILE}", b"bytes")
        self.rest.put(f"{FOLDER}/plain", b"more")
        self.open()
        self.wait_names(SHOWN_FOLDER)
        self.click("#rows a")
        self.wait_names(SHOWN_FILE, "plain")
        self.assertEqual(self.text("#crumbs [aria-current=page]"), SHOWN_FOLDER)
        self.assertIn(SHOWN_FOLDER, self.driver.title)
        self.fill("#filter", r"\u{2066}")
        self.wait_names(SHOWN_FILE)
        self.assert_shown()
        bytes_of = "return fetch(document.querySelector('#rows a').href).then((a) => a.text());"
        self.assertEqual(self.script(bytes_of), "bytes")
        self.screenshot("names")

        # The field stands for the true name, whether the user edits it or not.
        self.click("#rows button[aria-label^=Copy]")
        source = self.one("#copy-dialog [name=source]").get_attribute("value")
        self.assertEqual(source, f"{SHOWN_FOLDER}/{SHOWN_FILE}")
        self.fill("#copy-dialog [name=destination]", f"{SHOWN_FOLDER}/{SHOWN_FILE}.copy")
        self.assert_shown()
        self.submit("copy-dialog")
        self.wait_card("Succeeded", f"{SHOWN_FOLDER}/{SHOWN_FILE}.copy")
        self.assertEqual(self.rest.content(f"{FOLDER}/{FILE}.copy"), b"bytes")
        self.assert_shown()

        self.fill("#filter", "copy")
        self.wait_names(f"{SHOWN_FILE}.copy")
        self.click("#rows button[aria-label^=Delete]")
        self.wait(lambda: self.text("#delete-path") == f"{SHOWN_FOLDER}/{SHOWN_FILE}.copy")
        self.assert_shown()
        self.submit("delete-dialog")
        self.wait(lambda: not self.rest.exists(f"{FOLDER}/{FILE}.copy"))
        self.assertTrue(self.rest.exists(f"{FOLDER}/{FILE}"))

    def test_a_name_of_the_list_is_left_out_as_it_is_shown(self) -> None:
        self.rest.put_all({f"{FOLDER}/{FILE}": b"1", f"{FOLDER}/plain": b"2"})
        self.open()
        self.click("#rows button[aria-label^=Copy]")
        self.fill("#copy-dialog [name=destination]", "copy")
        self.fill("#copy-dialog [name=skip]", f"{SHOWN_FILE}\nnone\\u{{202e}}")
        self.submit("copy-dialog")
        card = self.wait_card("Succeeded", "copy", "1 left out", r"none\u{202e}")
        card.find_element("css selector", "summary").click()
        self.assert_shown()
        self.assertEqual(self.rest.tree("copy"), {"copy/plain": b"2"})

    def test_what_is_pasted_is_shown(self) -> None:
        self.open()
        self.click("#new-copy")
        paste = (
            "const field = document.querySelector('#copy-dialog [name=destination]');"
            "field.focus(); document.execCommand('insertText', false, arguments[0]); field.blur();"
        )
        self.fill("#copy-dialog [name=source]", f"no/{SHOWN_FILE}")
        self.script(paste, f"to/{FILE}")
        self.wait(
            lambda: self.one("#copy-dialog [name=destination]").get_attribute("value")
            == f"to/{SHOWN_FILE}"
        )
        self.click("#copy-dialog [type=submit]")
        self.wait(lambda: SHOWN_FILE in self.text("#copy-dialog .error"))
        self.assert_shown()

    def test_uploads_and_operations_of_others_are_shown_as_well(self) -> None:
        local = self.folder / "local"
        local.mkdir()
        (local / FILE).write_bytes(b"from here")
        (local / f"bad|{FILE}").write_bytes(b"refused")
        self.rest.put(f"{FOLDER}/x", b"1")
        self.open(f"{FOLDER}")
        self.wait_names("x")
        paths = sorted(str(path) for path in local.iterdir())
        self.one("#pick-files").send_keys("\n".join(paths))
        folder = "#upload-dialog [name=folder]"
        self.wait(lambda: self.one(folder).get_attribute("value") == SHOWN_FOLDER)
        self.submit("upload-dialog")
        self.wait_card("Failed", SHOWN_FOLDER, f"bad|{SHOWN_FILE}")
        self.wait_names(SHOWN_FILE, "x")
        self.assertEqual(self.rest.content(f"{FOLDER}/{FILE}"), b"from here")
        body = json.dumps({"RemoteSource": FOLDER, "RemoteDestination": f"{FOLDER}2"})
        self.rest.call("POST", "$/Copy", body.encode()).raise_for_status()
        self.wait_card("Succeeded", f"{SHOWN_FOLDER}2")
        self.assert_shown()
        self.driver.get(f"{self.server.url}/#/no{FOLDER}")
        self.wait(lambda: f"no{SHOWN_FOLDER}" in self.text("#problem"))
        self.assert_shown()
