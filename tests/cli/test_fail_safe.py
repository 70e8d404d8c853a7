"""mom hangs, dies, is followed by another: what it has changed stays for the lease, and is put back after it. Real processes."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mom_core.lease import LeaseFile, Term
from mom_core.processes import start_ticks

if TYPE_CHECKING:
    from conftest import Mom

LEASE = 4.0
"""Seconds: a mom that a busy machine holds up for less than that does not hang."""


@pytest.fixture(autouse=True)
def short(mom: Mom) -> None:
    configure(mom)


def configure(mom: Mom, *plugins: str, **settings: str) -> None:
    """Deadlines of which six fit into the lease: it is never shorter than a cycle may take."""
    mom.configure("merge: {}", *plugins, **{"lease": f"{LEASE:g}s", **settings})
    mom.config.write_text(mom.config.read_text().replace("{}", "{deadline: 400ms}"))


def start(mom: Mom) -> subprocess.Popen[bytes]:
    process = mom.start()
    mom.wait_for(lambda: mom.knob() == 1)
    mom.wait_for(lambda: guardian(mom) != 0)
    return process


def guardian(mom: Mom) -> int:
    """Its process id, 0 if there is none."""
    try:
        pid = int((mom.directory / "run/guardian.lock").read_text() or 0)
    except (FileNotFoundError, ValueError):
        return 0
    try:
        return pid if b"mom_core.guardian" in Path(f"/proc/{pid}/cmdline").read_bytes() else 0
    except OSError:
        return 0


def stays(mom: Mom, seconds: float) -> bool:
    return stays_until(mom, time.monotonic() + seconds)


def stays_until(mom: Mom, until: float) -> bool:
    while True:
        applied = mom.knob() == 1
        if time.monotonic() >= until:
            return True  # the last look may have come too late to tell
        if not applied:
            return False
        time.sleep(0.01)


def hold(process: subprocess.Popen[bytes]) -> None:
    """Stop a process. It stands still when this returns."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)


def term_of(mom: Mom) -> Term:
    term = LeaseFile(mom.directory / "run").term()
    assert term is not None
    return term


def works(mom: Mom, process: subprocess.Popen[bytes], since: float) -> bool:
    """Whether this mom has completed a cycle since then."""
    term = term_of(mom)
    return term.pid == process.pid and term.renewed > since


def entries(mom: Mom) -> list[dict[str, object]]:
    content: dict[str, list[dict[str, object]]] = json.loads((mom.directory / "state/ledger.json").read_text())
    return content["content"]


def test_what_a_killed_mom_has_changed_is_put_back_after_the_lease_and_not_before(mom: Mom) -> None:
    process = start(mom)
    killed = time.monotonic()
    process.kill()
    process.wait()
    assert stays_until(mom, killed + LEASE)
    mom.wait_for(lambda: mom.knob() == 0)
    mom.wait_for(lambda: entries(mom) == [])
    mom.wait_for(lambda: guardian(mom) == 0)
    assert re.search(r"died, and no other has come within \d+ s: what it has changed is put back", mom.log.read_text())


def test_a_mom_that_stands_still_is_ended_and_what_it_has_changed_put_back(mom: Mom) -> None:
    process = start(mom)
    hold(process)
    assert stays_until(mom, term_of(mom).until)
    mom.wait_for(lambda: mom.knob() == 0)
    assert process.poll() == -signal.SIGKILL, "it was dead before anything was put back"
    assert re.search(r"has not completed a cycle for \d+ s: it is ended", mom.log.read_text())


def test_a_mom_whose_engine_is_stuck_says_where_and_is_ended(mom: Mom) -> None:
    configure(mom, "sticks: {}")
    mom.environment["STICKS"] = str(mom.directory / "stick")
    process = start(mom)
    (mom.directory / "stick").touch()
    mom.wait_for(lambda: mom.knob() == 0)
    assert process.poll() == -signal.SIGABRT
    assert "mom_test_plugins.py" in mom.log.read_text(), "the traceback of the thread that sticks"


def test_a_plugin_that_hangs_does_not_cost_the_lease(mom: Mom) -> None:
    configure(mom, "hangs: {}")
    process = start(mom)
    assert stays(mom, 2 * LEASE)
    assert process.poll() is None
    process.terminate()
    assert process.wait(60) == 0


def test_one_that_was_stopped_for_less_than_the_lease_goes_on(mom: Mom) -> None:
    process = start(mom)
    hold(process)
    before = term_of(mom)
    time.sleep(LEASE / 4)
    process.send_signal(signal.SIGCONT)
    assert stays_until(mom, before.until + 1)
    mom.wait_for(lambda: term_of(mom).renewed > before.until)
    assert mom.knob() == 1
    assert process.poll() is None
    process.terminate()
    assert process.wait(60) == 0
    assert mom.knob() == 0


