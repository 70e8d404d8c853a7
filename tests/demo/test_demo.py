"""`mom demo` for a new user."""

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console

from mom_plugins_sim.demo.story import CYCLES, Moment, Summary, frame, play
from mom_plugins_sim.world import SWAPS_BELOW_SHARE

BIN = Path(sys.executable).parent
MOM = str(BIN / "mom")


def demo(*options: str) -> str:
    done = subprocess.run([MOM, "demo", *options], capture_output=True, text=True, check=True, timeout=300)
    assert done.stderr == "", "a figure of which it is not known of which host it is"
    return done.stdout


@cache
def moments(seed: int) -> list[Moment]:
    return list(play(seed))


def test_what_it_says_to_type_next_works_where_it_was_called() -> None:
    """`./run demo` calls `mom demo` like this: by its path, from a folder above, without `mom` in PATH."""
    environment = {**os.environ, "PATH": "/usr/bin:/bin"}
    told = subprocess.run(
        [MOM, "demo", "--seconds", "2"], cwd=BIN.parent, env=environment, capture_output=True, text=True, check=True
    ).stdout
    last = told.partition("What to type next")[2]
    lines = [*re.findall(r"^  (\S+ .+?)  +\S", last, re.M), *re.findall(r"for a summary, run\n  (.+)", last)]
    assert len(lines) >= 4
    for called in lines[1:]:  # the same as the first
        done = subprocess.run(
            ["sh", "-c", called], cwd=BIN.parent, env=environment, capture_output=True, text=True, timeout=120, check=True
        )
    assert "Memory of" in done.stdout


@pytest.mark.parametrize("seed", [1, 7])
def test_mom_relieves_a_host_that_would_swap_without_it(seed: int) -> None:
    summary = Summary()
    for moment in moments(seed):
        summary.add(moment)
    waited, waited_alone = (one.snapshot.host.number("psi_memory_some_total") or 0 for one in (moment.report, moment.alone))
    managed, alone = summary.managed, summary.alone
    assert (managed.available.least or 0) > 1 << 20, "its kernel never has to swap by itself"
    assert alone.available.least == pytest.approx(SWAPS_BELOW_SHARE * summary.host), "its kernel swaps all that is more"
    assert (alone.swapped.most or 0) > 1 << 20
    assert 2 * waited < waited_alone
    assert summary.returned > 0.95
    assert (managed.reclaimed.most or 0) > 0 == alone.reclaimed.most
    assert (managed.swapped.most or 0) > 1 << 20, "what is not touched"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Return the output without a terminal, and the folder."""
    folder = tmp_path_factory.mktemp("shown")
    return demo("--seconds", "0", "--seed", "5", "--output", str(folder)), folder


def test_the_same_seed_tells_the_same_story() -> None:
    first, second = (
        [[guest.number("balloon_cur") for guest in moment.report.snapshot.listed] for moment in story] for story in (moments(7), play(7))
    )
    assert first == second


def test_without_a_terminal_it_prints_lines_that_a_log_can_hold(shown: tuple[str, Path]) -> None:
    text, folder = shown
    lines = text.replace(str(folder), "~/demo").splitlines()  # the length of the folder's name varies
    assert len([line for line in lines if re.match(r" *\d+:\d\d  with mom: available .* \| without mom: available ", line)]) == CYCLES // 5
    assert all(len(line) <= 130 and line.isprintable() for line in lines)


def test_every_picture_fits_into_a_terminal_of_80_by_24() -> None:
    for moment in moments(1):
        console = Console(width=80, height=24, force_terminal=True, color_system=None, record=True, file=None, quiet=True)
        lines = console.render_lines(frame(moment), pad=False)
        texts = ["".join(segment.text for segment in line) for line in lines]
        assert len(texts) <= 23
        assert max(len(text) for text in texts) <= 80


def test_it_leaves_a_recording_behind(shown: tuple[str, Path]) -> None:
    text, folder = shown
    assert f"recorded in {folder / 'recording'}" in text
    replayed = subprocess.run([MOM, "replay", folder / "recording"], capture_output=True, text=True, check=True, timeout=300).stdout
    assert "all decisions are identical" in replayed
