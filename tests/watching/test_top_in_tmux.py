"""`mom top` in a real terminal: tmux draws what it sends, types what a person would, and knows how the terminal was left."""

import os
import pty
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MOM, Daemon, Start
from real_guests import not_here

from mom_devkit import wait_until


class Screen:
    """One window of a tmux server of the test's own, in which a shell runs."""

    def __init__(self, folder: Path) -> None:
        self._tmux = ["tmux", "-S", str(folder / "tmux"), "-f", "/dev/null"]

    def start(self, columns: int = 80, lines: int = 24, **environment: str) -> None:
        setting = [f"{name}={value}" for name, value in {"PS1": "ready> ", "LC_ALL": "C.UTF-8", "NO_COLOR": "", **environment}.items()]
        self.tmux("new-session", "-d", "-x", str(columns), "-y", str(lines), "env", "-u", "NO_COLOR", *setting, "sh")
        wait_until(lambda: "ready>" in self.text())

    def tmux(self, *words: str) -> str:
        return subprocess.run([*self._tmux, *words], capture_output=True, text=True, timeout=60, check=True).stdout

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def top(self, mom: Daemon, before: str = "") -> None:
        """Run `mom top` with this before it on the command line."""
        self.run(f"{before}{MOM} top -c {mom.config}")

    def run(self, command: str) -> None:
        self.keys("-l", command)
        self.keys("Enter")

    def text(self) -> str:
        return self.tmux("capture-pane", "-p")

    def shows(self, *texts: str, seconds: float = 60) -> str:
        """Wait until all of these are on the screen."""
        wait_until(lambda: all(text in self.text() for text in texts), self.text, seconds)
        return self.text()

    def flag(self, name: str) -> str:
        return self.tmux("display-message", "-p", f"#{{{name}}}").strip()

    def at_the_shell(self) -> None:
        """Wait until the shell reads again: what is typed before that may be thrown away by whoever puts the terminal in order."""
        self.shows("ready>")
        wait_until(lambda: self.flag("pane_current_command") in {"sh", "dash", "bash"}, self.text)

    def is_as_before(self) -> None:
        """The shell's screen again, with a cursor, lines and an echo."""
        self.at_the_shell()
        assert (self.flag("alternate_on"), self.flag("cursor_flag")) == ("0", "1")
        self.run("stty -a | tr ' ;' '\\n\\n' | grep -xE -e '-?(echo|icanon)'")
        wait_until(lambda: {"icanon", "echo"} <= set(self.text().split()), self.text)


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Screen]:
    if shutil.which("tmux") is None:
        not_here("there is no tmux")
    made = Screen(tmp_path)
    yield made
    subprocess.run([*made._tmux, "kill-server"], check=False, capture_output=True)


def test_host_and_guests_fit_on_the_smallest_usual_terminal(mom: Daemon, screen: Screen) -> None:
    screen.start()
    screen.top(mom)
    text = screen.shows("5 guests have", "web-01", "usable", "?:help", "q:end")
    lines = text.splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("mom "))  # below the verdict, if the host is full by now
    assert "available" in lines[head + 1]
    assert "swap" in lines[head + 2]
    assert lines[head + 4].split()[:5] == ["guest", "size", "max", "used", "usable"]
    assert lines[head + 4].split()[-1] == "↓note"
    assert lines[-1].startswith("sufferers first")
    screen.keys("q")
    screen.is_as_before()
    screen.top(mom, "TERM=nobody-knows-it ")
    screen.shows("5 guests have", "q:end")
    screen.keys("q")
    screen.is_as_before()


def test_a_guest_is_found_among_many_and_explained(daemon: Start, screen: Screen) -> None:
    mom = daemon(guests=200, interval="1s")
    screen.start(200, 50)
    screen.top(mom)
    screen.shows("200 guests have", "usable")
    screen.keys(">", ">", ">", ">")
    screen.shows("↓used")
    screen.keys("/")
    screen.keys("-l", "web-01")
    screen.shows("filter: web-01")
    screen.keys("Enter")
    wait_until(lambda: "db-" not in screen.text(), screen.text)
    screen.keys("Enter")
    screen.shows("now", "It has", "guaranteed", "the last", "size", "all fields")
    screen.keys("Escape")
    screen.shows("filter 'web-01'")
    screen.keys("Escape")
    screen.shows("↓used", "?:help")
    screen.keys("d")
    screen.shows("what mom did, newest first")
    screen.keys("!")
    screen.shows("plugins", "ms")
    screen.keys("?")
    screen.shows("sort by", "its memory at the present balloon size")
    screen.keys("C-c")
    screen.is_as_before()


