"""The lease: when it is over, who may act, and what the two halves of its file say."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core.cli.lifeline import IN_FORCE, config_as_left, let_guardian_finish
from mom_core.config import Config
from mom_core.errors import MomError
from mom_core.guardian import something_left
from mom_core.lease import Lease, LeaseFile, LeaseLost, Term, judge
from mom_core.processes import OtherProcess, boot_id, start_ticks

TERM = Term(pid=1, start=2, boot="b", renewed=100.0, until=160.0, limit=220.0, lease=60.0)


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def lease(tmp_path: Path, time: Time) -> Lease:
    return Lease(tmp_path, time)


def term(lease: Lease) -> Term:
    found = lease.file.term()
    assert found is not None
    return found


def another(lease: Lease, **changes: object) -> None:
    """As if another process had written what stands there."""
    lease.file.write_term(dataclasses.replace(term(lease), pid=99_999_999, **changes))  # type: ignore[arg-type]  # fields by name


def test_a_living_mom_has_until_its_next_cycle_is_due() -> None:
    assert judge(TERM, alive=True, dead_since=0, now=159, boot="b").wait == 1
    assert judge(TERM, alive=True, dead_since=0, now=160, boot="b").over


def test_a_dead_mom_may_stay_away_for_the_lease() -> None:
    assert not judge(TERM, alive=False, dead_since=110, now=169, boot="b").over
    assert judge(TERM, alive=False, dead_since=110, now=170, boot="b").over


def test_moms_that_die_before_their_first_cycle_do_not_go_on_for_ever() -> None:
    assert judge(TERM, alive=False, dead_since=219, now=220, boot="b").over


def test_one_that_wants_to_be_followed_has_the_lease_from_its_end_on() -> None:
    kept = dataclasses.replace(TERM, kept=True)
    assert not judge(kept, alive=False, dead_since=101, now=159, boot="b").over
    assert judge(kept, alive=False, dead_since=101, now=160, boot="b").over


def test_after_a_reboot_it_is_over() -> None:
    assert judge(TERM, alive=True, dead_since=0, now=101, boot="another").over


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.booleans(), st.booleans())
def test_it_is_over_sooner_or_later_and_stays_over(dead_since: float, now: float, alive: bool, kept: bool) -> None:
    one = dataclasses.replace(TERM, kept=kept)
    verdict = judge(one, alive=alive, dead_since=dead_since, now=now, boot="b")
    assert verdict.over or verdict.wait > 0
    assert judge(one, alive=alive, dead_since=dead_since, now=max(now, one.limit), boot="b").over
    if verdict.over:
        assert judge(one, alive=alive, dead_since=dead_since, now=now + 1, boot="b").over


def test_each_cycle_renews_it(lease: Lease, time: Time) -> None:
    lease.begin(60, 15)
    assert (term(lease).renewed, term(lease).until) == (1000, 1060)
    time.now = 1005
    lease.renew(60, 15)
    assert (term(lease).renewed, term(lease).until) == (1005, 1065)
    lease.renew(60, 900)
    assert term(lease).until == 1905, "never less than a cycle may take"


def test_its_file_keeps_its_size(lease: Lease, time: Time) -> None:
    lease.begin(60, 15)
    size = lease.file.path.stat().st_size
    for _ in range(3):
        time.now += 12345.678
        lease.renew(60, 15)
    assert lease.file.path.stat().st_size == size


def test_a_successor_gets_its_time_but_does_not_renew_before_its_first_cycle(lease: Lease, time: Time, tmp_path: Path) -> None:
    lease.begin(60, 15)
    another(lease)
    time.now = 1050
    Lease(tmp_path, time).begin(60, 15)
    assert (term(lease).renewed, term(lease).until) == (1000, 1110)
    for _ in range(5):  # and so they die, one after the other
        another(lease)
        time.now += 10
        Lease(tmp_path, time).begin(60, 15)
        assert term(lease).limit == 1120


def test_after_a_clean_end_the_next_one_begins_afresh(lease: Lease, time: Time, tmp_path: Path) -> None:
    lease.begin(60, 15)
    lease.end(left=False, kept=False)
    assert term(lease).ended
    time.now = 1030
    Lease(tmp_path, time).begin(60, 15)
    assert (term(lease).renewed, term(lease).ended) == (1030, False)


def test_what_is_kept_has_the_lease_and_what_could_not_be_put_back_has_none(lease: Lease, time: Time) -> None:
    lease.begin(60, 15)
    time.now = 1500
    lease.end(left=True, kept=True)
    assert (term(lease).kept, term(lease).until) == (True, 1560)
    lease.begin(60, 15)
    lease.end(left=True, kept=False)
    assert judge(term(lease), alive=False, dead_since=1500, now=1500, boot=boot_id()).over


def test_whose_lease_was_taken_may_not_act_any_more(lease: Lease, time: Time) -> None:
    lease.begin(60, 15)
    lease.check()
    lease.file.write_taken(term(lease))
    with pytest.raises(LeaseLost, match="taken"):
        lease.check()
    lease.renew(60, 15)
    lease.end(left=True, kept=False)
    assert term(lease).renewed == 1000, "and says nothing about it any more"


def test_a_lease_that_was_taken_from_a_predecessor_is_no_hindrance(lease: Lease, time: Time) -> None:
    lease.begin(60, 15)
    another(lease)
    lease.file.write_taken(term(lease))
    lease.begin(60, 15)
    lease.check()


def test_who_finds_another_moms_name_on_it_may_not_act(lease: Lease) -> None:
    lease.begin(60, 15)
    another(lease)
    with pytest.raises(LeaseLost, match="99999999"):
        lease.check()


def test_a_file_that_somebody_has_removed_is_made_again(lease: Lease) -> None:
    lease.begin(60, 15)
    lease.file.path.unlink()
    lease.check()
    lease.renew(60, 15)
    assert term(lease).pid == os.getpid()


@pytest.mark.parametrize("text", [b"", b"nonsense", b"00000000 {}", b"\0" * 1024, b"12345678 " + b"[" * 500, b"zz {}"])
def test_a_damaged_file_says_nothing(tmp_path: Path, text: bytes) -> None:
    file = LeaseFile(tmp_path)
    file.path.write_bytes(text)
    assert file.term() is None
    assert file.taken_from() is None


def test_without_a_lease_nothing_is_watched(lease: Lease) -> None:
    lease.begin(0, 15)
    assert term(lease).ended
    lease.check()
    lease.renew(60, 15)
    assert not term(lease).ended, "until a reload brings one"


def test_a_disk_that_takes_nothing_is_no_reason_to_stop(lease: Lease, caplog: pytest.LogCaptureFixture) -> None:
    lease.file.path.mkdir()
    lease.begin(60, 15)
    lease.renew(60, 15)
    lease.check()
    assert "cannot write" in caplog.text


def test_a_process_is_known_by_its_number_and_start() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        try:
            start = start_ticks(child.pid)
            one = OtherProcess(child.pid, start)
            assert one.alive()
            assert not OtherProcess(child.pid, start - 1).alive(), "an earlier one that had this number"
            one.signal(signal.SIGSTOP)
            until = monotonic() + 30
            while not one.stopped():
                assert monotonic() < until
                sleep(0.001)
            assert one.signal(signal.SIGKILL) == ""
            assert one.wait(30), "dead, though nobody has taken note of it yet"
            assert child.returncode is None
        finally:
            child.kill()  # should anything fail here: a child that is stopped does not end by itself, and is waited for
    assert one.signal(signal.SIGKILL) == ""
    one.close()
    assert not OtherProcess(child.pid, start).alive()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "3", '"mom.yaml"', "[" * 100_000])
def test_a_damaged_copy_of_the_configuration_is_said_to_be_damaged(tmp_path: Path, content: str) -> None:
    (tmp_path / IN_FORCE).write_text(content)
    with pytest.raises(MomError, match=r"is damaged: .*name the configuration with -c"):
        config_as_left(tmp_path)


@pytest.mark.parametrize(
    ("ledger", "left"),
    [(None, False), ('{"content":[]}', False), ('{"content":[{}]}', True), ("", True), ("{}", True), ("[]", True), ("[" * 100_000, True)],
    ids=["none", "empty", "one entry", "no text", "no entries", "a list", "too deep"],
)
def test_a_ledger_that_the_guardian_does_not_understand_may_hold_something(tmp_path: Path, ledger: str | None, left: bool) -> None:
    if ledger is not None:
        (tmp_path / "ledger.json").write_text(ledger)
    assert something_left(tmp_path) is left


class Awaited(threading.Event):
    """While somebody waits for this, something happens instead."""

    def __init__(self, happens: Callable[[], object]) -> None:
        super().__init__()
        self.waits = 0
        self._happens = happens

    def wait(self, timeout: float | None = None) -> bool:
        self.waits += 1
        self._happens()
        return False


def test_who_comes_when_the_lease_is_over_for_good_lets_the_guardian_put_everything_back_first(tmp_path: Path) -> None:
    config = Config(run_directory=tmp_path / "run", state_directory=tmp_path / "state")
    ledger = config.state_directory / "ledger.json"
    config.run_directory.mkdir()
    config.state_directory.mkdir()
    now = monotonic()
    over = Term(4_000_000, 1, boot_id(), renewed=now - 9, until=now - 6, limit=now - 3, lease=2)
    left, nothing = json.dumps({"content": [{}]}), json.dumps({"content": []})

    def waited(term: Term, entries: str, *, guarded: bool = True) -> bool:
        """Whether it waits until somebody has put everything back."""
        end = Awaited(lambda: ledger.write_text(nothing))
        LeaseFile(config.run_directory).write_term(term)
        ledger.write_text(entries)
        with (config.run_directory / "guardian.lock").open("w") as lock:
            if guarded:
                fcntl.flock(lock, fcntl.LOCK_EX)
            let_guardian_finish(config, end)
        return end.waits > 0

    assert waited(over, left)
    assert not waited(over, nothing)
    assert not waited(over, left, guarded=False), "nobody puts back: whoever comes takes over"
    assert not waited(dataclasses.replace(over, limit=now + 60), left), "there is time to take over"
    assert not waited(dataclasses.replace(over, ended=True), left)
    assert not waited(dataclasses.replace(over, boot="another"), left), "the host was started anew"
    stopped = threading.Event()
    stopped.set()
    let_guardian_finish(config, stopped)
