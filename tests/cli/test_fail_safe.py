"""mom hangs, is killed, or is restarted: effects for a supervisor and for the changes. Real processes."""

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mom_on_files import Mom

NOT_WATCHED = "mom was started without a watchdog"

IF_UNCLEAN = ("restore", "--if-unclean")
"""Command that the supervisor runs after mom has ended."""


def start(mom: Mom) -> subprocess.Popen[bytes]:
    """Return a mom that has completed a cycle."""
    process = mom.act()
    mom.wait_for((mom.directory / "run/keep").exists)
    return process


@pytest.fixture(scope="module")
def killed_once(moms: Callable[[], Mom], tmp_path_factory: pytest.TempPathFactory) -> tuple[Mom, Path]:
    """Return a copy of the host of a killed mom."""
    one = moms()
    process = start(one)
    process.kill()
    process.wait()
    return one, shutil.copytree(one.directory, tmp_path_factory.mktemp("left") / "mom")


@pytest.fixture
def killed(killed_once: tuple[Mom, Path]) -> Mom:
    """Return the host of a killed mom."""
    one, left = killed_once
    one.end()
    shutil.rmtree(one.directory)
    shutil.copytree(left, one.directory)
    return one


def entries(mom: Mom) -> list[dict[str, object]]:
    content: dict[str, list[dict[str, object]]] = json.loads((mom.directory / "state/ledger.json").read_text())
    return content["content"]


def test_a_mom_that_is_killed_leaves_its_changes_to_one_successor_which_takes_them_over(killed: Mom) -> None:
    before = entries(killed)
    for _ in range(2):
        listed = killed(*IF_UNCLEAN, "--dry-run").stdout
        assert "ksm_run was set to 1 by mom, and would be restored to 0" in listed, "to look changes nothing"
    left = killed(*IF_UNCLEAN)
    assert left.returncode == 0
    assert left.stdout.startswith("mom keeps 1 change for its next start; `mom restore`")
    assert killed.knob() == 1
    start(killed)
    assert killed.logged("took over 1 change of an earlier run")
    # The killed mom may not have recorded that its change was made. The next mom has checked it.
    assert entries(killed) == [{**entry, "in_doubt": False} for entry in before], "what stood there before mom is still known"
    killed.stop()
    assert killed.knob() == 0
    assert entries(killed) == []
    assert killed(*IF_UNCLEAN).stdout == "Nothing to restore.\n"


def test_a_mom_that_works_is_left_alone_and_its_changes_are_listed_and_counted_when_it_was_killed(mom: Mom) -> None:
    process = start(mom)
    done = mom(*IF_UNCLEAN)
    assert (done.returncode, done.stdout) == (0, f"mom runs as process {process.pid}, and restores the values itself.\n")
    listed = mom("restore", "--dry-run")
    assert (listed.returncode, listed.stdout.count("\n")) == (0, 1), listed.stderr
    assert "would be restored to 0" in listed.stdout
    assert NOT_WATCHED in mom("doctor").stdout
    process.kill()
    process.wait()
    said = mom("status")
    assert said.returncode == 1
    assert "The ledger lists 1 change of an earlier run of mom" in said.stdout
    assert "`mom restore`" in said.stdout
    assert json.loads(mom("status", "--json").stdout) == {"running": False, "to_put_back": 1}
    assert "for its next start" in mom(*IF_UNCLEAN).stdout
    done = mom("restore")
    assert (done.returncode, mom.knob()) == (0, 0), done.stderr
    assert "ksm_run restored to 0" in done.stdout


def test_a_successor_that_does_not_complete_a_cycle_has_everything_put_back(killed: Mom) -> None:
    killed(*IF_UNCLEAN)
    killed.configure("merge: {}", "dies: {}")
    assert killed.start().wait(60) == 1
    assert killed.knob() == 1
    done = killed(*IF_UNCLEAN)
    assert "ksm_run restored to 0" in done.stdout
    assert killed.knob() == 0
    assert entries(killed) == []


@pytest.mark.parametrize(("on_stop", "signals"), [("restore", [signal.SIGUSR2, signal.SIGTERM]), ("keep", [signal.SIGTERM])])
def test_sigusr2_and_on_stop_keep_for_the_next_mom_whatever_signal_follows(mom: Mom, on_stop: str, signals: list[signal.Signals]) -> None:
    mom.configure("merge: {}", on_stop=on_stop)
    process = start(mom)
    for one in signals:
        process.send_signal(one)
    assert process.wait(60) == 0
    assert mom.logged("ended; the ledger lists 1 change: the next start of mom takes them over")
    assert "for its next start" in mom(*IF_UNCLEAN).stdout
    assert mom.knob() == 1


