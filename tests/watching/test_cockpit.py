"""mom's page in a real Cockpit, in a real Chromium, with the rights of different users."""

import grp
import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Frame, FrameLocator, Page, expect
from real_guests import not_here
from watched_mom import Daemon, Start, client

from mom_devkit import wait_until

ROOT = Path(__file__).parents[2]
WEB_SERVICE = Path("/usr/lib/cockpit/cockpit-ws")
OTHER_USER = "nobody"

expect.set_options(timeout=40_000)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Yield a folder that other users can read, unlike pytest's."""
    before = os.umask(0o022)
    made = Path(tempfile.mkdtemp(prefix="mom-cockpit-"))
    made.chmod(0o755)
    yield made
    os.umask(before)
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def made(folder: Path) -> Iterator[Start]:
    """Yield a function that makes moms with these settings of the plugin http. They end with the test."""
    with ExitStack() as stack:

        def make(http: str = "{}") -> Daemon:
            one = Daemon(Path(tempfile.mkdtemp(dir=folder)), http=http)
            one.folder.chmod(0o755)
            stack.callback(one.stop)
            one.socket.parent.mkdir()  # with the mode that systemd sets, so that groups can reach the socket
            return one

        yield make


@pytest.fixture(scope="module")
def mom(made: Start) -> Start:
    """Return a function that returns a running mom with these settings, for tests that do not change it."""

    @cache
    def started(http: str = "{}") -> Daemon:
        one = made(http)
        one.start()
        return one

    return started


@dataclass
class Shown:
    """Cockpit in a browser with mom's page, and the browser's messages."""

    cockpit: Page
    mom: FrameLocator | Page
    complaints: list[str] = field(default_factory=list)

    def frame(self) -> Frame:
        """Frame with mom's page."""
        return next(frame for frame in self.cockpit.frames if "/mom/index.html" in frame.url)


@pytest.fixture
def cockpit(browser: Browser, folder: Path, unused_port: Callable[[], int]) -> Iterator[Callable[..., Shown]]:
    """Yield a function that shows a mom in Cockpit, for the present user or another. With `alone`, Cockpit shows only mom's page."""
    if not WEB_SERVICE.exists():
        not_here("there is no Cockpit: apt-get install cockpit-ws cockpit-bridge cockpit-system")
    package = folder / "data/cockpit/mom"
    if not package.exists():
        subprocess.run([sys.executable, ROOT / "packaging/cockpit/package.py", package], check=True, timeout=60)
    with ExitStack() as stack:

        def show(daemon: Daemon, user: str | None = None, *, alone: bool = False, **settings: object) -> Shown:
            if user is not None and os.geteuid() != 0:
                not_here("only root can log another user in")
            manifest = json.loads((package / "manifest.json").read_text())
            manifest["config"]["socket"] = str(daemon.socket)
            (package / "manifest.json").write_text(json.dumps(manifest))
            session = folder / "session"
            login = f"runuser -u {user} -- " if user else ""
            session.write_text(
                f"#!/bin/sh\nexec {login}env PATH={folder}/bin:$PATH HOME={folder} XDG_DATA_HOME={folder}/data cockpit-bridge\n"
            )
            session.chmod(0o755)
            url = stack.enter_context(served(session, folder / "ws.log", unused_port()))
            context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB", **settings)  # type: ignore[arg-type]  # Chromium's own
            stack.callback(context.close)
            page = context.new_page()
            shown = Shown(page, page if alone else page.frame_locator("iframe[name$='/mom']"))
            page.on(
                "console",
                lambda said: shown.complaints.append(said.text) if "/mom/" in said.location["url"] and said.type == "error" else None,
            )
            page.on("pageerror", lambda error: shown.complaints.append(str(error)) if "/mom/" in (error.stack or "") else None)
            page.goto(f"{url}/cockpit/@localhost/mom/index.html" if alone else f"{url}/mom")
            return shown

        yield show


