"""Fixtures with moms, browsers, and the tools that check the page."""

import fcntl
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from real_browser import browsing
from watched_mom import PAGE_CHECKS, Daemon, Start, Tunnel, starting

_OLDEST_NODE = 20
"""Oldest version of node with which the tools run. Debian 13 has it."""


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Yield a function that starts a mom with settings. It ends after the test."""
    with starting(tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Yield a function that returns a mom with settings, shared by all tests of a module.

    Tests only read, or use their own policy names.
    """
    with starting(tmp_path_factory) as start:
        yield cache(start)


@pytest.fixture(scope="module")
def mom(shared: Start) -> Daemon:
    """Return the shared mom without settings."""
    return shared()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Yield a Chromium under Playwright."""
    with browsing() as made:
        yield made


@pytest.fixture
def tunnel() -> Iterator[Callable[[Path], Tunnel]]:
    """Yield a function that makes a unix socket available to browsers."""
    with ExitStack() as stack:

        def dig(path: Path) -> Tunnel:
            made = Tunnel(path)
            stack.callback(made.close)
            return made

        yield dig


@pytest.fixture
def visit(browser: Any, tunnel: Callable[[Path], Tunnel]) -> Iterator[Callable[..., Any]]:
    """Yield a function that opens a view of mom's page, or an address.

    Errors in the browser fail the test, unless they match `but`.
    """
    contexts, complaints = [], list[str]()

    def opened(where: Daemon | Path | str, view: str = "", *, but: str = "", width: int = 1280, height: int = 900, **settings: Any) -> Any:
        def note(text: str) -> None:
            if not but or not re.search(but, text):
                complaints.append(text)

        url = where if isinstance(where, str) else f"{tunnel(where if isinstance(where, Path) else where.socket).url}/#/{view}"
        context = browser.new_context(viewport={"width": width, "height": height}, locale="en-GB", **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(40_000)
        page.on("pageerror", lambda error: note(str(error)))
        page.on("console", lambda message: note(message.text) if message.type == "error" else None)
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def page_tools() -> Path:
    """Return the folder of npm's packages from `page/package-lock.json`. Skip the test without node or registry."""
    here, kept = Path(__file__).parent / "page", PAGE_CHECKS
    found = shutil.which("node") and shutil.which("npm")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=60, check=False).stdout if found else ""
    if int(version.strip().removeprefix("v").partition(".")[0] or 0) < _OLDEST_NODE:
        pytest.skip(f"there is no node {_OLDEST_NODE} or newer, or no npm")
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one worker installs
        wanted = (here / "package-lock.json").read_text()
        installed = kept / "installed.json"
        if not installed.exists() or installed.read_text() != wanted:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(here / name, kept)
            command = ["npm", "ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"]
            made = subprocess.run(command, cwd=kept, capture_output=True, text=True, timeout=300, check=False)
            if made.returncode:
                pytest.skip(f"npm cannot install what the page is checked with: {made.stderr[-500:]}")
            installed.write_text(wanted)
    return kept / "node_modules"
