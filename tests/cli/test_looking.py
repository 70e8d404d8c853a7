"""`mom history` and `mom events` beside a running mom."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Mom

MOM = Path(sys.executable).parent / "mom"


def started(mom: Mom) -> None:
    mom.configure("merge: {}", "http: {}")
    mom.start()
    mom.wait_for((mom.directory / "run/status.json").exists)
    mom.wait_for(lambda: mom.knob() == 1)


def test_the_host_has_a_past_with_units(mom: Mom) -> None:
    started(mom)
    told = mom("history", "host", "-n", "3")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("time")
    assert "8.00 GiB" in told.stdout
    assert "run/mom.sock" in told.stdout.splitlines()[-1]
    assert "mem_available" in json.loads(mom("history", "host", "--json").stdout)[0]["fields"]
    nobody = mom("history", "nobody")
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert "there is no guest nobody" in nobody.stderr


def test_what_came_of_decisions_is_listed(mom: Mom) -> None:
    started(mom)
    outcome = json.loads(mom("events", "--outcomes", "--guest", "host", "--json").stdout)[0]
    assert outcome["control"] == "ksm_run"
    assert "ksm_run" in mom("events", "--outcomes").stdout
    assert mom("events", "--outcomes", "--guest", "nobody").returncode == 1


def test_events_are_told_once_or_as_long_as_somebody_follows(mom: Mom) -> None:
    started(mom)
    once = mom("events")
    assert once.returncode == 0, once.stderr
    assert "cycle" in once.stdout
    assert len(once.stdout.splitlines()) == 1
    with subprocess.Popen(
        [MOM, "events", "--follow", "--json", "-c", mom.config],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=mom.environment,
    ) as following:
        assert following.stdout is not None
        numbers = [json.loads(following.stdout.readline())["cycle"]["number"] for _ in range(3)]
        assert numbers[0] < numbers[1] < numbers[2]
        mom.started[-1].terminate()
        assert following.wait(60) == 1, "the stream has ended"


def test_nobody_there_is_said_at_once(mom: Mom) -> None:
    mom.configure("http: {}")
    for verb in (["history", "host"], ["events", "--outcomes"], ["events"]):
        began = time.monotonic()
        told = mom(*verb)
        assert told.returncode == 1
        assert "no process serves" in told.stderr
        assert time.monotonic() - began < 30