def test_who_follows_within_the_lease_keeps_what_was_applied(mom: Mom) -> None:
    configure(mom, lease="20s")
    process = start(mom)
    before = entries(mom)
    for end in (signal.SIGKILL, signal.SIGUSR2):
        process.send_signal(end)
        process.wait()
        ended = time.monotonic()
        assert mom.knob() == 1
        process = mom.start()
        mom.wait_for(partial(works, mom, process, ended))
    assert stays_until(mom, ended + 21), "nor do the leases of those before it end that"
    assert mom.log.read_text().count("took over 1 changes of an earlier run") == 2
    # A mom that was killed may have left it in doubt whether its change was made; its successor has seen that it was.
    settled = [{**entry, "in_doubt": False} for entry in before]
    assert entries(mom) == settled, "what stood there before mom is still known"
    process.terminate()
    assert process.wait(60) == 0
    assert mom.knob() == 0
    assert entries(mom) == []
    mom.wait_for(lambda: guardian(mom) == 0)


def test_who_comes_too_late_begins_afresh(mom: Mom) -> None:
    process = start(mom)
    process.send_signal(signal.SIGUSR2)
    assert process.wait(60) == 0
    assert mom.logged("1 changes stand, and are put back unless another mom comes within 4 s")
    mom.wait_for(lambda: mom.knob() == 0)
    mom.wait_for(lambda: entries(mom) == [])
    second = start(mom)
    assert len(entries(mom)) == 1
    second.terminate()
    assert second.wait(60) == 0


def test_moms_that_die_again_and_again_do_not_keep_it_for_ever(mom: Mom) -> None:
    process = start(mom)
    process.kill()
    process.wait()
    mom.environment["DIES_IN_SETUP"] = "1"
    configure(mom, "dies: {}")
    until = time.monotonic() + 90
    while mom.knob() == 1:
        assert time.monotonic() < until, mom.log.read_text()
        mom.start().wait()
    mom.wait_for(lambda: entries(mom) == [])


def test_on_stop_keep_is_for_every_stop(mom: Mom) -> None:
    configure(mom, on_stop="keep", lease="60s")
    process = start(mom)
    process.terminate()
    assert process.wait(60) == 0
    assert stays(mom, 1)
    done = mom("restore")
    assert "ksm_run put back to 0" in done.stdout, "an operator who does not want to wait"
    mom.wait_for(lambda: guardian(mom) == 0)


def test_the_first_signal_decides(mom: Mom) -> None:
    configure(mom, lease="60s")
    process = start(mom)
    process.send_signal(signal.SIGUSR2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert mom.knob() == 1


def test_without_a_lease_nothing_is_kept_and_nobody_watches(mom: Mom) -> None:
    configure(mom, lease="0s")
    process = mom.start()
    mom.wait_for(lambda: mom.knob() == 1)
    assert guardian(mom) == 0
    process.send_signal(signal.SIGUSR2)
    assert process.wait(60) == 0
    assert mom.knob() == 0
    assert mom.logged("nobody would put back what is kept")


def test_a_guardian_that_is_killed_is_replaced(mom: Mom) -> None:
    process = start(mom)
    first = guardian(mom)
    os.kill(first, signal.SIGKILL)
    mom.wait_for(lambda: guardian(mom) == 0)
    hold(process)  # it starts another one soon
    try:
        assert "nobody watches over mom" in mom("doctor").stdout
    finally:
        process.send_signal(signal.SIGCONT)
    mom.wait_for(lambda: guardian(mom) not in {0, first})
    process.kill()
    mom.wait_for(lambda: mom.knob() == 0)


def test_when_both_are_killed_restore_if_unclean_puts_back(mom: Mom) -> None:
    configure(mom, lease="10m")
    process = start(mom)
    watching = mom("restore", "--if-unclean")
    assert (watching.returncode, watching.stdout) == (0, f"mom runs as process {process.pid}, and takes care of it.\n")
    process.kill()
    process.wait()
    left = mom("restore", "--if-unclean")
    assert left.returncode == 0
    assert "The guardian puts everything back unless another mom comes within" in left.stdout
    assert mom.knob() == 1
    os.kill(guardian(mom), signal.SIGKILL)
    mom.wait_for(lambda: guardian(mom) == 0)
    mom.config.write_text("plugins: [broken")  # edited while mom ran
    mom.environment["RUNTIME_DIRECTORY"] = str(mom.directory / "run")
    done = mom("restore", "--if-unclean")
    assert done.returncode == 0, done.stderr
    assert "used instead: the configuration that was in force" in done.stderr
    assert mom.knob() == 0


def test_a_damaged_ledger_is_not_nothing_to_put_back(mom: Mom) -> None:
    ledger = mom.directory / "state/ledger.json"
    ledger.parent.mkdir()
    ledger.write_text('{"version":1,"crc32":1,"entries":[]}')
    done = mom("restore", "--if-unclean")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"the ledger {ledger} is damaged" in done.stderr
    assert ledger.exists(), "who does not hold mom's lock sets nothing aside"


def test_the_guardian_puts_back_with_what_was_in_force_whatever_the_file_says_now(mom: Mom) -> None:
    process = start(mom)
    mom.config.write_text("plugins: [broken")
    process.kill()
    mom.wait_for(lambda: mom.knob() == 0)


def test_the_copy_of_the_configuration_is_for_its_owner_only_and_goes_with_mom(mom: Mom) -> None:
    process = start(mom)
    copy = mom.directory / "run/in-force.json"
    assert copy.stat().st_mode & 0o777 == 0o600
    process.terminate()
    assert process.wait(60) == 0
    assert not copy.exists()


def test_a_copy_that_others_may_have_written_is_not_used(mom: Mom) -> None:
    process = start(mom)
    copy = mom.directory / "run/in-force.json"
    copy.chmod(0o666)
    os.kill(guardian(mom), signal.SIGSTOP)
    process.kill()
    process.wait()
    done = mom("restore", "--as-left", str(mom.directory / "run"))
    assert "others may have written it" in done.stderr
    assert mom.knob() == 0, "with the file that -c names"
    os.kill(guardian(mom), signal.SIGKILL)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGABRT], ids=["stopped", "ended by a watchdog together with mom"])
