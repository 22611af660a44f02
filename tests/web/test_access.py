"""The page on a server that asks for a token, over TLS."""

import os
import zipfile
from pathlib import Path

from foreign.command import StalledDisk
from foreign.server import Server

from .access import AccessCase

LARGE_BYTES = (32 << 20) + (1 << 20)
# A text of events, with each kind of line end, and what it means.
EVENTS = (
    "\ufeff: comment\r\n\r\nid: change-3\n\nevent: progress\rid: change-4\rdata: {\"a\":\rdata: 1}\r\r"
    "data:two  \nunknown: x\nretry: 5\nevent\n\nevent: lost\n\nid\ndata\n\ndata: ü漢\r\n\r\ndata: incomplete"
)
MEANT = [
    [{"name": "progress", "data": '{"a":\n1}'}, "change-4"],
    [{"name": "message", "data": "two  "}, "change-4"],
    [{"name": "message", "data": ""}, ""],
    [{"name": "message", "data": "ü漢"}, ""],
]


class TokenCase(AccessCase):
    """Everybody needs a token."""

    def test_a_token_is_asked_for_and_a_wrong_one_is_refused(self) -> None:
        self.rest.put("file", b"f")
        self.visit()
        self.wait_question()
        self.screenshot("token")
        self.assertEqual(self.text("#token-dialog .error"), "")
        self.assertEqual(self.rows(), {})
        self.assertFalse(self.one("#sign-out").is_displayed())
        self.assertEqual(self.one("#token-dialog [name=token]").get_attribute("type"), "password")
        for wrong, says in [
            ("ünfit", "letters, digits and signs"),
            ("secret", "no token of this server"),
            (self.admin[:-1], "checksum is wrong"),
        ]:
            self.give(wrong)
            self.wait_question(says)
        self.screenshot("token-refused")
        self.give(f"  {self.admin} ")
        self.wait_names("file")
        self.wait(lambda: self.text("#live") == "live")
        self.wait(lambda: self.text("#space") != "" and self.text("#total") == "1 B in all")
        self.assertTrue(self.one("#sign-out").is_displayed())
        self.screenshot("signed-in")
        self.assert_kept_nowhere(self.admin)

    def test_with_a_token_everything_works(self) -> None:
        self.rest.put("Large/data.bin", os.urandom(LARGE_BYTES))
        self.visit()
        self.sign_in(self.admin)
        self.wait_names("Large")

        with StalledDisk(self.server.data):
            self.copy_to("Ended", verify=True)
            card = self.wait_card("Running", "Ended", "32.0 MiB of 33.0 MiB")
            card.find_element("css selector", "button").click()
            self.wait_card("Cancelled", "Ended")
        self.copy_to("Copied")
        card = self.wait_card("Succeeded", "Copied")
        card.find_element("css selector", "summary").click()
        self.wait(lambda: "token:boss" in card.text)
        self.wait_names("Copied", "Large")
        self.screenshot("caller")

        local = self.folder / "local"
        local.mkdir()
        (local / "größe 'x'.bin").write_bytes(b"u" * 100_000)
        (local / "empty").write_bytes(b"")
        self.one("#pick-files").send_keys("\n".join(str(path) for path in sorted(local.iterdir())))
        self.click("#upload-dialog [type=submit]")
        self.wait_card("Succeeded", "Upload", "2 of 2 files")
        self.wait_names("Copied", "empty", "größe 'x'.bin", "Large")

        for name, data in [("größe 'x'.bin", b"u" * 100_000), ("empty", b"")]:
            self.click(f'[aria-label="Download {name}"]')
            self.wait_saved(name, data)
        self.click("a[title=empty]")
        self.wait_saved("empty (1)", b"")
        self.visit("Large")
        self.wait_names("data.bin")
        self.click("[aria-label='Download data.bin']")
        self.wait_saved("data.bin", self.rest.content("Large/data.bin"))
        self.assertFalse(self.one("#downloads").is_displayed())
        self.visit("")
        self.click("[aria-label='Download Large']")
        self.wait(lambda: zipfile.is_zipfile(self.downloads / "Large.zip"))
        with zipfile.ZipFile(self.downloads / "Large.zip") as archive:
            self.assertEqual(archive.read("data.bin"), self.rest.content("Large/data.bin"))
        # The addresses have a signature instead of the token.
        urls = self.script("return performance.getEntries().map(({ name }) => name)")
        self.assertGreaterEqual(sum("CreateLink" in url for url in urls), 5)
        self.screenshot("downloaded")

        self.wait_names("Copied", "empty", "größe 'x'.bin", "Large")
        self.click("[aria-label='Delete Copied']")
        self.click("#delete-dialog [type=submit]")
        self.wait_names("empty", "größe 'x'.bin", "Large")
        self.assert_kept_nowhere(self.admin)

    def copy_to(self, destination: str, verify: bool = False) -> None:
        """Starts a copy of the large file."""
        self.click("[aria-label='Copy Large']")
        self.fill("#copy-dialog [name=destination]", destination)
        if verify:
            self.click("#copy-dialog [name=verify]")
        self.click("#copy-dialog [type=submit]")

    def wait_saved(self, name: str, data: bytes) -> None:
        """Waits until the browser has saved a file."""
        file = self.downloads / name
        self.wait(lambda: file.exists() and file.stat().st_size == len(data))
        self.assertEqual(file.read_bytes(), data)

    def test_a_token_is_kept_only_where_that_is_said(self) -> None:
        self.rest.put("file", b"f")
        self.visit()
        self.sign_in(self.admin)
        self.wait_names("file")
        self.driver.refresh()
        self.sign_in(self.admin, keep=True)
        self.wait_names("file")
        self.assert_kept_nowhere(self.admin, in_session=True)
        self.driver.refresh()
        self.wait_names("file")
        self.wait(lambda: self.text("#live") == "live")
        self.assertFalse(self.one("#token-dialog").is_displayed())
        # Another tab knows nothing of it.
        first = self.driver.current_window_handle
        self.driver.switch_to.new_window("tab")
        self.visit()
        self.wait_question()
        self.driver.close()
        self.driver.switch_to.window(first)
        # After the end of the session nothing of it is left on the page.
        self.copy("file", "first")
        self.click("#sign-out")
        self.wait_question()
        self.assertEqual(self.all("#operation-list > li"), [])
        self.assertFalse(self.one("#sign-out").is_displayed())
        self.assert_kept_nowhere(self.admin)
        self.driver.refresh()
        self.wait_question()

    def test_signing_out_ends_what_runs(self) -> None:
        large = self.folder / "large.bin"
        with large.open("wb") as file:
            file.truncate(4 << 30)
        self.visit()
        self.sign_in(self.admin)
        self.one("#pick-files").send_keys(str(large))
        self.click("#upload-dialog [type=submit]")
        self.wait_card("Running", "0 of 1 file")
        self.click("#sign-out")
        self.wait_question()
        self.wait_card("Cancelled", "0 of 1 file")
        self.assertEqual(self.rest.tree(), {})

    def test_a_token_that_is_revoked_is_asked_for_again(self) -> None:
        self.rest.put_all({"file": b"f", "other": b"o"})
        page = self.tokens("create", "page", "--role", "writer", "--path", "/")
        self.visit()
        self.sign_in(page, keep=True)
        self.wait_names("file", "other")
        self.click("[aria-label='Copy file']")
        self.fill("#copy-dialog [name=destination]", "copy")
        self.tokens("revoke", "page")
        self.wait(lambda: self.one("#token-dialog").is_displayed())
        self.wait(lambda: "'page' was revoked" in self.text("#token-dialog .error"))
        self.screenshot("revoked")
        self.assert_kept_nowhere(page)
        self.give(page)
        self.wait(lambda: "'page' was revoked" in self.text("#token-dialog .error"))
        self.give(self.admin)
        # What the user has begun goes on.
        self.wait(lambda: not self.one("#token-dialog").is_displayed())
        self.wait(lambda: self.text("#live") == "live")
        self.assertTrue(self.one("#copy-dialog").is_displayed())
        self.click("#copy-dialog [type=submit]")
        self.wait_card("Succeeded", "copy")
        self.wait_names("copy", "file", "other")

    def test_a_question_that_is_closed_does_not_come_back_by_itself(self) -> None:
        self.rest.put("file", b"f")
        self.visit()
        self.wait_question()
        self.click("#token-dialog [value=cancel]")
        self.wait(lambda: "You are not signed in" in self.text("#problem"))
        self.wait(lambda: self.text("#live") == "not signed in")
        self.script("performance.clearResourceTimings()")
        asked = "return performance.getEntriesByType('resource').length"
        self.wait(lambda: self.script(asked) >= 2)
        self.assertFalse(self.one("#token-dialog").is_displayed())
        self.screenshot("not-signed-in")
        self.click("#problem button")
        self.wait_question()
        self.click("#token-dialog [value=cancel]")
        self.click("#sign-in")
        self.sign_in(self.admin)
        self.wait_names("file")
        self.assertFalse(self.one("#problem").is_displayed())
        self.assertFalse(self.one("#sign-in").is_displayed())

    def test_a_right_that_is_missing_is_named(self) -> None:
        self.rest.put("App/file", b"f")
        reader = self.tokens("create", "reader", "--role", "reader", "--path", "App")
        self.visit("App")
        self.sign_in(reader)
        self.wait_names("file")
        self.click("[aria-label='Delete file']")
        self.click("#delete-dialog [type=submit]")
        self.wait(lambda: "'token:reader' may not" in self.text("#delete-dialog .error"))
        self.screenshot("missing-right")
        self.click("#delete-dialog [value=cancel]")
        self.assertFalse(self.one("#token-dialog").is_displayed())
        # The folder of another team.
        self.visit("Other")
        self.wait(lambda: self.text("#problem") != "")
        self.assertFalse(self.one("#token-dialog").is_displayed())

    def test_a_download_that_cannot_begin_says_why(self) -> None:
        self.rest.put("file", b"f")
        self.visit()
        self.sign_in(self.admin)
        self.wait_names("file")
        address = self.server.address
        self.server.stop()
        self.click("[aria-label='Download file']")
        self.wait_card("Failed", "Download", "file", "The server cannot be reached.")
        self.screenshot("no-download")
        self.click("#downloads .card button")
        self.assertFalse(self.one("#downloads").is_displayed())
        self.start_again(address)

    def test_events_go_on_after_the_last_one(self) -> None:
        self.rest.put("file", b"f")
        self.visit()
        self.sign_in(self.admin)
        self.wait_names("file")
        self.copy("file", "first")
        self.script(
            "const send = window.fetch;"
            "window.after = [];"
            "window.fetch = (url, options) => {"
            " if (options.headers['Last-Event-ID']) after.push(options.headers['Last-Event-ID']);"
            " return send(url, options); };"
        )
        address = self.server.address
        self.server.stop()
        self.wait(lambda: self.text("#live") == "no connection")
        self.start_again(address)
        self.wait(lambda: self.text("#live") == "live")
        self.assertRegex(self.script("return after.at(-1)"), "^change-[0-9]+$")
        self.copy("file", "second")

    def test_events_are_parsed_wherever_their_pieces_end(self) -> None:
        self.visit()
        for size in (1, 2, 3, 7, 1000):
            found = self.driver.execute_async_script(
                "const [text, size, done] = arguments;"
                "import('./page/events.js').then(({ Parser }) => {"
                " const [parser, decoder, found] = [new Parser('change-2'), new TextDecoder(), []];"
                " const bytes = new TextEncoder().encode(text);"
                " for (let at = 0; at < bytes.length; at += size) {"
                "  const piece = decoder.decode(bytes.slice(at, at + size), { stream: true });"
                "  for (const event of parser.take(piece)) found.push([event, parser.last]); }"
                " done(found); }, (error) => done(String(error)));",
                EVENTS, size,
            )
            self.assertEqual([event for event, _ in found], [event for event, _ in MEANT], size)
            if size == 1:
                self.assertEqual(found, MEANT)


