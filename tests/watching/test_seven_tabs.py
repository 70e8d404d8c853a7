"""More tabs than a browser has connections to a place, in a real Chromium, in which all tabs but one are hidden.

Chromium is driven through a pipe of its own: Playwright tells every tab that it is seen.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import DRAWN, Start, Tunnel
from real_browser import chromium

from mom_devkit import wait_until

TABS = 7
"""One more than the connections that browsers make to a place through HTTP/1.1."""

ANSWER_SECONDS = 35.0
"""Less than what a tab may be hidden and keep what it has, if it does."""

HIDDEN_SECONDS = 2.0
"""Several cycles."""


class Chromium:
    """A headless Chromium, and its DevTools protocol: JSON texts that end with a zero byte, on the file descriptors 3 and 4."""

    def __init__(self, program: str, profile: Path) -> None:
        read, self._write = os.pipe()
        self._read, write = os.pipe()
        self._answers = select.poll()
        self._answers.register(self._read, select.POLLIN)
        arguments = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-pipe"]
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")
        null = os.open(os.devnull, os.O_WRONLY)
        high = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 5) for one in (read, write)]  # so that neither is 3 or 4 already
        moves = [(os.POSIX_SPAWN_DUP2, high[0], 3), (os.POSIX_SPAWN_DUP2, high[1], 4), (os.POSIX_SPAWN_DUP2, null, 2)]
        command = [program, *arguments, f"--user-data-dir={profile}", "about:blank"]
        self._process = os.posix_spawn(program, command, os.environ, file_actions=moves, setpgroup=0)
        for one in (read, write, null, *high):
            os.close(one)
        self._number = 0
        self._rest = b""

    def call(self, method: str, session: str | None = None, **parameters: object) -> Any:
        """What a method answers. Raises `LookupError` where it refuses."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + ANSWER_SECONDS
        while True:
            while b"\0" not in self._rest:
                assert self._answers.poll(1000 * max(0.0, until - time.monotonic())), f"Chromium does not answer {method}"
                self._rest += os.read(self._read, 1 << 16)
            text, _, self._rest = self._rest.partition(b"\0")
            answer = json.loads(text)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise LookupError(answer["error"]["message"])
                return answer["result"]

    def tab(self, url: str, *, background: bool = False) -> Tab:
        """A new tab, which hides the one that was seen unless it is opened in the background."""
        return Tab(self, self.call("Target.createTarget", url=url, background=background)["targetId"])

    def close(self) -> None:
        os.killpg(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._read)
        os.close(self._write)


class Tab:
    """One tab."""

    def __init__(self, browser: Chromium, target: str) -> None:
        self._browser = browser
        self._target = target
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def show(self) -> None:
        """As when a person chooses it: all others are hidden."""
        self._browser.call("Target.activateTarget", targetId=self._target)

    def value(self, expression: str) -> Any:
        """What a script in the page gives; None while there is no page yet."""
        with suppress(LookupError):
            return self._browser.call("Runtime.evaluate", self._session, expression=expression, returnByValue=True)["result"].get("value")
        return None

    @property
    def hidden(self) -> bool:
        return self.value("document.hidden") is not False

    @property
    def state(self) -> str:
        """What stands at the foot of the page, and what is wrong above it."""
        return str(self.value("`${document.querySelector('#state')?.textContent} ${document.querySelector('#banner')?.textContent}`"))

    @property
    def cycle(self) -> int:
        """The last that it has heard of."""
        return int(self.state.split()[2])

    @property
    def drawn(self) -> int:
        """How many cycles the host's chart has."""
        return int(self.value(DRAWN))

    def goes_on(self) -> None:
        """Wait until it tells of one cycle, and then of another."""
        wait_until(lambda: not self.hidden and self.state.startswith("live: cycle"), lambda: self.state, ANSWER_SECONDS)
        first = self.state
        wait_until(lambda: self.state.startswith("live: cycle") and self.state != first, lambda: self.state, ANSWER_SECONDS)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    made = Chromium(chromium(), tmp_path / "profile")
    yield made
    made.close()


@pytest.mark.parametrize("background", [False, True], ids=["one after the other", "in the background"])
def test_each_of_seven_tabs_is_live_when_seen(shared: Start, tunnel: Callable[[Path], Tunnel], browser: Chromium, background: bool) -> None:
    dug = tunnel(shared().socket)
    tabs = []
    for _ in range(TABS):
        tabs.append(browser.tab(dug.url, background=background))
        if not background:
            tabs[-1].goes_on()
    for tab in reversed(tabs):
        tab.show()
        tab.goes_on()
    assert [tab.hidden for tab in tabs] == [False, *[True] * (TABS - 1)]


def test_a_hidden_tab_asks_nothing_and_misses_nothing(shared: Start, tunnel: Callable[[Path], Tunnel], browser: Chromium) -> None:
    dug = tunnel(shared().socket)
    seen = browser.tab(dug.url)
    seen.goes_on()
    browser.tab("about:blank").show()
    wait_until(lambda: seen.hidden)
    time.sleep(1)  # what was on its way
    carried = dug.carried
    time.sleep(HIDDEN_SECONDS)
    assert dug.carried == carried, "nothing is asked, and nothing told"
    seen.show()
    seen.goes_on()
    wait_until(lambda: seen.cycle - seen.drawn < 3, lambda: f"{seen.drawn} of {seen.cycle} cycles are drawn", ANSWER_SECONDS)