def test_a_guardian_that_is_told_to_end_after_mom_died_puts_back_at_once(mom: Mom, end: signal.Signals) -> None:
    configure(mom, lease="60s")
    process = start(mom)
    os.kill(guardian(mom), end)
    assert stays(mom, 1), "together with mom, which ends by itself"
    process.kill()
    mom.wait_for(lambda: mom.knob() == 0)


def test_a_process_that_got_the_number_of_a_dead_mom_is_not_harmed(mom: Mom) -> None:
    process = start(mom)
    os.kill(guardian(mom), signal.SIGKILL)
    process.kill()
    process.wait()
    with subprocess.Popen(["sleep", "600"]) as innocent:
        try:
            term = term_of(mom)
            LeaseFile(mom.directory / "run").write_term(dataclasses.replace(term, pid=innocent.pid))
            assert start_ticks(innocent.pid) != term.start
            words = [sys.executable, "-P", "-m", "mom_core.guardian", str(mom.directory / "run"), str(mom.directory / "state")]
            with mom.log.open("ab") as log:
                subprocess.run(words, stderr=log, stdout=log, timeout=120, check=True, env=mom.environment)
            assert mom.knob() == 0
            assert innocent.poll() is None
        finally:
            innocent.kill()


def test_a_mom_whose_lease_was_taken_ends_without_touching_anything(mom: Mom) -> None:
    process = start(mom)
    hold(process)
    (mom.root / "sys/kernel/mm/ksm/run").write_text("0\n")  # as if it had been put back
    LeaseFile(mom.directory / "run").write_taken(term_of(mom))
    process.send_signal(signal.SIGCONT)
    assert process.wait(60) == 1
    assert mom.logged("the lease was taken")
    assert mom.knob() == 0
    mom.wait_for(lambda: entries(mom) == [])


def test_a_guardian_that_ends_leaves_its_place_to_one_that_waits(mom: Mom) -> None:
    configure(mom, lease="60s")
    process = start(mom)
    first = guardian(mom)
    with mom.log.open("ab") as log, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(mom.directory / "notify"))
        systemd.settimeout(60)
        command = [str(Path(sys.executable).parent / "mom"), "guard", "-c", str(mom.config)]
        environment = {**mom.environment, "NOTIFY_SOCKET": str(mom.directory / "notify")}
        service = subprocess.Popen(command, stderr=log, stdout=log, env=environment)
        mom.started.append(service)
        assert b"waiting for another guardian to end" in systemd.recv(4096)
    process.send_signal(signal.SIGUSR2)
    process.wait(60)
    os.kill(first, signal.SIGTERM)
    mom.wait_for(lambda: guardian(mom) == service.pid)
    assert stays(mom, 2), "what is kept is kept"
    service.terminate()
    mom.wait_for(lambda: mom.knob() == 0)


def test_guard_as_a_service_stays_for_the_next_mom(mom: Mom) -> None:
    with mom.log.open("ab") as log:
        command = [str(Path(sys.executable).parent / "mom"), "guard", "-c", str(mom.config)]
        service = subprocess.Popen(command, stderr=log, stdout=log, env=mom.environment)
    mom.started.append(service)
    mom.wait_for(lambda: guardian(mom) == service.pid)
    for _ in range(2):
        process = mom.start()
        mom.wait_for(lambda: mom.knob() == 1)
        process.kill()
        mom.wait_for(lambda: mom.knob() == 0)
        mom.wait_for(lambda: entries(mom) == [])
    assert guardian(mom) == service.pid, "no mom has started another one"
    service.terminate()
    assert service.wait(60) == 0