def test_the_screen_follows_the_window(daemon: Start, screen: Screen) -> None:
    mom = daemon(guests=60)
    screen.start()
    screen.top(mom)
    screen.shows("60 guests have")
    before = screen.text().count("G ")
    screen.tmux("resize-window", "-x", "200", "-y", "50")
    wait_until(lambda: screen.text().count("G ") > before + 20, screen.text)
    screen.tmux("resize-window", "-x", "30", "-y", "8")
    screen.shows("it needs 40 x 10")
    screen.tmux("resize-window", "-x", "80", "-y", "24")
    screen.shows("60 guests have")


def test_a_mom_that_goes_and_comes_back_is_told_of(daemon: Start, screen: Screen) -> None:
    mom = daemon()
    mom.stop()
    screen.start()
    screen.top(mom)
    screen.shows("No process serves", "Start mom", "Retrying every second")
    mom.start()
    screen.shows("5 guests have")
    mom.stop(signal.SIGKILL)
    screen.shows("NOT REACHED", "web-01")
    mom.start()
    wait_until(lambda: "NOT REACHED" not in screen.text(), screen.text)
    assert mom.process is not None
    mom.process.send_signal(signal.SIGSTOP)
    said = f"mom (process {mom.process.pid}) is suspended, and does not answer on"
    cure = f"kill -CONT {mom.process.pid} resumes it"  # both may be wrapped
    wait_until(lambda: all(text in " ".join(screen.text().split()) for text in ("NOT REACHED", said, cure)), screen.text, 60)
    mom.process.send_signal(signal.SIGCONT)
    wait_until(lambda: "NOT REACHED" not in screen.text(), screen.text)


def test_a_pause_holds_the_picture(shared: Start, screen: Screen) -> None:
    screen.start()
    screen.top(shared())
    screen.shows("5 guests have")
    screen.keys("p")
    screen.shows("PAUSED")
    number = screen.text().split("cycle ")[1].split()[0]
    screen.shows("2 s ago")
    assert screen.text().split("cycle ")[1].split()[0] == number
    screen.keys("p")
    wait_until(lambda: screen.text().split("cycle ")[1].split()[0] != number, screen.text)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_whatever_ends_it_the_terminal_is_in_order(mom: Daemon, screen: Screen, number: int, tmp_path: Path) -> None:
    screen.start()
    screen.run(f"sh -c 'echo $$ > {tmp_path}/pid; exec {MOM} top -c {mom.config}'")
    screen.shows("5 guests have")
    assert screen.flag("alternate_on") == "1"
    os.kill(int((tmp_path / "pid").read_text()), number)
    screen.is_as_before()


def test_it_can_be_suspended(mom: Daemon, screen: Screen) -> None:
    screen.start()
    screen.keys("-l", "bash --norc -i")
    screen.keys("Enter")
    screen.run("PS1='ready> '")
    screen.top(mom)
    screen.shows("5 guests have")
    screen.keys("C-z")
    screen.shows("Stopped")
    assert screen.flag("alternate_on") == "0"
    screen.run("fg")
    screen.shows("5 guests have", "?:help")
    screen.keys("q")
    screen.is_as_before()


def test_a_terminal_gets_only_colours_and_signs_that_it_has(mom: Daemon, screen: Screen) -> None:
    screen.start(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    screen.top(mom, "NO_COLOR=1 ")
    text = screen.shows("5 guests have", "###", "vnote")
    assert text.isascii()
    shown = screen.tmux("capture-pane", "-p", "-e")
    assert not any(f"[{number}m" in shown or f";{number}m" in shown for number in range(30, 38))
    screen.keys("q")
    screen.at_the_shell()
    screen.top(mom)
    screen.shows("5 guests have")
    assert any(f"[{number}m" in screen.tmux("capture-pane", "-p", "-e") for number in range(30, 38))


def test_without_a_terminal_it_says_which_verbs_print_the_same(mom: Daemon) -> None:
    told = subprocess.run([MOM, "top", "-c", mom.config], capture_output=True, text=True, timeout=180, check=False)
    assert (told.returncode, told.stdout) == (1, "")
    assert "mom guests -c " in told.stderr


def test_a_terminal_that_goes_away_ends_it(mom: Daemon) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen([MOM, "top", "-c", mom.config], stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm"})
    os.close(slave)
    assert os.read(master, 100)
    os.close(master)
    assert process.wait(60) is not None