def test_a_mom_that_is_killed_while_it_puts_back_leaves_that_to_the_supervisor(killed: Mom) -> None:
    (killed.directory / "run/keep").unlink()  # like ExecStop of the unit
    assert "ksm_run restored to 0" in killed(*IF_UNCLEAN).stdout
    assert killed.knob() == 0


def test_what_was_put_back_is_not_said_to_stand_where_the_ledger_could_not_be_written(mom: Mom) -> None:
    start(mom)
    ledger = mom.directory / "state/ledger.json"
    ledger.unlink()
    ledger.mkdir()  # cannot be replaced, as on a full disk
    mom.stop()
    assert mom.knob() == 0
    assert mom.logged("undid 1 of 1 change")
    assert mom.logged("ended; the ledger lists 1 change: the next start of mom takes them over")
    assert not mom.logged("changes stand")


def test_what_was_in_force_puts_back_whatever_the_file_says_now(killed: Mom) -> None:
    assert (killed.directory / "run/in-force.json").stat().st_mode & 0o777 == 0o600, "for its owner only"
    killed.config.write_text("plugins: [broken")
    assert killed("restore", "--as-left", str(killed.directory / "run")).returncode == 0
    assert killed.knob() == 0


def test_a_copy_of_the_configuration_that_others_may_have_written_is_not_used_and_goes_with_mom(killed: Mom) -> None:
    copy = killed.directory / "run/in-force.json"
    copy.chmod(0o666)
    done = killed("restore", "--as-left", str(killed.directory / "run"))
    assert "in-force.json cannot be used: " in done.stderr
    assert "can be written by everybody" in done.stderr
    assert killed.knob() == 0, "with the file that -c names"
    start(killed)
    killed.stop()
    assert not copy.exists()


# --- the watchdog -------------------------------------------------------------------------------------------------------------


@contextmanager
def watched(mom: Mom, seconds: float) -> Iterator[socket.socket]:
    """Socket of a supervisor with a watchdog of this many seconds."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(mom.directory / "notify"))
        mom.environment |= {"NOTIFY_SOCKET": str(mom.directory / "notify"), "WATCHDOG_USEC": str(round(seconds * 1e6))}
        yield supervisor


def longest_silence(supervisor: socket.socket, seconds: float) -> float:
    """Return the longest pause between two messages in this time."""
    last = time.monotonic()
    until, longest = last + seconds, 0.0
    while (left := until - time.monotonic()) > 0:
        supervisor.settimeout(left)
        try:
            fed = b"WATCHDOG=1" in supervisor.recv(4096).splitlines()
        except TimeoutError:
            break
        if fed:
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
    return max(longest, time.monotonic() - last)


def test_the_watchdog_is_fed_between_cycles_that_are_a_minute_apart(mom: Mom) -> None:
    mom.configure("merge: {}", interval="60s")
    with watched(mom, 8) as supervisor:
        start(mom)
        assert longest_silence(supervisor, 7) < 6
        assert NOT_WATCHED not in mom("doctor").stdout


def test_a_plugin_that_hangs_stops_neither_the_others_nor_the_watchdogs_food_nor_the_end(mom: Mom) -> None:
    mom.configure("merge: {}", "hangs: {deadline: 2s}")
    with watched(mom, 20) as supervisor:
        start(mom)
        assert longest_silence(supervisor, 5) < 4.5
        mom.wait_for(lambda: "hangs        hung" in mom("status").stdout)
        began = time.monotonic()
        mom.stop()
    assert time.monotonic() - began < 30
    assert mom.knob() == 0


def test_the_watchdog_is_not_fed_when_the_engine_hangs_and_sigabrt_says_where_it_does(mom: Mom) -> None:
    mom.configure("merge: {}", "sticks: {}")
    mom.environment["STICKS"] = str(mom.directory / "stick")
    with watched(mom, 10) as supervisor:
        process = start(mom)
        (mom.directory / "stick").touch()
        longest_silence(supervisor, 2)  # the current cycle, and earlier messages
        assert longest_silence(supervisor, 4) > 3.9, "a mom that works feeds it eight times in 10 s"
    process.send_signal(signal.SIGABRT)
    assert process.wait(60) == -signal.SIGABRT
    assert "mom_test_plugins.py" in mom.log.read_text(), "the traceback of the thread that hangs"
