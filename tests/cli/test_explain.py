"""`mom explain` and the verbs that ask a running mom: through its socket, from its status file, or from a recording."""

from __future__ import annotations

import json
import signal
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from mom_cli.moments import moment

if TYPE_CHECKING:
    from conftest import Mom

SIM = """
interval: 200ms
state_directory: {folder}/state
run_directory: {folder}/run
plugins:
  sim: {{guests: 6}}
  balloon: {{}}
  ksm: {{}}
  policy: {{}}
{more}
guests:
  "*": {{guarantee: 200MiB}}
"""


def started(mom: Mom, *plugins: str) -> None:
    mom.config.write_text(SIM.format(folder=mom.directory, more="".join(f"  {one}\n" for one in plugins)))
    mom.start()
    mom.wait_for((mom.directory / "run/status.json").exists)
    mom.wait_for(lambda: json.loads((mom.directory / "run/status.json").read_text())["cycle"]["number"] > 3)


def a_guest(mom: Mom) -> str:
    return str(json.loads(mom("guests", "--json").stdout)[0]["name"])


def test_a_running_mom_explains_a_guest_through_its_socket(mom: Mom) -> None:
    started(mom, "http: {}")
    name = a_guest(mom)
    told = mom("explain", name)
    assert told.returncode == 0, told.stderr
    assert f"{name}, as of cycle" in told.stdout
    assert f"from {mom.directory}/run/mom.sock" in told.stdout
    for label in ("Now", "Needs", "Guaranteed", "Since", "Host", "Wanted", "Next"):
        assert f"\n{label} " in told.stdout, told.stdout
    assert "It is guaranteed 200 MiB" in told.stdout
    content = json.loads(mom("explain", name, "--json").stdout)
    assert content["guest"]["name"] == name
    assert content["memory"]["guarantee_kib"] == 200 * 1024


def test_why_is_told_in_the_words_of_the_policy_or_by_its_conditions(mom: Mom) -> None:
    started(mom, "http: {}")
    name = a_guest(mom)
    told = mom("explain", name)
    assert told.returncode == 0, told.stderr
    assert "\nWhy " in told.stdout, told.stdout
    content = json.loads(mom("explain", name, "--json").stdout)
    assert content["why_unchanged"] or content["decisions"][-1]["why"]
    (mom.directory / "mine.policy").write_text(
        '(with Guests g (if (> g.balloon_max 1048576) (g.Control "balloon_target" (- g.balloon_max 1024)) 0))\n'
    )
    assert mom("policy", "set", "50_balloon", str(mom.directory / "mine.policy")).returncode == 0

    def by_mine() -> list[dict[str, Any]]:
        decisions = json.loads(mom("explain", name, "--json").stdout)["decisions"]
        return [one for one in decisions if one["why"].startswith("(> g.balloon_max 1048576) is true")]

    mom.wait_for(lambda: bool(by_mine()))  # until it is in force: the one before has decided, too
    (decision,) = by_mine()
    assert (decision["source"]["name"], decision["source"]["line"]) == ("50_balloon", 1)
    assert "(g.balloon_max is " in decision["why"]


def test_a_guest_that_is_not_there_is_a_no_with_near_names(mom: Mom) -> None:
    started(mom, "http: {}")
    name = a_guest(mom)
    told = mom("explain", name + "x")
    assert told.returncode == 1
    assert told.stderr.count("there is no guest") == 1
    assert f"did you mean {name}" in told.stderr


def test_without_the_socket_the_last_cycle_is_explained_and_that_is_said(mom: Mom) -> None:
    started(mom)
    told = mom("explain", a_guest(mom))
    assert told.returncode == 0, told.stderr
    assert "status.json" in told.stdout
    assert "Only the last cycle is known" in told.stdout
    assert "earlier cycles are not at hand" in told.stdout


def test_without_a_running_mom_it_says_what_to_do(mom: Mom) -> None:
    mom.config.write_text(SIM.format(folder=mom.directory, more=""))
    told = mom("explain", "web-1")
    assert (told.returncode, told.stdout) == (1, "")
    assert "start it with mom run" in told.stderr
    told = mom("explain", "web-1", "--at", "10:32")
    assert told.returncode == 1
    assert "enables no plugin that records" in told.stderr


def test_what_the_verbs_show_comes_from_the_socket_and_says_so(mom: Mom) -> None:
    started(mom, "http: {}")
    status = mom("status")
    assert f"says {mom.directory}/run/mom.sock" in status.stdout
    assert "on sim:///" in status.stdout
    assert "changes to put back" in status.stdout
    found = json.loads(mom("status", "--json").stdout)
    of_file = json.loads((mom.directory / "run/status.json").read_text())
    assert found.keys() >= of_file.keys()
    assert found["plugins"][0].keys() >= of_file["plugins"][0].keys()
    assert found["hypervisor"] == of_file["hypervisor"]
    assert found["guests"]["columns"] == of_file["guests"]["columns"]
    assert "run/mom.sock" in mom("guests").stdout.splitlines()[-1]
    assert "balloon" in json.loads(mom("config", "show", "--running", "--json").stdout)["settings"]["plugins"]


def test_a_mom_that_does_not_answer_is_told_and_the_file_goes_on(mom: Mom) -> None:
    started(mom, "http: {}")
    process = mom.started[-1]
    process.send_signal(signal.SIGSTOP)
    try:
        status = mom("status")
    finally:
        process.send_signal(signal.SIGCONT)
    assert status.returncode == 1
    assert "did not answer" in status.stderr
    assert "HANGS" in status.stdout
    assert "says" in status.stdout
    assert "status.json" in status.stdout


