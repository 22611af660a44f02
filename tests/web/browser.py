"""A test case with headless Chromium."""

import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from foreign.server import ServerCase

CHROMIUM = "/usr/bin/chromium"
CHROMEDRIVER = "/usr/bin/chromedriver"
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_SECONDS = 60
SCREENSHOTS = Path(__file__).parent.parent / ".cache" / "screenshots"
# The browser logs refused calls and a lost server under this source. The page shows these errors itself.
NETWORK = "network"

T = TypeVar("T")


class BrowserCase(ServerCase):
    """A test with an empty store and a browser that has not opened the page yet."""

    driver: webdriver.Chrome
    downloads: Path
    # Further flags of the browser.
    flags: tuple[str, ...] = ()

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        folder = tempfile.TemporaryDirectory(prefix="imagestore-browser-", ignore_cleanup_errors=True)
        cls.addClassCleanup(folder.cleanup)
        cls.downloads = Path(folder.name) / "downloads"
        cls.driver = start(Path(folder.name) / "profile", cls.downloads, *cls.flags)
        cls.addClassCleanup(cls.driver.quit)

    def setUp(self) -> None:
        # The page is left after the server has stopped: an open page must not delay the stop.
        self.addCleanup(self.leave)
        super().setUp()
        self.addCleanup(self.assert_clean_console)
        self.resize(1280, 800)
        self.prefer("light")

    def leave(self) -> None:
        """Leaves the page, and clears the log of the browser."""
        self.driver.get("about:blank")
        self.driver.get_log("browser")

    def open(self, path: str = "") -> None:
        """Opens the page at a folder, and waits until the folder is shown and the event stream is connected."""
        self.driver.get(f"{self.server.url}/#/{path}")
        self.wait(lambda: self.text("#live") == "live")
        self.wait(lambda: self.text("#shown") not in ("", "Loading…"))

    def resize(self, width: int, height: int) -> None:
        """Sets the size of the page."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, scheme: str) -> None:
        """Sets whether the browser prefers a light or dark scheme."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def wait(self, condition: Callable[[], T]) -> T:
        """Waits for a condition and returns its value. Retries if an element is replaced meanwhile."""
        wait = WebDriverWait(
            self.driver, WAIT_SECONDS, 0.02, [StaleElementReferenceException]
        )
        return wait.until(lambda _: condition(), f"{self.id()}: the page never came to be as expected")

    def all(self, selector: str) -> list[WebElement]:
        """The elements of a selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """The one element of a selector; waits for it."""
        return self.wait(lambda: next(iter(self.all(selector)), None))

    def text(self, selector: str) -> str:
        """The visible text of the one element of a selector."""
        return self.one(selector).text

    def script(self, script: str, *arguments: Any) -> Any:
        """Runs a script in the page and returns what it returns."""
        return self.driver.execute_script(script, *arguments)

    def click(self, selector: str) -> None:
        """Clicks an element."""
        self.one(selector).click()

    def fill(self, selector: str, value: str) -> None:
        """Replaces the value of a field by typing."""
        field = self.one(selector)
        field.clear()
        field.send_keys(value)

    def keys(self, *keys: str) -> None:
        """Types keys into the focused element."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self) -> str:
        """The text or the name of the focused element."""
        return self.script(
            "const it = document.activeElement;"
            "return it.getAttribute('aria-label') ?? (it.textContent.trim() || it.name);"
        )

    def rows(self) -> dict[str, list[str]]:
        """The rows in the document: name, then size, number of files and date."""
        rows = self.script(
            "return [...document.querySelectorAll('#rows tr:not(.spacer)')].map((row) =>"
            " [...row.cells].slice(0, 4).map((cell) => cell.textContent));"
        )
        return {name: rest for name, *rest in rows}

    def multiply(self, name: str, count: int) -> None:
        """Adds empty files to a folder of the root, which contains `file-000000`, up to a number of such names.

        The rows are written to the database, because uploads would take minutes. The server is started again.
        """
        self.server.stop()
        with closing(sqlite3.connect(self.folder / "data" / "namespace.sqlite")) as database:
            with database:
                [[folder, root]] = database.execute(
                    "SELECT child, folder FROM entry WHERE name = ? AND child IS NOT NULL", [name]
                )
                database.execute(
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
                    " INSERT INTO entry SELECT folder, printf('file-%06d', i), printf('file-%06d', i),"
                    " child, content, size, version, modified FROM entry, n"
                    " WHERE folder = ? AND name = 'file-000000'",
                    [count - 1, folder],
                )
                database.execute(
                    "UPDATE folder SET files = files + ? WHERE id IN (?, ?)", [count - 1, folder, root]
                )
        self.start_again()

    def wait_names(self, *names: str) -> None:
        """Waits until exactly these entries are shown."""
        self.wait(lambda: list(self.rows()) == list(names))

    def wait_card(self, state: str, *words: str) -> WebElement:
        """Waits for the card of an operation or upload in a state that contains all these words."""

        def found() -> WebElement | None:
            cards = self.all(f".card[data-state={state}]")
            return next((card for card in cards if all(word in card.text for word in words)), None)

        return self.wait(found)

    def drop(self, *files: Path) -> None:
        """Drops files and folders on the page, as a user does with the mouse."""
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            event = {"type": kind, "x": 300, "y": 400, "data": data}
            self.driver.execute_cdp_cmd("Input.dispatchDragEvent", event)

    def screenshot(self, name: str) -> None:
        """Saves a screenshot of the page."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(SCREENSHOTS / f"{name}.png"))

    def assert_clean_console(self) -> None:
        """Asserts that no script failed and the content security policy refused nothing."""
        log = [line for line in self.driver.get_log("browser") if line["source"] != NETWORK]
        self.assertEqual(log, [])


def start(profile: Path, downloads: Path, *flags: str) -> webdriver.Chrome:
    """Starts a browser with a new profile."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in [*FLAGS, *flags, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    return webdriver.Chrome(options, Service(CHROMEDRIVER))
