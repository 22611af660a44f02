"""The look of the page, in light and dark schemes, on wide and narrow screens."""

from .browser import BrowserCase

# The least contrast of readable text (WCAG 2, level AA).
CONTRAST = 4.5
CONTRASTS = """
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, index) => sum + c * [0.2126, 0.7152, 0.0722][index], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = channels(getComputedStyle(at).backgroundColor);
      if (color.length < 4 || color[3] > 0) return light(color);
    }
    return 1;
  };
  return Object.fromEntries([...document.querySelectorAll(
      'h1 a, header p, #crumbs a, button, thead th, tbody a, tbody td, footer p, .head *, .state,'
      + ' .figures, .error, #live, dialog[open] *')]
    .filter((element) => element.checkVisibility() && element.textContent.trim() !== '')
    .map((element) => {
      const [text, behind] = [light(channels(getComputedStyle(element).color)), ground(element)];
      const name = `${element.tagName} ${element.className} ${element.textContent.slice(0, 20)}`;
      return [name, (Math.max(text, behind) + 0.05) / (Math.min(text, behind) + 0.05)];
    }));
"""


class LooksCase(BrowserCase):
    """How the page looks."""

    def prepare(self) -> None:
        """Fills the store with entries and operations to show."""
        for version in (1, 2, 3):
            self.rest.put_all(
                {
                    f"CalcAppV{version}/_.dir": b"",
                    f"CalcAppV{version}/ApplicationManifest.xml": b"m" * 4711,
                    f"CalcAppV{version}/CalcService/Code/calc.so": b"c" * 2_345_678,
                }
            )
        self.rest.put("readme with a name that goes on until no column is wide enough.md", b"x" * 3)
        for destination in ("Archive/2026/CalcAppV1", "CalcAppV4"):
            body = f'{{"RemoteSource":"CalcAppV1","RemoteDestination":"{destination}"}}'
            self.rest.call("POST", "$/Copy", body.encode()).raise_for_status()

    def test_text_is_readable_in_light_and_dark(self) -> None:
        self.prepare()
        for scheme in ("light", "dark"):
            self.prefer(scheme)
            self.open()
            self.wait_card("Succeeded", "CalcAppV4")
            self.screenshot(f"looks-{scheme}")
            self.assert_readable(scheme)
            self.click("#new-copy")
            self.screenshot(f"looks-{scheme}-dialog")
            self.assert_readable(scheme)
            self.click("#copy-dialog [value=cancel]")

    def assert_readable(self, scheme: str) -> None:
        """Asserts that all text has enough contrast with its background."""
        contrasts = self.script(CONTRASTS)
        self.assertGreater(len(contrasts), 10)
        weak = {name: ratio for name, ratio in contrasts.items() if ratio < CONTRAST}
        self.assertEqual(weak, {}, scheme)

    def test_nothing_is_cut_off_on_a_narrow_screen(self) -> None:
        self.prepare()
        for width, height in [(1000, 700), (760, 1000), (390, 800), (320, 568)]:
            self.resize(width, height)
            self.open()
            self.wait_card("Succeeded", "CalcAppV4")
            self.screenshot(f"looks-{width}")
            wide = self.script("return document.documentElement.scrollWidth")
            self.assertLessEqual(wide, width)
            for button in self.all(".bar button"):
                self.assertNotEqual(button.accessible_name, "")
            self.assertTrue(self.one("#rows a").is_displayed())
            self.assertTrue(self.one("#operation-list > li").is_displayed())

    def test_the_page_asks_no_other_server(self) -> None:
        self.prepare()
        self.open()
        self.wait_card("Succeeded", "CalcAppV4")
        asked = self.script("return performance.getEntriesByType('resource').map((it) => it.name);")
        self.assertGreater(len(asked), 10)
        for address in asked:
            self.assertTrue(address.startswith(f"{self.server.url}/"), address)
            path = address.removeprefix(self.server.url)
            self.assertTrue(path.startswith("/page/") or "api-version=6.0" in path, address)
