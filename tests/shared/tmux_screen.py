"""Real terminal: tmux shows the output of a program, and sends keys."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from real_guests import not_here

from mom_devkit import wait_until


class Screen:
    """Window with a shell, in a tmux server for one test."""

    def __init__(self, folder: Path) -> None:
        self._tmux = ["tmux", "-S", str(folder / "tmux"), "-f", "/dev/null"]

    def start(self, columns: int = 80, lines: int = 24, **environment: str) -> None:
        setting = [f"{name}={value}" for name, value in {"PS1": "ready> ", "LC_ALL": "C.UTF-8", "NO_COLOR": "", **environment}.items()]
        self.tmux("new-session", "-d", "-x", str(columns), "-y", str(lines), "env", "-u", "NO_COLOR", *setting, "sh")
        wait_until(lambda: "ready>" in self.text())

    def tmux(self, *words: str) -> str:
        return subprocess.run([*self._tmux, *words], capture_output=True, text=True, timeout=60, check=True).stdout

    def end(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True)

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def run(self, command: str) -> None:
        self.keys("-l", command)
        self.keys("Enter")

    def text(self) -> str:
        return self.tmux("capture-pane", "-p")

    def shows(self, *texts: str, seconds: float = 120) -> str:
        """Wait until all of these texts are on the screen. Return the screen."""
        wait_until(lambda: all(text in self.text() for text in texts), self.text, seconds)
        return self.text()

    def shows_no_more(self, text: str) -> None:
        wait_until(lambda: text not in self.text(), self.text)

    def flag(self, name: str) -> str:
        return self.tmux("display-message", "-p", f"#{{{name}}}").strip()

    def at_the_shell(self) -> None:
        """Wait until the shell reads again. Restoring the terminal may discard earlier input."""
        self.shows("ready>")
        wait_until(lambda: self.flag("pane_current_command") in {"sh", "dash", "bash"}, self.text)

    def is_as_before(self) -> None:
        """Check that the terminal is restored: the shell's screen, with a cursor, line mode and echo."""
        self.at_the_shell()
        assert (self.flag("alternate_on"), self.flag("cursor_flag")) == ("0", "1")
        self.run("stty -a | tr ' ;' '\\n\\n' | grep -xE -e '-?(echo|icanon)'")
        wait_until(lambda: {"icanon", "echo"} <= set(self.text().split()), self.text)


@contextmanager
def terminal(folder: Path) -> Iterator[Screen]:
    """Yield a terminal. Skip the test without tmux."""
    if shutil.which("tmux") is None:
        not_here("there is no tmux")
    screen = Screen(folder)
    try:
        yield screen
    finally:
        screen.end()
