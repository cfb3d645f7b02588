"""A real browser without a network, in which pages are opened from files."""

import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars"
)


class Browser:
    """A window: what is opened in it, and what it did meanwhile."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, page: Path, width: int = 800, height: int = 900, dark: bool = False, still: bool = False):
        """Open a page in a window of that size."""
        self.driver.get_log("browser"), self.driver.get_log("performance")
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                     mobile=width < 500)  # fmt: skip
        media = {"prefers-color-scheme": "dark" if dark else "light"}
        media["prefers-reduced-motion"] = "reduce" if still else "no-preference"
        features = [{"name": name, "value": value} for name, value in media.items()]
        self.command("Emulation.setEmulatedMedia", features=features)
        self.command("Emulation.setFocusEmulationEnabled", enabled=True)  # as a window that is looked at
        self.driver.get(page.resolve().as_uri())

    def command(self, name: str, **parameters):
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def js(self, code: str, *given):
        """Run JavaScript in the page; what it returns."""
        return self.driver.execute_script(code, *given)

    def errors(self) -> list[str]:
        """What the console has to complain about since the page was opened."""
        return [e["message"] for e in self.driver.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]

    def requests(self) -> list[str]:
        """What was asked for since the page was opened, beside the page and what is in it."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        page = self.driver.current_url.split("#")[0]
        return [url for url in urls if url.split("#")[0] != page and not url.startswith(("data:", "blob:"))]

    def overflow(self) -> int:
        """How many pixels of the page stand out on the right of the window."""
        return self.js("return document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator[Browser]:
    if not importlib.util.find_spec("selenium"):
        pytest.skip("selenium is not installed: pip install '.[browser]'")
    if not (CHROMIUM and DRIVER):
        pytest.skip("chromium and chromedriver are not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.execute_cdp_cmd("Network.enable", {})
    off = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", off)
    yield Browser(driver)
    driver.quit()
