"""A headless Chromium, and small ways to use a page in it as a person would."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException, WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1200,850"
)
PATIENCE = 30

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = "" if CHROMIUM and DRIVER else "chromium and chromedriver are not installed"


@contextmanager
def open_browser(folder: Path) -> Iterator["Page"]:
    """A browser with a profile of its own in `folder`."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={folder}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    try:
        yield Page(driver)
    finally:
        driver.quit()


class Page:
    """What is shown now. Elements are found by CSS selectors; what is looked for is waited for."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def go(self, url: str) -> None:
        self.driver.get(url)

    def all(self, selector: str) -> list[WebElement]:
        found: list[WebElement] = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return found

    def find(self, selector: str, text: str = "") -> WebElement:
        """The last visible element that fits, and has this text in it."""

        def look(_: Any) -> WebElement | None:
            fitting = [one for one in self.all(selector) if one.is_displayed() and text in one.text]
            return fitting[-1] if fitting else None

        return self.until(look, f"{selector} with {text!r}")

    def click(self, selector: str, text: str = "") -> None:
        self._do(lambda: self.find(selector, text).click())

    def write(self, selector: str, text: str) -> None:
        def write() -> None:
            field = self.find(selector)
            field.clear()
            field.send_keys(text)

        self._do(write)

    def _do(self, act: Callable[[], None]) -> None:
        """Once more where the page has put another element in the place of the one that was found."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return act()
            except StaleElementReferenceException:
                if time.monotonic() > end:
                    raise

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, look: Callable[[Any], Any], what: str) -> Any:
        wait = WebDriverWait(self.driver, PATIENCE, poll_frequency=0.05, ignored_exceptions=[WebDriverException])
        try:
            return wait.until(look)
        except TimeoutException:
            shown = self.driver.find_element(By.TAG_NAME, "body").text
            raise AssertionError(f"{what} did not come; the page says: {shown[:2000]}") from None

    def complaints(self) -> list[str]:
        """What the console says of broken code and of what the page's policy forbade."""
        lines = [entry["message"] for entry in self.driver.get_log("browser")]
        return [line for line in lines if "Failed to load resource" not in line]