class AnonymousCase(AccessCase):
    """Everybody may read; a token is needed to write."""

    def make_server(self, data: Path) -> Server:
        grants = self.folder / "grants.toml"
        grants.write_text('[[grant]]\nwho = ["anonymous"]\nrole = "reader"\npaths = ["/"]\n')
        grants.chmod(0o600)
        self.options = ("--grants", str(grants))
        return super().make_server(data)

    def test_a_token_is_asked_for_where_it_is_needed(self) -> None:
        self.rest.put_all({"file": b"f", "other": b"o"})
        self.open()
        self.wait_names("file", "other")
        self.assertFalse(self.one("#token-dialog").is_displayed())
        # Without a token a download is a link.
        self.click("[aria-label='Download other']")
        saved = self.downloads / "other"
        self.wait(lambda: saved.exists() and saved.read_bytes() == b"o")
        self.assertFalse(self.one("#downloads").is_displayed())

        self.click("[aria-label='Delete other']")
        self.click("#delete-dialog [type=submit]")
        self.wait(lambda: self.one("#token-dialog").is_displayed())
        self.click("#token-dialog [value=cancel]")
        self.wait(lambda: "You are not signed in" in self.text("#delete-dialog .error"))
        self.wait(lambda: self.text("#live") == "live")
        self.click("#delete-dialog [type=submit]")
        self.wait(lambda: self.one("#token-dialog").is_displayed())
        self.give(self.admin)
        self.wait_names("file")
        self.click("#sign-out")
        self.wait_names("file")
        self.wait(lambda: self.text("#live") == "live")
        self.assertFalse(self.one("#token-dialog").is_displayed())

    def test_an_upload_goes_on_with_the_token(self) -> None:
        large = self.folder / "large.bin"
        large.write_bytes(os.urandom(40 << 20))
        small = self.folder / "small"
        small.write_bytes(b"s")
        self.open()
        self.one("#pick-files").send_keys(f"{large}\n{small}")
        self.click("#upload-dialog [type=submit]")
        self.sign_in(self.admin)
        self.wait_card("Succeeded", "Upload", "2 of 2 files")
        self.assertEqual(self.rest.content("large.bin"), large.read_bytes())
