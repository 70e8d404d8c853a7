"""`mom explain` and other commands that ask a running mom or read a recording."""

import json
import os
import signal
import time
from datetime import UTC, datetime
from typing import Any

from mom_on_files import Mom


def a_guest(mom: Mom) -> str:
    return str(json.loads(mom("guests", "--json").stdout)[0]["name"])


def explained(mom: Mom, *words: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(mom("explain", *words, "--json").stdout or "{}")
    return content


# --- through the socket ------------------------------------------------------------------------------------------------------------


def test_a_running_mom_explains_a_guest_through_its_socket(simulated: Mom) -> None:
    name = a_guest(simulated)
    told = simulated("explain", name)
    assert told.returncode == 0, told.stderr
    assert f"{name}, as of cycle" in told.stdout
    assert f"from {simulated.directory}/run/mom.sock" in told.stdout
    for label in ("Now", "Needs", "Guaranteed", "Since", "Host", "Wanted", "Why", "Next"):
        assert f"\n{label} " in told.stdout, told.stdout
    assert "It is guaranteed 200 MiB" in told.stdout
    content = explained(simulated, name)
    assert content["guest"]["name"] == name
    assert content["memory"]["guarantee_kib"] == 200 * 1024
    assert content["why_unchanged"] or content["decisions"][-1]["why"]


def test_what_the_verbs_show_says_where_it_is_from(simulated: Mom) -> None:
    status = simulated("status")
    assert f"(from {simulated.directory}/run/status.json" in status.stdout
    assert "on sim:///" in status.stdout
    assert " to undo when mom stops" in status.stdout
    found = json.loads(simulated("status", "--json").stdout)
    of_file = json.loads((simulated.directory / "run/status.json").read_text())
    assert found.keys() >= of_file.keys()
    assert found["plugins"][0].keys() >= of_file["plugins"][0].keys()
    assert found["hypervisor"] == of_file["hypervisor"]
    assert found["guests"]["columns"] == of_file["guests"]["columns"]
    assert "run/status.json" in simulated("guests").stdout.splitlines()[-1]
    assert "balloon" in json.loads(simulated("config", "show", "--running", "--json").stdout)["settings"]["plugins"]


def test_a_configuration_that_is_no_longer_the_files_is_shown_beside_it(simulated: Mom) -> None:
    before = simulated.config.read_text()
    simulated.config.write_text(before.replace("200ms", "300ms"))
    (row,) = [line.split() for line in simulated("config", "show", "--running").stdout.splitlines() if line.startswith("interval")]
    simulated.config.write_text(before)
    assert row == ["interval", "200ms", "300ms"]


def test_a_mom_that_has_hung_is_told(simulated: Mom) -> None:
    process = simulated.started[-1]
    process.send_signal(signal.SIGSTOP)
    try:
        simulated.wait_for(lambda: simulated("status").returncode == 1)
        status, doctor = simulated("status"), simulated("doctor")
    finally:
        process.send_signal(signal.SIGCONT)
    assert "HANGS" in status.stdout
    assert "mom has hung, or cannot write its status: its last cycle ended " in status.stdout
    assert ", and has hung" in doctor.stdout


# --- without a mom ---------------------------------------------------------------------------------------------------------


def test_without_a_running_mom_it_says_what_to_do(mom: Mom) -> None:
    told = mom("explain", "web-1")
    assert (told.returncode, told.stdout) == (1, "")
    assert "write `http: {}` under `plugins`, or use --at" in told.stderr
    told = mom("explain", "web-1", "--at", "10:32")
    assert told.returncode == 1
    assert "enables no plugin that records" in told.stderr


# --- from a recording --------------------------------------------------------------------------------------------------------------


def test_a_recording_says_why_in_the_words_of_the_running_mom_and_where_it_ends(simulated: Mom) -> None:
    name = a_guest(simulated)

    live = explained(simulated, name)
    written = datetime.fromtimestamp(int(live["time"] * 1e6) / 1e6, UTC).isoformat()
    simulated.wait_for(lambda: explained(simulated, name, "--at", written).get("cycle") == live["cycle"])
    told = explained(simulated, name, "--at", written)
    assert "state/recording" in told["from"]
    words = lambda content: (content["why_unchanged"], [one["why"] for one in content["decisions"]])  # noqa: E731  # of both
    assert words(told) == words(live)
    assert any([told["why_unchanged"], *words(told)[1]])
    later = simulated("explain", name, "--at", datetime.fromtimestamp(time.time() + 3600, UTC).isoformat())
    assert later.returncode == 0
    assert "Nothing was recorded at" in later.stdout
    earlier = simulated("explain", name, "--at", "2h ago")
    assert earlier.returncode == 1
    assert "the recording begins at" in earlier.stderr
    last = simulated("explain", name, "--recording", str(simulated.directory / "state/recording"))
    assert last.returncode == 0, last.stderr
    assert "\nWhy " in last.stdout, last.stdout
    assert simulated("explain", "nobody", "--at", "1s ago").returncode == 1
    assert simulated("explain", os.fsdecode(b"\xff")).returncode == 1, "no name of a guest, and no mistake of mom"
    assert simulated("explain", name, "--recording", str(simulated.directory / "nowhere")).returncode == 2
