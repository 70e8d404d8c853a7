"""`mom top` in a real terminal."""

import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tmux_screen import Screen, terminal
from verbs_in_process import run_verb
from watched_mom import MOM, Daemon, Start

from mom_devkit import wait_until


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Screen]:
    with terminal(tmp_path) as made:
        yield made


def top(screen: Screen, mom: Daemon) -> None:
    screen.run(f"{MOM} top -c {mom.config}")


def test_host_and_guests_fit_on_the_smallest_usual_terminal(mom: Daemon, screen: Screen) -> None:
    screen.start()
    top(screen, mom)
    text = screen.shows("5 guests with", "web-01", "usable", "?:help", "q:end")
    lines = text.splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("mom "))  # below the verdict, if the host is already full
    assert "available" in lines[head + 1]
    assert "swap" in lines[head + 2]
    assert lines[head + 4].split()[:5] == ["guest", "size", "max", "used", "usable"]
    assert lines[head + 4].split()[-1] == "↓note"
    assert lines[-1].startswith("sufferers first")
    screen.keys("q")
    screen.is_as_before()


def test_a_guest_is_found_among_many_and_explained(daemon: Start, screen: Screen) -> None:
    mom = daemon(guests=200, interval="1s")
    screen.start(200, 50)
    top(screen, mom)
    screen.shows("200 guests with", "usable")
    screen.keys(">", ">", ">", ">")
    screen.shows("↓used")
    screen.keys("/")
    screen.keys("-l", "web-01")
    screen.shows("filter: web-01")
    screen.keys("Enter")
    screen.shows_no_more("db-")
    screen.keys("Enter")
    screen.shows("now", "It has", "guaranteed", "all fields")
    screen.keys("Escape")
    screen.shows("filter 'web-01'")
    screen.keys("Escape")
    screen.shows("↓used", "?:help")
    screen.keys("d")
    screen.shows("what mom did, newest first")
    screen.keys("!")
    screen.shows("plugins", "ms")
    screen.keys("?")
    screen.shows("sort by", "memory at the present balloon size")
    screen.keys("C-c")
    screen.is_as_before()


def test_the_screen_follows_the_window(daemon: Start, screen: Screen) -> None:
    mom = daemon(guests=60)
    screen.start()
    top(screen, mom)
    screen.shows("60 guests with")
    before = screen.text().count("G ")
    screen.tmux("resize-window", "-x", "200", "-y", "50")
    wait_until(lambda: screen.text().count("G ") > before + 20, screen.text)
    screen.tmux("resize-window", "-x", "30", "-y", "8")
    screen.shows("it needs 40 x 10")
    screen.tmux("resize-window", "-x", "80", "-y", "24")
    screen.shows("60 guests with")


def test_a_mom_that_goes_and_comes_back_is_told_of(daemon: Start, screen: Screen) -> None:
    mom = daemon()
    mom.stop()
    screen.start()
    top(screen, mom)
    screen.shows("No process serves", "Start mom", "Retrying every second")
    mom.start()
    screen.shows("5 guests with")
    mom.stop(signal.SIGKILL)
    screen.shows("NOT REACHED", "web-01")
    mom.start()
    screen.shows_no_more("NOT REACHED")
    assert mom.process is not None
    mom.process.send_signal(signal.SIGSTOP)
    screen.shows("NOT REACHED", "mom did not answer on")
    mom.process.send_signal(signal.SIGCONT)
    screen.shows_no_more("NOT REACHED")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_whatever_ends_it_the_terminal_is_in_order(mom: Daemon, screen: Screen, number: int, tmp_path: Path) -> None:
    screen.start()
    screen.run(f"sh -c 'echo $$ > {tmp_path}/pid; exec {MOM} top -c {mom.config}'")
    screen.shows("5 guests with")
    assert screen.flag("alternate_on") == "1"
    os.kill(int((tmp_path / "pid").read_text()), number)
    screen.is_as_before()


def test_without_a_terminal_it_says_which_verbs_print_the_same(mom: Daemon) -> None:
    told = run_verb("top", "-c", str(mom.config))
    assert (told.returncode, told.stdout) == (1, "")
    assert "`mom guests` print" in told.stderr


def test_a_terminal_that_goes_away_ends_it(mom: Daemon) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen([MOM, "top", "-c", mom.config], stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm"})
    os.close(slave)
    assert os.read(master, 100)
    os.close(master)
    assert process.wait(60) is not None
