"""The page on screens of all widths, and zoomed: names have space, and every element can be reached."""

from .browser import BrowserCase

# A name longer than any column, and more entries than fit on any screen.
LONG = "a name that goes on until no column is wide enough, " * 4
MANY = 1_000
# Width, height and zoom. A zoom divides the page's width and height in CSS pixels.
SCREENS = [
    (320, 568, 1),
    (360, 740, 1),
    (390, 844, 1),
    (414, 896, 1),
    (520, 800, 1),
    (640, 800, 1),
    (700, 800, 1),
    (760, 1000, 1),
    (761, 1000, 1),
    (768, 1024, 1),
    (800, 600, 1),
    (850, 700, 1),
    (900, 700, 1),
    (1000, 700, 1),
    (1024, 768, 1),
    (1100, 700, 1),
    (1101, 700, 1),
    (1280, 800, 1),
    (1440, 900, 1),
    (1280, 1024, 2),
    (1280, 1024, 4),
    (1440, 900, 2),
    (1440, 900, 4),
]
# The least width of a name in pixels: about 16 letters.
NAME_PIXELS = 120
# From this height on, both lists fit beside the other elements.
HIGH_PIXELS = 512
NAMES = """
  const [long] = arguments;
  const link = [...document.querySelectorAll('#rows a[title]')].find((it) => it.title === long);
  return link.getBoundingClientRect().width;
"""
# Scrolls each element into view as a user can, and returns those that cannot be clicked then.
UNREACHED = """
  const [selectors] = arguments;
  const scrolls = (element) => element === document.documentElement
    || ['auto', 'scroll'].includes(getComputedStyle(element).overflowY);
  const reached = (element) => {
    element.scrollIntoView({ block: 'center' });
    const box = element.getBoundingClientRect();
    const hit = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    if (!element.contains(hit)) return false;
    if (box.left < 0 || box.right > innerWidth) return false;
    for (let at = element.parentElement; at; at = at.parentElement) {
      if (at.scrollLeft !== 0 || (at.scrollTop !== 0 && !scrolls(at))) return false;
    }
    return true;
  };
  const elements = selectors.flatMap((it) => {
    const found = [...document.querySelectorAll(it)].filter((one) => one.checkVisibility());
    return found.length === 0 ? [it] : found;
  });
  return elements.filter((it) => typeof it === 'string' || !reached(it))
    .map((it) => (typeof it === 'string' ? it : it.outerHTML.slice(0, 200)));
"""
ALWAYS = ["h1 a", "#space", "#crumbs a", "#filter", ".bar button", "#shown", "#total", "#live"]
ALWAYS += ["#operation-list > li:first-child summary", "#older"]
FIRST_ROW = ["#rows tr:not(.spacer) a[title]", "#rows tr:not(.spacer) .actions button"]
DIALOG = ["dialog[open] input", "dialog[open] textarea", "dialog[open] menu button"]


class LayoutCase(BrowserCase):
    """Space for names, and no element out of reach."""

    def prepare(self) -> None:
        """Creates a folder of three entries, a folder of many, and more operations than are shown."""
        for folder in ("few", "many"):
            self.rest.put_all({f"{folder}/{LONG.strip()}": b"x" * 3000, f"{folder}/b.so": b"x"})
            self.rest.put_all({f"{folder}/Code/c.so": b"c" * 1_500_000, f"{folder}/file-000000": b""})
            self.rest.call("DELETE", f"{folder}/b.so").raise_for_status()
        self.rest.call("DELETE", "few/file-000000").raise_for_status()
        self.rest.put("few/d.so", b"d")
        for number in range(101):
            body = f'{{"RemoteSource":"few/Code","RemoteDestination":"Copies/{number}"}}'
            self.rest.call("POST", "$/Copy", body.encode()).raise_for_status()
        self.multiply("many", MANY)

    def test_names_have_room_and_everything_is_reached_on_every_screen(self) -> None:
        self.prepare()
        for folder, last in (("few", "d.so"), ("many", f"file-{MANY - 1:06}")):
            self.open(folder)
            self.wait(lambda: self.all("#older"))
            for width, height, zoom in SCREENS:
                with self.subTest(folder=folder, width=width, height=height, zoom=zoom):
                    self.resize(width // zoom, height // zoom)
                    self.look(last)
                    if folder == "many" or zoom > 1:
                        self.screenshot(f"layout-{folder}-{width}-{zoom}")

    def look(self, last: str) -> None:
        """Checks the folder that is shown, from its first entry to its last."""
        self.scroll_to(0)
        self.wait(lambda: LONG.strip() in self.rows())
        width, height, wide, high = self.script(
            "const page = document.documentElement;"
            "return [innerWidth, innerHeight, page.scrollWidth, page.scrollHeight];"
        )
        self.assertLessEqual(wide, width)
        if height >= HIGH_PIXELS:
            self.assertLessEqual(high, height, "the lists scroll, not the page")
        self.assertGreaterEqual(self.script(NAMES, LONG.strip()), NAME_PIXELS)
        self.assertEqual(self.script(UNREACHED, ALWAYS + FIRST_ROW), [])
        self.scroll_to(1e9)
        self.wait(lambda: last in self.rows())
        self.assertEqual(self.script(UNREACHED, [f"#rows a[title='{last}']"]), [])
        self.scroll_to(0)
        self.script("scrollTo(0, 0)")

    def scroll_to(self, top: float) -> None:
        """Scrolls the list of entries."""
        self.script("document.getElementById('entries').scrollTop = arguments[0]", top)

    def test_dialogs_are_reached_on_every_screen(self) -> None:
        self.rest.put("file", b"x")
        self.open()
        for width, height, zoom in SCREENS:
            with self.subTest(width=width, height=height, zoom=zoom):
                self.resize(width // zoom, height // zoom)
                self.click("#new-copy")
                self.assertEqual(self.script(UNREACHED, DIALOG), [])
                self.script("document.querySelector('dialog[open]').close()")
