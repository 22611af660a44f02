"""The page behind proxies that keep `Host`, and behind proxies that replace it."""

from foreign.proxy import INNER_NAME, PAGE_SETTINGS, Proxy

from .browser import BrowserCase


class ProxiesCase(BrowserCase):
    """Reads and writes through each proxy."""

    def test_files_are_deleted_through_each_proxy(self) -> None:
        self.server.stop()
        self.server.start(
            IMAGESTORE_ALLOWED_HOST=INNER_NAME,
            IMAGESTORE_TRUSTED_PROXY="127.0.0.1",
            IMAGESTORE_ALLOW_ANONYMOUS="true",
        )
        self._connect()
        self.addCleanup(setattr, self.server, "url", self.server.url)
        for name in PAGE_SETTINGS:
            with self.subTest(name):
                self.rest.put_all({"app/a": b"1", "readme.txt": b"2"})
                proxy = Proxy(name, self.folder / name.replace(" ", "-"), self.server.address)
                try:
                    self.server.url = f"http://{proxy.address}"
                    self.open()
                    self.wait_names("app", "readme.txt")
                    self.click("[aria-label='Delete app']")
                    self.click("#delete-dialog [type=submit]")
                    self.wait_names("readme.txt")
                    self.assertEqual(self.rest.tree(), {"readme.txt": b"2"})
                    self.leave()
                finally:
                    proxy.stop()
