"""`mom status` beside a running mom: the verdict comes first, and sets the exit code."""

import json
from typing import Any

from mom_on_files import Mom

STALLED = "some avg10=99.00 avg60=97.00 avg300=90.00 total=41\nfull avg10=80.00 avg60=70.00 avg300=60.00 total=20\n"
CALM = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"


def told_by(verdict: dict[str, Any]) -> set[str]:
    """Plugins that report conditions of the host."""
    return {plugin for condition in verdict["conditions"] for plugin in condition["plugins"]}


def test_a_host_that_is_full_is_said_first_in_words_and_by_the_exit_code(mom: Mom) -> None:
    pressure, meminfo = mom.root / "proc/pressure/memory", mom.root / "proc/meminfo"
    pressure.write_text(CALM)
    mom.configure("balloon: {}", "http: {}")
    mom.waits["mom_core.engine.problems.GAP_SECONDS"] = 3.0
    mom.begin()
    fine = mom("status")
    assert fine.returncode == 0, fine.stdout + fine.stderr
    assert fine.stdout.startswith("ok     nothing is wrong with the host")

    # In two steps. Otherwise, mom would report for a long time that a control group is at its limit.
    meminfo.write_text(meminfo.read_text().replace("MemAvailable: 2097152", "MemAvailable: 0"))
    mom.wait_for(lambda: told_by(mom.status()["verdict"]) == {"balloon"})
    pressure.write_text(STALLED)
    mom.wait_for(
        lambda: told_by(mom.status()["verdict"]) == told_by(json.loads(mom("status", "--json").stdout)["verdict"]) == {"balloon", "host"}
    )
    full = mom("status")
    assert full.returncode == 1
    first, *rest = full.stdout.splitlines()
    assert first.startswith("WRONG  ")
    assert "the host is full: 0 KiB of 8.00 GiB available" in first
    assert "processes wait for memory 97 % of the time" in first
    assert rest[0].startswith("       why: ")
    assert rest[1].startswith("       → ")
    told = json.loads(mom("status", "--json").stdout)
    written = json.loads((mom.directory / "run/status.json").read_text())
    for verdict in (told["verdict"], written["verdict"]):
        (alert,) = verdict["conditions"]
        assert (verdict["severity"], alert["severity"], sorted(alert["plugins"])) == ("error", "error", ["balloon", "host"])
    doctor = mom("doctor")
    assert "WRONG  core: verdict: " in doctor.stdout
    assert doctor.returncode == 1

    pressure.write_text(CALM)
    meminfo.write_text(meminfo.read_text().replace("MemAvailable: 0", "MemAvailable: 2097152"))
    mom.wait_for(lambda: mom.logged("no longer bad"))
    assert mom("status").returncode == 0
