"""A headless Chromium of the system, driven by selenium; tests that ask for it skip where there is none."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PHONE, DESKTOP = (390, 844), (1280, 900)
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def reason_not_to() -> str | None:
    """Say what is missing for a browser; None if nothing is."""
    if importlib.util.find_spec("selenium") is None:
        return "selenium is not installed"
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"there is no {missing[0]} on this system" if missing else None


@contextmanager
def chromium(folder: Path) -> Iterator[Any]:
    """Start a browser with a fresh profile in an empty folder; a ``selenium`` driver, its console kept."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*_FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(str(shutil.which("chromedriver"))))
    try:
        driver.set_script_timeout(30)
        yield driver
    finally:
        driver.quit()


def console_errors(driver: Any) -> list[str]:
    """Return what the page has complained of since the last call."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def resize(driver: Any, size: tuple[int, int], dark: bool = False) -> None:
    """Give the page the width and height of a screen, as a phone's page has it, and its colour scheme."""
    width, height = size
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def is_too_wide(driver: Any) -> bool:
    """Say whether the page has to be scrolled sideways."""
    page = "document.documentElement"
    return bool(driver.execute_script(f"return {page}.scrollWidth > {page}.clientWidth"))