@contextmanager
def served(session: Path, log: Path, port: int) -> Iterator[str]:
    """Yield the address of Cockpit's web service without log-in, as the session's user."""
    command = [str(WEB_SERVICE), f"--local-session={session}", "--address=127.0.0.1", f"--port={port}"]
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        wait_until(lambda: _listens(port), log.read_text, 30)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_who_may_change_watches_and_steers(mom: Start, cockpit: Callable[..., Shown]) -> None:
    daemon = mom()
    shown = cockpit(daemon)
    expect(shown.cockpit.get_by_role("link", name="Guest memory")).to_be_visible()
    expect(shown.mom.get_by_role("heading", name="mom on")).to_be_visible()
    expect(shown.mom.locator("svg.chart polygon").first).to_have_attribute("points", re.compile("( [0-9.,]+){8}"))
    if pictures := os.environ.get("MOM_SCREENSHOTS"):
        shown.cockpit.screenshot(path=f"{pictures}/cockpit.png")
    shown.mom.get_by_role("link", name="Policies").click()
    expect(shown.cockpit).to_have_url(re.compile(r"/mom#/policies$"))
    shown.mom.get_by_label("Name of a new policy").fill("60_cockpit")
    shown.mom.get_by_role("button", name="New policy").click()
    shown.mom.locator("textarea").fill('# żółw: a text that is no ASCII\n(Host.Control "ksm_run" 0)\n')
    expect(shown.mom.locator("#verdict")).to_have_text(re.compile("the policy can be saved"))
    shown.mom.get_by_role("button", name="Save").click()
    expect(shown.mom.get_by_text("60_cockpit is saved")).to_be_visible()
    with client(daemon) as one:
        kept = one.get("/v1/policies").json()["items"]
    assert "żółw" in next(each["text"] for each in kept if each["name"] == "60_cockpit")
    assert shown.complaints == []


def test_who_may_only_read_sees_all_and_is_offered_no_change(mom: Start, cockpit: Callable[..., Shown]) -> None:
    group = grp.getgrgid(pwd.getpwnam(OTHER_USER).pw_gid).gr_name
    shown = cockpit(mom(f"{{read_group: {group}}}"), OTHER_USER, alone=True)
    expect(shown.mom.get_by_text("may read", exact=True)).to_be_visible()
    shown.mom.get_by_role("link", name="Policies").click()
    expect(shown.mom.get_by_text("You may read policies")).to_be_visible()
    expect(shown.mom.get_by_role("button", name="New policy")).to_have_count(0)
    assert shown.complaints == []


def test_who_has_no_rights_is_told_how_to_get_some(mom: Start, cockpit: Callable[..., Shown]) -> None:
    """The kernel refuses the connection, also if two groups may use the socket."""
    shown = cockpit(mom("{read_group: users, change_group: adm}"), OTHER_USER, alone=True)
    told = shown.mom.locator(".empty")
    expect(told.get_by_role("heading")).to_have_text("You have no permission to see mom")
    expect(told).to_contain_text("click “Limited access” at the top of Cockpit to turn on administrative access")
    expect(told).to_contain_text("read_group")
    expect(told).to_contain_text("you have no permission to use mom's control socket")
    expect(shown.mom.get_by_role("heading", name="mom on")).to_have_count(0)


UNITS = {
    "LoadState=not-found\nActiveState=inactive": ("mom is not installed as a service", "mom run"),
    "LoadState=loaded\nActiveState=active": ("mom runs without the http plugin", "plugins:\n  http: {}"),
    "LoadState=loaded\nActiveState=failed": ("mom is not running", "journalctl -u mom"),
}
"""States of mom's unit in systemd, with Cockpit's message and advice."""


def test_where_mom_does_not_run_it_is_said_why_started_by_a_button_and_shown_once_it_runs(
    made: Start, cockpit: Callable[..., Shown], folder: Path
) -> None:
    daemon, unit, started = made(), folder / "unit", folder / "started"
    fake = folder / "bin/systemctl"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\nif [ "$1" = show ]; then cat {unit}; else echo "$*" >{started}; fi\n')
    fake.chmod(0o755)
    unit.write_text("")
    shown = cockpit(daemon)
    told = shown.mom.locator(".empty")
    expect(told).to_contain_text(f"mom's control socket {daemon.socket} does not exist on this host; start mom: systemctl start mom")
    for said, (title, cure) in UNITS.items():
        unit.write_text(said)
        expect(told.get_by_role("heading")).to_have_text(title)
        expect(told).to_contain_text(cure)
    told.get_by_role("button", name="Start mom").click()
    wait_until(lambda: started.exists() and started.read_text() == "start mom\n")  # the shell creates the file before it writes
    daemon.start()
    expect(shown.mom.get_by_text("live: cycle")).to_be_visible()
    expect(told).to_have_count(0)
    assert shown.complaints == []


def test_it_is_dark_where_cockpit_is(mom: Start, cockpit: Callable[..., Shown]) -> None:
    shown = cockpit(mom(), color_scheme="light")
    expect(shown.mom.get_by_text("live: cycle")).to_be_visible()
    expect(shown.mom.locator("html")).to_have_attribute("data-theme", "light")
    shown.cockpit.evaluate("localStorage.setItem('shell:style', 'dark')")
    expect(shown.mom.locator("html")).to_have_attribute("data-theme", "dark")
    expect(shown.mom.locator("html")).to_have_class(re.compile("pf-v5-theme-dark"))
