"""The page behind a real nginx with TLS and a path prefix, by the settings of the README."""

from pathlib import Path

from foreign.proxy import README_SOURCE, Proxy, readme_settings
from foreign.server import Server

from .access import AccessCase, TokenRest


class TrustedProxyCase(AccessCase):
    """Everybody needs a token, and the page is at `/store/`."""

    def make_server(self, data: Path) -> Server:
        self.admin = self.first_token(data)
        flags = ["--access", "required", "--trusted-proxy", README_SOURCE, "--log", "debug"]
        return Server(data, *flags)

    def _connect(self) -> None:
        settings = readme_settings(*self.pair)
        proxy = Proxy("nginx", self.folder / "nginx", self.server.address, settings)
        self.addCleanup(proxy.stop)
        # `visit` and `rest` use the proxy.
        self.server.url = f"https://{proxy.address}/store"
        self.rest = TokenRest(self.server.url, self.trusted, self.admin)
        self.addCleanup(self.rest.close)

    def test_the_page_works_below_the_prefix(self) -> None:
        self.rest.put_all({"app/a": b"1", "readme.txt": b"2"})
        self.visit()
        self.sign_in(self.admin)
        self.wait_names("app", "readme.txt")
        self.assertEqual(self.script("return location.pathname"), "/store/")

        self.copy("app", "copy")
        self.wait_names("app", "copy", "readme.txt")
        self.click("[aria-label='Delete app']")
        self.click("#delete-dialog [type=submit]")
        self.wait_names("copy", "readme.txt")

        local = self.folder / "local.bin"
        local.write_bytes(b"u" * 2_000_000)
        self.one("#pick-files").send_keys(str(local))
        self.click("#upload-dialog [type=submit]")
        self.wait_names("copy", "local.bin", "readme.txt")
        self.assertEqual(
            self.rest.tree(), {"copy/a": b"1", "local.bin": b"u" * 2_000_000, "readme.txt": b"2"}
        )
        self.assert_kept_nowhere(self.admin)
