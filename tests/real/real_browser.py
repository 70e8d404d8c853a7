"""Chromium of this machine, for tests of pages."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from real_guests import not_here


def chromium() -> str:
    """Return the path of the browser."""
    found = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"))), None)
    return found or not_here("there is no Chromium")


@contextmanager
def browsing() -> Iterator[Any]:
    """Start a Chromium under Playwright. Names of hostile sites resolve to this machine."""
    from playwright.sync_api import sync_playwright  # most tests do not need it

    arguments = ["--disable-gpu", "--disable-dev-shm-usage", "--host-resolver-rules=MAP evil.example 127.0.0.1"]
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium(), args=[*arguments, *(["--no-sandbox"] if os.geteuid() == 0 else [])])
        yield made
        made.close()