def test_a_configuration_that_is_no_longer_the_files_is_shown_beside_it(mom: Mom) -> None:
    started(mom, "http: {}")
    mom.config.write_text(mom.config.read_text().replace("200ms", "300ms"))
    (row,) = [line.split() for line in mom("config", "show", "--running").stdout.splitlines() if line.startswith("interval")]
    assert row == ["interval", "200ms", "300ms"]


def test_what_was_is_explained_from_a_recording_and_its_gaps_are_said(mom: Mom) -> None:
    started(mom, "record: {}")
    name = a_guest(mom)
    time.sleep(2)
    now = mom("explain", name, "--at", "1s ago")
    assert now.returncode == 0, now.stderr
    assert "state/recording" in now.stdout
    assert "Nothing was recorded" not in now.stdout
    assert "There it says" in now.stdout or "No policy wants" in now.stdout
    mom.started[-1].terminate()
    assert mom.started[-1].wait(60) == 0
    later = mom("explain", name, "--at", datetime.fromtimestamp(time.time() + 3600, UTC).isoformat())
    assert later.returncode == 0
    assert "Nothing was recorded at" in later.stdout
    assert "the recording ends with it" in later.stdout
    earlier = mom("explain", name, "--at", "2h ago")
    assert earlier.returncode == 1
    assert "the recording begins at" in earlier.stderr
    last = mom("explain", name, "--recording", str(mom.directory / "state/recording"))
    assert last.returncode == 0, last.stderr
    assert "\nWhy " in last.stdout, last.stdout
    assert mom("explain", "nobody", "--at", "1s ago").returncode == 1


def test_without_the_socket_a_recording_is_pointed_to_and_says_why_in_the_words_of_a_running_mom(mom: Mom) -> None:
    started(mom, "record: {}", "http: {}")
    name = a_guest(mom)
    live = json.loads(mom("explain", name, "--json").stdout)
    written = datetime.fromtimestamp(int(live["time"] * 1e6) / 1e6, UTC).isoformat()
    there = lambda: json.loads(mom("explain", name, "--at", written, "--json").stdout or "{}")  # noqa: E731  # asked until the cycle is written
    mom.wait_for(lambda: there().get("cycle") == live["cycle"])
    told = there()
    assert told["remarks"] == []
    words = lambda content: (content["why_unchanged"], [one["why"] for one in content["decisions"]])  # noqa: E731  # of both
    assert words(told) == words(live)
    assert any([told["why_unchanged"], *words(told)[1]])
    mom.started[-1].terminate()
    assert mom.started[-1].wait(60) == 0
    started(mom, "record: {}")
    assert f"The recording tells that, too: `mom explain {name} --at '1s ago' -c " in mom("explain", name).stdout


def test_a_gap_between_two_runs_is_named_with_both_ends(mom: Mom) -> None:
    started(mom, "record: {}")
    name = a_guest(mom)
    mom.started[-1].terminate()
    mom.started[-1].wait(60)
    ended = time.time()
    mom.wait_for(lambda: time.time() > ended + 12)
    (mom.directory / "run/status.json").unlink(missing_ok=True)
    started(mom, "record: {}")
    told = mom("explain", name, "--at", datetime.fromtimestamp(ended + 11.5, UTC).isoformat())
    assert told.returncode == 0, told.stderr
    assert " earlier, and the next one is of " in told.stdout


@pytest.mark.parametrize("text", ["", "yesterday", "25:00", "5 ago", "2026-13-01", "-5m ago", "99999999999d ago"])
def test_what_is_no_time_is_misuse(mom: Mom, text: str) -> None:
    told = mom("explain", "web-1", "--at", text)
    assert told.returncode == 2
    assert "is no time; write it like" in told.stderr


def test_times_are_what_they_look_like() -> None:
    now = datetime(2026, 11, 20, 10, 0, tzinfo=UTC).timestamp()
    assert moment("5m ago", "--at", now) == now - 300
    assert moment("09:30", "--at", now) == now - 1800
    assert moment("9:30:30", "--at", now) == now - 1770
    assert moment("10:32", "--at", now) == now + 1920 - 86400, "the last one that has been"
    assert moment("2026-11-20T09:00", "--at", now) == now - 3600
    assert moment("2026-11-20T09:00+01:00", "--at", now) == now - 7200


def test_what_is_wrong_with_a_policy_for_many_guests_is_said_once_with_an_example(mom: Mom) -> None:
    started(mom, "http: {}")
    count = len(json.loads(mom("guests", "--json").stdout))
    text = '(with Guests g (g.Control "balloon_target" (/ g.balloon_max (- g.balloon_cur g.balloon_cur))))\n'
    (mom.directory / "bad.policy").write_text(text)
    assert mom("policy", "set", "60_bad", str(mom.directory / "bad.policy")).returncode == 0

    def lines() -> list[str]:
        return [line for line in mom("status").stdout.splitlines() if "60_bad:1:44" in line]

    mom.wait_for(lambda: bool(lines()))
    (line,) = lines()
    assert line.startswith(f"  error: 60_bad:1:44: {count} guests ("), line
    assert ": zero-division: division by zero in " in line
    assert f" and {count - 3} more): " in line, "the first are named"
    assert " (such as " in line
    assert ": g.balloon_max is " in line, "the values are the example's"
    assert line.count("zero-division: ") == 1
    assert ", for " in line
    place = {"name": "60_bad", "line": 1, "column": 44}
    entities = {one["entity"]["id"] for one in json.loads(mom("status", "--json").stdout)["problems"] if one["source"] == place}
    assert len(entities) == count, "for programs each is there by itself"
